"""Right models of kinds that were once failed: each group is one cause of false alarms, and passes on every seed."""

import math

import pytest
import torch
from kinds.flows_noise import ExponentialPrior, UniformPrior
from museum.autoregressive import MADE
from museum.common import at_most, categorical_draw, centred, log_normal, pick
from museum.flows import Affine, Coupling, Logit, Permutation, RealNVP
from museum.latent import IWAE, VAE, BoundOnly, LatentBits
from museum.mixtures import DiscretizedLogistic, Mixture
from torch import nn
from torch.nn import functional as F

import harness
from harness import ImageSpec, audit
from harness.auditing.checks.flows import noise_in_cells
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen


def only(*sizes):
    """Makes of a model's class one that takes some sample spaces alone, so that its audit is quick."""

    def make(model):
        def construct(spec):
            if (spec.channels, spec.height, spec.width, spec.levels) not in sizes:
                raise harness.Unsupported(f"{sizes} alone")
            return model(spec)

        return construct

    return make


EVERY_SEED = pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in (1, 2))])


def failures(model, *checks, seed=0, sizes=((1, 2, 2, 4),)):
    subject = harness.Subject(model.__name__, only(*sizes)(model))
    report = audit(subject, seed=seed, only=checks or None)
    return [f"{result.check}: {result.meaning}, {result.failures}" for result in report.failed]


# --- values that cannot occur ---


class UnusedLevel(MADE):
    """Its last level has probability zero: a token that is never used."""

    def conditional_logits(self, images, ordering=0):
        logits = super().conditional_logits(images, ordering).clone()
        logits[:, -1] = -math.inf
        return logits

    def fit(self, data, trainer):
        raise harness.Unsupported("data have that level")


class NeverDarker(MADE):
    """An entry is at least as bright as the one before it: which values are impossible depends on the past."""

    def conditional_logits(self, images, ordering=0):
        before = torch.cat([torch.zeros(len(images), 1, dtype=torch.uint8), images.flatten(1)[:, :-1]], 1)
        levels = torch.arange(self.spec.levels).view(1, -1, 1, 1, 1)
        impossible = levels < before.view(len(images), 1, *self.spec.shape)
        return super().conditional_logits(images, ordering).masked_fill(impossible, -math.inf)

    def fit(self, data, trainer):
        raise harness.Unsupported("data are darker")


class EvenImages(harness.ExactLikelihood):
    """A table of the images whose sum is even; the others have probability zero."""

    def __init__(self, spec):
        super().__init__(spec)
        at_most(spec, 16)
        self.energies = nn.Parameter(torch.randn(spec.levels**spec.num_dimensions))

    def table(self):
        powers = self.spec.levels ** torch.arange(self.spec.num_dimensions)
        values = torch.arange(len(self.energies))[:, None] // powers % self.spec.levels
        return self.energies.masked_fill(values.sum(1) % 2 == 1, -math.inf).log_softmax(0)

    def log_prob(self, images):
        powers = self.spec.levels ** torch.arange(self.spec.num_dimensions)
        return self.table()[(images.flatten(1).long() * powers).sum(1)]

    def sample(self, num_samples):
        index = categorical_draw(self.table().detach().expand(num_samples, -1))
        powers = self.spec.levels ** torch.arange(self.spec.num_dimensions)
        return (index[:, None] // powers % self.spec.levels).view(-1, *self.spec.shape).to(torch.uint8)

    def fit(self, data, trainer):
        raise harness.Unsupported("data are odd, too")


class UnusedLevelVAE(IWAE):
    """A VAE whose decoder never draws the last level."""

    def logits(self, latents):
        logits = super().logits(latents).clone()
        logits[:, -1] = -math.inf
        return logits

    def fit(self, data, trainer):
        raise harness.Unsupported("data have that level")


@pytest.mark.parametrize("model", [UnusedLevel, NeverDarker, EvenImages, UnusedLevelVAE])
def test_values_that_cannot_occur_are_neither_nan_nor_a_leak(model):
    assert failures(model) == []


# --- noise whose inverse density has no variance ---


class LogitNormalNoise(RealNVP):
    """Variational dequantization: the sigmoid of a learned Gaussian (Ho et al. 2019, arXiv 1902.00275)."""

    def __init__(self, spec):
        super().__init__(spec)
        self.noise = nn.Linear(spec.num_dimensions, 2 * spec.num_dimensions)
        nn.init.zeros_(self.noise.weight)

    def squash(self, base):
        """Maps the reals to (0, 1) and the log-derivative."""
        return torch.sigmoid(base), -F.softplus(base) - F.softplus(-base)

    def dequantize(self, images):
        mean, log_std = self.noise(centred(images, self.spec, self.dtype)).chunk(2, 1)
        base = mean + log_std.exp() * torch.randn_like(mean)
        noise, log_det = self.squash(base)
        log_q = log_normal(base, mean, log_std) - log_det
        return images.to(self.dtype) + noise.view(images.shape), log_q.sum(1)


class ProbitNoise(LogitNormalNoise):
    """A Gaussian through a Gaussian's distribution function: 1/q has no variance where it is narrow."""

    def squash(self, base):
        return torch.special.ndtr(base).clamp(1e-15, 1 - 1e-15), log_normal(base)


class BetaNoise(RealNVP):
    """Noise of a Beta distribution, (3, 2): its density is zero at both ends of the cell."""

    concentration = (3.0, 2.0)

    def dequantize(self, images):
        one, other = (torch.tensor(value, dtype=self.dtype) for value in self.concentration)
        beta = torch.distributions.Beta(one, other)
        noise = beta.sample(images.shape).clamp(1e-12, 1 - 1e-12)
        return images.to(self.dtype) + noise, beta.log_prob(noise).flatten(1).sum(1)


class ModalBetaNoise(BetaNoise):
    """Noise that lies at the ends of the cell: a narrow proposal in its middle is one of its tails."""

    concentration = (0.2, 0.2)


class WrongNoise(LogitNormalNoise):
    """Leaves the sigmoid's derivative out."""

    def squash(self, base):
        return torch.sigmoid(base), torch.zeros_like(base)


class NarrowNoise(LogitNormalNoise):
    """Draws noise that is a tenth narrower than its density says."""

    def dequantize(self, images):
        mean, log_std = self.noise(centred(images, self.spec, self.dtype)).chunk(2, 1)
        base = mean + 0.9 * log_std.exp() * torch.randn_like(mean)
        noise, log_det = self.squash(base)
        log_q = log_normal(base, mean, log_std) - log_det
        return images.to(self.dtype) + noise.view(images.shape), log_q.sum(1)


class TwoPeaks(RealNVP):
    """A prior of two narrow peaks in every latent: a narrower Gaussian between them is where it has no draws."""

    def log_prior(self, latents):
        two = torch.stack([log_normal(latents, mean, math.log(0.3)) for mean in (-3.0, 3.0)])
        return (two.logsumexp(0) - math.log(2)).sum(1)

    def sample_prior(self, num_samples):
        size = (num_samples, self.spec.num_dimensions)
        return 6.0 * torch.randint(2, size) - 3 + 0.3 * torch.randn(size, dtype=self.dtype)


@pytest.mark.parametrize("model", [LogitNormalNoise, ProbitNoise, BetaNoise, ModalBetaNoise])
@EVERY_SEED
def test_noise_whose_inverse_density_has_no_variance_passes(model, seed):
    assert failures(model, "log-determinant", "normalisation", seed=seed) == []


def test_a_prior_that_no_narrower_gaussian_fits_passes():
    assert failures(TwoPeaks, "prior") == []


@pytest.mark.parametrize("model", [UniformPrior, ExponentialPrior])
def test_a_prior_that_ends_where_its_density_does_not_vanish_passes(model):
    assert failures(model, "prior") == []


@pytest.mark.parametrize("model", [WrongNoise, NarrowNoise])
def test_noise_of_another_density_fails(model):
    [failure] = failures(model, "log-determinant")
    assert "log q of the dequantization noise is not the density" in failure


# --- weights that no training reaches ---


class Unbounded(Coupling):
    """Scales by exp(s) of an s that nothing bounds, as it was published."""

    def parts(self, given):
        shift, log_scale = self.network(given).chunk(2, 1)
        return shift, 8 * log_scale


class UnboundedFlow(RealNVP):
    """Six such couplings: under large weights, latents overflow."""

    def make_layers(self, size):
        layers = [layer for _ in range(6) for layer in (Unbounded(size), Permutation(size))]
        return [Logit(self.spec.levels), *layers, Affine(size)]


class ClippedScale(DiscretizedLogistic):
    """Its scales are parameters themselves, which start at one, and which its fit would keep positive."""

    def __init__(self, spec):
        super().__init__(spec)
        self.scales = nn.Parameter(torch.ones_like(self.log_scales))
        del self.log_scales

    @property
    def log_scales(self):
        return self.scales.log()

    def fit(self, data, trainer):
        raise harness.Unsupported("it is fitted elsewhere")


class Probabilities(harness.ExactLikelihood):
    """Independent binary entries, whose probabilities are parameters themselves, kept in their range by projection."""

    def __init__(self, spec):
        super().__init__(spec)
        self.probs = nn.Parameter(torch.full(spec.shape, 0.5))

    def log_prob(self, images):
        return torch.where(images == 1, self.probs, 1 - self.probs).log().flatten(1).sum(1)

    def sample(self, num_samples):
        return (torch.rand(num_samples, *self.spec.shape, dtype=self.dtype) < self.probs).to(torch.uint8)

    @torch.no_grad()
    def project_(self):
        self.probs.clamp_(0.01, 0.99)

    def fit(self, data, trainer):
        raise harness.Unsupported("it is fitted elsewhere")


class NanWhenDrawn(MADE):
    """Is not a number once its weights are drawn: what it is then, no training shows."""

    wrong = staticmethod(lambda model: float(model.direct.detach().abs().sum()) > 1.0)

    def conditional_logits(self, images, ordering=0):
        return super().conditional_logits(images, ordering) * (math.nan if self.wrong(self) else 1.0)

    def fit(self, data, trainer):
        raise harness.Unsupported("it is fitted elsewhere")


class NanAtFirst(NanWhenDrawn):
    """Is not a number as it is constructed."""

    wrong = staticmethod(lambda model: float(model.direct.detach().abs().sum()) == 0.0)


class NanAfterFit(NanWhenDrawn):
    """Its own fit leads it to what is not a number."""

    def fit(self, data, trainer):
        with torch.no_grad():
            self.direct.fill_(1.0)


def test_noise_on_the_highest_of_256_levels_stays_in_its_cell():
    spec = ImageSpec(channels=1, height=1, width=2, levels=256)
    specimen = Specimen(RealNVP(spec), spec, "initial", seed=0)
    white = torch.full((4, *spec.shape), 255, dtype=torch.uint8)
    outside = next(noise_in_cells(specimen, white, white + 0.5))
    assert outside.statistic == 0


class SaturatedLogit(RealNVP):
    """Its latents are so narrow that most are mapped to where the logistic function is flat."""

    def transform(self, x):
        latents, log_det = super().transform(x)
        return latents / 30, log_det - latents.shape[1] * math.log(30)

    def inverse(self, latents):
        return super().inverse(30 * latents)


def test_digits_that_a_saturated_logit_loses_are_rounding(quick_audits):
    assert failures(SaturatedLogit, "inverse") == []


@pytest.mark.parametrize("model", [UnboundedFlow, ClippedScale])
@EVERY_SEED
def test_weights_that_no_training_reaches_fail_no_right_model(model, seed, quick_audits):
    assert failures(model, seed=seed) == []


def test_weights_under_which_nothing_can_be_computed_are_drawn_again_on_a_smaller_scale():
    laboratory = Laboratory(harness.Subject("unbounded", UnboundedFlow))
    for state in ("random", "strong"):
        assert laboratory.specimen(ImageSpec(1, 2, 2, 4), state).condition < 1e-2


class LastLayerForgotten(UnboundedFlow):
    """Its last scales are not counted, which its own weights, all zero, do not show."""

    def transform(self, x):
        latents, log_det = super().transform(x)
        return latents, log_det - self.layers[-1].log_scale.sum()


def test_a_defect_behind_unbounded_scales_is_seen():
    assert "Jacobian" in str(failures(LastLayerForgotten, "log-determinant"))


class SineOfLarge(Mixture):
    """Adds a large number's sine."""

    def log_prob(self, images):
        return super().log_prob(images) + (1e9 * self.shares.sum()).sin()


def test_what_rounding_of_the_weights_does_is_measured_and_leaves_them_as_they_were():
    spec = ImageSpec(1, 2, 2, 4)
    found = {}
    for model in (Mixture, SineOfLarge):
        specimen = Laboratory(harness.Subject("mine", model)).specimen(spec, "random")
        before = [value.clone() for value in specimen.model.parameters()]
        found[model] = specimen.condition
        assert all(map(torch.equal, before, specimen.model.parameters()))
    assert found[Mixture] < 1e-12
    assert 1e-8 < found[SineOfLarge] < 1e-3


def test_a_model_projects_drawn_weights_into_the_range_that_its_fit_keeps():
    assert failures(Probabilities, sizes=((1, 3, 3, 2),)) == []


def test_numbers_that_are_not_finite_under_drawn_weights_are_a_note():
    subject = harness.Subject("nan", only((1, 2, 2, 4))(NanWhenDrawn))
    report = audit(subject, only=["contract", "normalisation"])
    assert report.standing == "passed"
    assert any("random weights: not decided" in note for note in report.result("normalisation").notes)


@pytest.mark.parametrize(("model", "check"), [(NanAtFirst, "contract"), (NanAfterFit, "normalisation")])
def test_numbers_that_are_not_finite_at_first_or_after_the_fit_fail(model, check):
    assert "NaN" in str(failures(model, check))


# --- computations that go through float32 ---


class UpcastLogits(MADE):
    """Casts its logits to float32 before the softmax, as models do that run in half precision."""

    def conditional_logits(self, images, ordering=0):
        return super().conditional_logits(images).float()


class SingleConstants(MADE):
    """Adds the logarithms of frequencies, a buffer that was normalised in float32, to what it draws from."""

    def __init__(self, spec):
        super().__init__(spec)
        shares = 1 / (torch.arange(8) + 1.7)
        self.register_buffer("shares", (shares / shares.sum()).log())

    def conditional_logits(self, images, ordering=0):
        shifts = torch.linspace(-1, 1, 8, dtype=self.dtype)
        each = torch.stack(
            [(super(SingleConstants, self).conditional_logits(images) * a).log_softmax(1) for a in shifts]
        )
        return (each + self.shares.view(-1, 1, 1, 1, 1, 1)).logsumexp(0)

    def conditional_log_probs(self, images, ordering=0):
        return pick(self.conditional_logits(images), images)


class SingleErf(DiscretizedLogistic):
    """Gaussian bins, by an error function in single precision, which are normalised by nothing but their ends."""

    def log_joint(self, images):
        steps = torch.arange(1, self.spec.levels).view(-1, 1, 1, 1, 1) - 0.5
        below = torch.special.ndtr(((steps - self.means) / self.log_scales.exp()).float()).to(self.dtype)
        edges = torch.cat([torch.zeros_like(below[:1]), below, torch.ones_like(below[:1])])
        table = (edges[1:] - edges[:-1]).float().log().to(self.dtype).clamp_min(-1e4).transpose(0, 1)
        per_entry = torch.stack([pick(part.expand(len(images), *part.shape), images) for part in table], 1)
        return self.shares.log_softmax(0) + per_entry.flatten(2).sum(2)

    def sample(self, num_samples):
        component = categorical_draw(self.shares.detach().expand(num_samples, -1))
        noise = torch.randn(num_samples, *self.spec.shape, dtype=self.dtype)
        value = self.means.detach()[component] + self.log_scales.detach().exp()[component] * noise
        return value.round().clamp(0, self.spec.levels - 1).to(torch.uint8)


class Leaky(UpcastLogits):
    """The same, and a thousandth too sure of every entry."""

    def conditional_log_probs(self, images, ordering=0):
        return super().conditional_log_probs(images) + 1e-3


@pytest.mark.parametrize("model", [UpcastLogits, SingleConstants, SingleErf])
def test_a_tolerance_is_that_of_the_coarsest_precision_gone_through(model):
    assert failures(model, "contract", "normalisation", "conditionals", "dependence", "neighbours", "sampling") == []


def test_a_defect_larger_than_float32_rounds_is_seen_in_a_model_that_goes_through_it():
    assert len(failures(Leaky, "normalisation", "conditionals")) == 2


# --- noise that the images of a call share ---


class SharedNoise(VAE):
    """Draws one noise for all images of a call, K of them: an image that is repeated in it is no new draw."""

    def draw_latents(self, mean, log_std, num_samples):
        return mean + log_std.exp() * torch.randn(num_samples, 1, mean.shape[1], dtype=mean.dtype)


class SharedFirstLatent(VAE):
    """Shares the noise of the first latent alone."""

    def draw_latents(self, mean, log_std, num_samples):
        noise = torch.randn(num_samples, *mean.shape, dtype=mean.dtype)
        noise[:, :, 0] = noise[:, :1, 0]
        return mean + log_std.exp() * noise


class SharedByTheFirstHalf(VAE):
    """Draws one noise for the first half of a call, and one for each other image."""

    def draw_latents(self, mean, log_std, num_samples):
        noise = torch.randn(num_samples, *mean.shape, dtype=mean.dtype)
        noise[:, : len(mean) // 2] = noise[:, :1]
        return mean + log_std.exp() * noise


class SharedNoiseIWAE(IWAE):
    """Has its own elbo, whose draws are shared as well."""

    draw_latents = SharedNoise.draw_latents


class SharedNoiseBound(BoundOnly):
    """Offers a bound alone."""

    def __init__(self, spec):
        super().__init__(spec)
        self.vae = SharedNoiseIWAE(spec)


class SharedDequantization(RealNVP):
    """Dequantizes all images of a call alike."""

    def dequantize(self, images):
        noise = torch.rand(1, *images.shape[1:], dtype=self.dtype).expand(images.shape)
        return images.to(self.dtype) + noise, torch.zeros(len(images), dtype=self.dtype)


SHARING = [SharedByTheFirstHalf, SharedNoiseBound]
SHARING += [
    pytest.param(model, marks=pytest.mark.thorough) for model in (SharedNoise, SharedFirstLatent, SharedNoiseIWAE)
]


@pytest.mark.parametrize("model", SHARING)
@EVERY_SEED
def test_images_of_a_call_may_share_their_noise(model, seed):
    assert failures(model, "normalisation", "sampling", "bounds", "known-entropy", seed=seed) == []


def test_the_noise_of_dequantization_may_be_shared():
    assert failures(SharedDequantization, "log-determinant") == []


class TooHighWithSharedNoise(SharedNoise):
    """Adds a fifth to its weights."""

    def log_importance_weights(self, images, num_samples):
        return super().log_importance_weights(images, num_samples) + math.log(1.2)


def test_shared_noise_hides_no_weights_that_are_too_large():
    assert failures(TooHighWithSharedNoise, "normalisation") != []


# --- buffers that are made when they are first needed ---


class Caches(VAE):
    """Keeps a table that it makes when it is first used."""

    persistent = False

    def logits(self, latents):
        if not hasattr(self, "table"):
            self.register_buffer("table", torch.ones(3), persistent=self.persistent)
        return super().logits(latents)


class CachesInState(Caches):
    """The same as a persistent buffer, which a new model does not have."""

    persistent = True


def test_a_cache_that_is_not_saved_may_be_made_late():
    assert failures(Caches, "contract", "unchanged", "checkpoint") == []


def test_a_saved_buffer_that_is_made_late_fails_and_is_told_so():
    [found] = failures(CachesInState, "contract", "unchanged", "checkpoint")
    assert "'table'" in found
    assert "has to be there when a model is constructed" in found


# --- latents that are no vectors of Gaussians ---


class SquashedLatents(VAE):
    """Latents in (0, 1): a uniform prior without a look at its range, and a logistic-normal posterior."""

    def draw_latents(self, mean, log_std, num_samples):
        return super().draw_latents(mean, log_std, num_samples).sigmoid()

    def log_posterior(self, latents, mean, log_std):
        jacobian = (latents.log() + torch.log1p(-latents)).sum(-1)
        return super().log_posterior(torch.logit(latents), mean, log_std) - jacobian

    def log_prior(self, latents):
        return torch.zeros_like(latents).sum(-1)

    def draw_prior(self, num_samples):
        return torch.rand(num_samples, self.latents, dtype=self.dtype)


class MisscoredBits(LatentBits):
    """Divides by the density of a temperature of two, and draws at one."""

    def log_density(self, log_q):
        return (log_q / 2).log_softmax(1)


@pytest.mark.parametrize("model", [LatentBits, SquashedLatents])
@EVERY_SEED
def test_discrete_and_bounded_latents_pass(model, seed):
    assert failures(model, "joint", "posterior", seed=seed) == []


def test_discrete_latents_of_another_density_fail():
    assert len(failures(MisscoredBits, "joint", "posterior")) == 2


class Silent(VAE):
    """Its weights call other functions than the joint density, and the number of its latents is found by trying."""

    def log_importance_weights(self, images, num_samples):
        mean, log_std = self.posterior(images)
        latents = self.draw_latents(mean, log_std, num_samples)
        table = self.logits(latents.flatten(0, 1)).log_softmax(1)
        flat = pick(table, images.repeat(num_samples, 1, 1, 1)).flatten(1).sum(1)
        return flat.view(num_samples, -1) + log_normal(latents).sum(-1) - self.log_posterior(latents, mean, log_std)


def test_weights_that_do_not_show_their_latents_are_a_note():
    report = audit(harness.Subject("silent", only((1, 2, 2, 4))(Silent)), only=["joint", "posterior"])
    assert report.result("joint").verdict == "pass"
    assert "draw_posterior" in report.result("joint").notes[0]
    assert report.result("posterior").verdict == "not applicable"


# --- what is the model's own business ---


class Unstable(DiscretizedLogistic):
    """Its training diverges on a toy."""

    def fit(self, data, trainer):
        raise harness.Diverged("the loss is inf near step 1")


class OtherName(IWAE):
    """Its argument has a name of its own."""

    def log_importance_weights(self, images, k):
        return super().log_importance_weights(images, k)


def test_a_training_that_diverges_is_a_note_of_every_check_that_needs_it():
    construct = only((1, 2, 2, 4))(Unstable)
    report = audit(harness.Subject("unstable", construct), only=["contract", "known-entropy", "sampling"])
    assert report.failed == ()
    for check in ("contract", "known-entropy", "sampling"):
        assert any("not decided after a fit: the loss is inf" in note for note in report.result(check).notes)


def test_an_argument_may_have_another_name(quick_audits):
    assert failures(OtherName) == []
