"""ais and bdmc-gap on a linear-Gaussian model of rounded pixels, whose log-probabilities a sum over a grid gives."""

import math

import pytest
import torch

from harness import Dataset, Evaluation, ImageSpec, Inference, LatentVariable, MetricEntry, Split, Unsupported
from harness.builtin.metrics import register_metrics
from harness.builtin.metrics.ais import AIS, BDMCGap, log_mean_exp
from harness.builtin.metrics.annealing import anneal, joint_of, temperatures
from harness.builtin.metrics.joint import draw_joint
from harness.builtin.metrics.likelihood import IWAE

SPEC = ImageSpec(1, 2, 2, levels=8)
BINARY = ImageSpec(1, 2, 2, levels=2)


class LinearGaussian(LatentVariable, Inference):
    """z ~ N(0, I), x = 3.5 + Wz + noise, rounded and clamped to 0, ..., 7. q is the posterior without the rounding."""

    def __init__(self, spec):
        super().__init__(spec)
        self.double()
        self.W = torch.randn(4, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        self.s, self.drawn = 0.7, torch.empty(0)
        self.covariance = (torch.eye(2, dtype=torch.float64) + self.W.T @ self.W / self.s**2).inverse()

    latent_sizes = (2,)

    def log_prior(self, latents):
        return -0.5 * (latents.square() + math.log(2 * math.pi)).sum(1)

    def log_likelihood(self, images, latents):
        x = images.flatten(1).double()
        low = (x - 0.5 - self.decode(latents).flatten(1)) / self.s
        low, high = torch.where(x == 0, -1e3, low), torch.where(x == 7, 1e3, low + 1 / self.s)
        turned = low + high > 0  # where the tail is to the right, its mirror image is as likely
        low, high = torch.where(turned, -high, low), torch.where(turned, -low, high)
        smaller, larger = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
        return (larger + torch.log1p(-(smaller - larger).exp())).sum(1)

    def log_importance_weights(self, images, num_samples):
        images = images.repeat(num_samples, 1, 1, 1)
        latents, log_q = self.draw_posterior(images)
        return (self.log_prior(latents) + self.log_likelihood(images, latents) - log_q).view(num_samples, -1)

    def draw_posterior(self, images):
        q = torch.distributions.MultivariateNormal(self.encode(images), self.covariance)
        latents = q.sample()
        return latents, q.log_prob(latents)

    def encode(self, images):
        return (images.flatten(1).double() - 3.5) @ self.W @ self.covariance / self.s**2

    def decode(self, latents):
        return (3.5 + latents @ self.W.T).view(-1, *self.spec.shape)

    def draw_joint(self, num_samples):
        latents = torch.randn(num_samples, 2, dtype=torch.float64)
        noise = self.s * torch.randn(num_samples, *self.spec.shape, dtype=torch.float64)
        self.drawn = (self.decode(latents) + noise).round().clamp(0, 7).to(torch.uint8)
        return self.drawn, latents

    def sample(self, num_samples):
        return self.draw_joint(num_samples)[0]

    def fit(self, data, trainer): ...


class Bits(LinearGaussian):
    """Pixels of two levels, with the probabilities that decode gives; it does not say how to draw from the joint."""

    def log_likelihood(self, images, latents):
        means = self.decode(latents).flatten(1)
        return torch.where(images.flatten(1) > 0, means, 1 - means).log().sum(1)

    def decode(self, latents):
        return (latents @ self.W.T).sigmoid().view(-1, *self.spec.shape)

    def draw_joint(self, num_samples):
        return LatentVariable.draw_joint(self, num_samples)


def log_prob(model, images):
    """(N,) nats: the sum over a grid of latents, whose error is far below what is tested."""
    axis = torch.linspace(-6, 6, 61, dtype=torch.float64)
    grid, cell = torch.cartesian_prod(axis, axis), 2 * math.log(float(axis[1] - axis[0]))
    prior = model.log_prior(grid) + cell
    return torch.stack(
        [(prior + model.log_likelihood(x.expand(len(grid), 1, 2, 2), grid)).logsumexp(0) for x in images]
    )


def evaluation(model, count=24, **options):
    torch.manual_seed(1)
    images = Split(model.sample(count))
    return Evaluation(model, Dataset("toy", model.spec, images, images, images), **options)


@pytest.fixture(scope="module")
def measured():
    """A model, an evaluation, and its exact negative log-likelihoods."""
    model = LinearGaussian(SPEC)
    it = evaluation(model)
    return model, it, -log_prob(model, it.split.images)


def test_the_probabilities_of_the_test_model_add_up_to_one():
    images = torch.cartesian_prod(*[torch.arange(8)] * 4).to(torch.uint8).view(-1, 1, 2, 2)
    latents = torch.tensor([[0.3, -1.2]], dtype=torch.float64).expand(len(images), 2)
    assert LinearGaussian(SPEC).log_likelihood(images, latents).logsumexp(0).item() == pytest.approx(0, abs=1e-12)


def test_iwae_and_ais_converge_to_the_exact_log_probability(measured):
    _, it, exact = measured
    assert IWAE(num_samples=200).evaluate(it).value == pytest.approx(exact.mean().item(), abs=0.03)
    score = AIS(steps=40, chains=8, leapfrogs=3).evaluate(it)
    torch.testing.assert_close(score.per_image, exact, rtol=0, atol=0.5)
    assert score.value == pytest.approx(exact.mean().item(), abs=0.05)
    assert score.details["log_weight_variance"] < 0.5
    assert score.kind == "upper bound"


def test_few_steps_give_a_looser_bound(measured):
    _, it, exact = measured
    score = AIS(steps=3, chains=2, leapfrogs=2).evaluate(it)
    assert score.value > exact.mean() + 0.3
    assert score.details["log_weight_variance"] > 1


def test_the_two_sides_enclose_the_exact_log_probability():
    model = LinearGaussian(SPEC)
    score = BDMCGap(steps=20, chains=8, leapfrogs=3, num_images=16).evaluate(evaluation(model))
    exact = log_prob(model, model.drawn).mean().item()
    assert score.details["lower_log_prob"] < exact < score.details["upper_log_prob"]
    assert score.value == pytest.approx(score.details["upper_log_prob"] - score.details["lower_log_prob"])
    assert 0 < score.value < 0.5


def test_weights_are_unbiased_forwards_and_their_inverses_backwards(measured):
    model, it, exact = measured
    image, chains = it.split.images[:1], 4000
    sizes = torch.full((2, 1), 0.4, dtype=torch.float64)
    for latents, backwards in (
        (torch.randn(chains, 1, 2).double(), False),
        (posterior_draws(model, image, chains), True),
    ):
        joint = joint_of(model, image)
        weights = anneal(joint, latents, 3, 3, step_sizes=sizes, backwards=backwards).log_weights[:, 0] + exact[0]
        found = (-weights if backwards else weights).exp()
        assert found.mean().item() == pytest.approx(1, abs=4 * found.std().item() / math.sqrt(chains))


def posterior_draws(model, image, count):
    """Draws (count, 1, D) of p(z | image): by resampling importance samples, many for each."""
    torch.manual_seed(3)
    many = image.repeat(20 * count, 1, 1, 1)
    latents, log_q = model.draw_posterior(many)
    weights = (model.log_prior(latents) + model.log_likelihood(many, latents) - log_q).softmax(0)
    return latents[torch.multinomial(weights, count, replacement=True)].unsqueeze(1)


def test_step_sizes_that_are_given_stay_as_they_are(measured):
    model, it, _ = measured
    joint, start = joint_of(model, it.split.images[:3]), torch.randn(2, 3, 2).double()
    adapted = anneal(joint, start, 9, 2).step_sizes
    assert adapted.shape == (8, 3)
    assert (adapted[-1] != adapted[0]).all()
    for backwards in (False, True):
        assert torch.equal(anneal(joint, start, 9, 2, step_sizes=adapted, backwards=backwards).step_sizes, adapted)


def test_temperatures_go_from_exactly_nought_to_exactly_one():
    path = temperatures(10)
    assert (path[0], path[-1]) == (0, 1)
    assert (path.diff() > 0).all()
    assert path[1] < 0.04  # slow at the ends


def test_chains_are_averaged_inside_the_logarithm():
    weights = torch.tensor([[0.0, 1.0], [math.log(3), 1.0]])
    torch.testing.assert_close(log_mean_exp(weights), torch.tensor([math.log(2), 1.0]))


def test_a_figure_of_few_images_is_that_of_all_within_its_error(measured):
    _, it, exact = measured
    few = AIS(steps=40, chains=8, leapfrogs=4, num_images=8).evaluate(it)
    assert few.per_image is None
    assert few.protocol["annealed images"] == "8"
    assert abs(few.value - exact.mean().item()) < 4 * few.details["error_of_choice"] + 0.1
    assert few.details["error_of_choice"] < exact.std().item() / math.sqrt(8)


def test_a_figure_is_the_same_in_inference_mode_and_leaves_the_model_alone(measured):
    model, it, _ = measured
    metric = AIS(steps=3, chains=2, leapfrogs=2)
    plain = metric.evaluate(it)
    with torch.inference_mode():
        again = metric.evaluate(it)
        gap = BDMCGap(steps=3, chains=2, leapfrogs=2, num_images=4).evaluate(it)
    assert again.value == plain.value
    assert math.isfinite(gap.value)
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_a_model_of_bits_is_drawn_from_by_its_prior_and_its_means():
    model = Bits(BINARY)
    torch.manual_seed(0)
    images, latents = draw_joint(model, 500)
    torch.testing.assert_close(images.double().mean(0), model.decode(latents).mean(0), rtol=0, atol=0.08)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"log_prior": lambda latents: -latents.abs().sum(1)}, r"its prior is not N\(0, I\)"),
        ({"log_likelihood": lambda images, latents: latents.sum(1)}, "pixels are not independent"),
        ({"spec": SPEC}, "nor are its pixels binary"),
    ],
)
def test_a_joint_that_nothing_tells_how_to_draw_from_is_unsupported(changed, says):
    model = Bits(BINARY)
    for name, value in changed.items():
        setattr(model, name, value)
    with pytest.raises(Unsupported, match=says):
        draw_joint(model, 20)


def test_a_density_without_a_gradient_is_unsupported(measured):
    _, it, _ = measured
    model = LinearGaussian(SPEC)
    model.log_likelihood = torch.no_grad()(model.log_likelihood)
    model.log_prior = torch.no_grad()(model.log_prior)
    with pytest.raises(Unsupported, match="has no gradient"):
        AIS(steps=3, chains=2).evaluate(Evaluation(model, it.data))


def entry(name) -> MetricEntry:
    return next(entry for entry in register_metrics() if entry.name == name)


@pytest.mark.parametrize("name", ["ais-1000-c8-l5-n100", "ais-30", "bdmc-gap-200-n50", "bdmc-gap-9-l3"])
def test_the_name_carries_the_protocol(name):
    found = entry("ais" if name.startswith("ais") else "bdmc-gap")
    assert found.load()(**found.match(name)).name == name


@pytest.mark.parametrize("name", ["ais", "ais-0", "ais-10-n0", "ais-10-l5-c8", "bdmc-gap"])
def test_other_names_are_not_of_the_family(name):
    assert entry("ais").match(name) is None
    assert entry("bdmc-gap").match(name) is None


@pytest.mark.parametrize(
    ("settings", "says"), [({"steps": 1}, "from 2 to"), ({"steps": 9, "num_images": 1}, "2 images")]
)
def test_settings_out_of_range_are_an_error(settings, says):
    with pytest.raises(ValueError, match=says):
        AIS(**settings)
