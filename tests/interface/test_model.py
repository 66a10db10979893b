"""What the capability classes promise and refuse."""

from __future__ import annotations

import math

import pytest
import torch

from harness.interface.model import Autoregressive, ExactLikelihood, ImportanceWeighted, Inference, Model, Unsupported
from harness.interface.sampling import SamplingTrace
from harness.interface.spec import ImageSpec

SPEC = ImageSpec(1, 2, 2, 2)


class Coin(Model):
    """Implicit: fair coins."""

    def fit(self, data, trainer):
        pass

    def sample(self, num_samples):
        return torch.randint(2, (num_samples, *self.spec.shape), dtype=torch.uint8)


class Independent(Autoregressive):
    """Autoregressive without dependence: the logit of a one grows with the entry's number."""

    def fit(self, data, trainer):
        pass

    def conditional_logits(self, images, ordering=0):
        logits = torch.linspace(-1, 1, self.spec.num_dimensions, dtype=self.dtype).view(1, *self.spec.shape)
        return torch.stack([torch.zeros_like(logits), logits], dim=1).expand(len(images), -1, -1, -1, -1)


def test_a_model_that_lacks_a_method_fails_at_construction_by_the_methods_name():
    class Missing(Model):
        def fit(self, data, trainer):
            pass

    with pytest.raises(TypeError, match="sample"):
        Missing(SPEC)


def test_a_misspelt_capability_method_fails_at_construction_by_the_right_name():
    class Misspelt(ExactLikelihood, Coin):
        def log_probs(self, images):
            return torch.zeros(len(images))

    with pytest.raises(TypeError, match=r"abstract method '?log_prob'?$"):
        Misspelt(SPEC)


def test_the_default_sampler_draws_what_sample_draws():
    model = Coin(SPEC)
    images = []
    for sampler in (model.sample, model.samplers()["default"]):
        torch.manual_seed(0)
        images.append(sampler(50))
    assert torch.equal(*images)


@pytest.mark.parametrize("option", ["noise", "known", "mask"])
def test_the_default_sampler_refuses_what_it_cannot_honour(option):
    model = Coin(SPEC)
    value = Independent(SPEC).draw_noise(2) if option == "noise" else torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(Unsupported, match="Coin draws its own noise and cannot clamp pixels"):
        model.samplers()["default"](2, **{option: value})


def test_the_default_sampler_counts_one_evaluation():
    trace = SamplingTrace()
    Coin(SPEC).samplers()["default"](7, trace=trace)
    assert trace == SamplingTrace(network_evaluations=1, sequential_depth=1)


def test_unsupported_is_a_value_error_so_that_no_caller_mistakes_it_for_a_crash():
    assert issubclass(Unsupported, ValueError)


def test_a_model_without_parameters_knows_its_type_and_saves_nothing():
    model = Coin(SPEC)
    assert model.dtype == torch.float32
    assert model.double().dtype == torch.float64
    assert model.device == torch.device("cpu")
    assert model.state_dict() == {}


def test_the_default_generation_order_is_raster_with_the_channels_of_a_pixel_together():
    steps = Independent(ImageSpec(3, 2, 2, 2)).generation_steps()
    order = sorted((int(steps[c, y, x]), y, x, c) for c in range(3) for y in range(2) for x in range(2))
    assert [place[1:] for place in order] == [(y, x, c) for y in range(2) for x in range(2) for c in range(3)]


def test_conditional_log_probs_are_the_normalised_logits_at_the_images_values():
    model = Independent(SPEC).double()
    images = torch.tensor([[0, 1, 1, 0]], dtype=torch.uint8).view(1, 1, 2, 2)
    logits = [-1, -1 / 3, 1 / 3, 1]
    expected = [-math.log1p(math.exp(z if value == 0 else -z)) for z, value in zip(logits, [0, 1, 1, 0], strict=True)]
    got = model.conditional_log_probs(images).flatten()
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    assert model.log_prob(images).item() == pytest.approx(sum(expected), rel=1e-12)


def test_autoregressive_sample_is_its_first_sampler_under_fresh_noise():
    model = Independent(SPEC)
    torch.manual_seed(0)
    images = model.sample(40)
    torch.manual_seed(0)
    assert torch.equal(images, model.samplers()["raster"](40, noise=model.draw_noise(40)))


def test_a_faster_sampler_put_in_front_is_what_sample_uses():
    class Fast(Independent):
        def samplers(self):
            def ones(num_samples, *, noise=None, known=None, mask=None, trace=None):
                return torch.ones(num_samples, *self.spec.shape, dtype=torch.uint8)

            return {"fast": ones, **super().samplers()}

    assert list(Fast(SPEC).samplers()) == ["fast", "raster"]
    assert Fast(SPEC).sample(3).sum() == 12


def test_noise_has_the_models_precision():
    assert Independent(SPEC).double().draw_noise(2).gumbel.dtype == torch.float64
    assert Independent(SPEC).draw_noise(2).gumbel.dtype == torch.float32


def test_elbo_is_one_importance_weight_an_image():
    class Weighted(ImportanceWeighted, Coin):
        def log_importance_weights(self, images, num_samples):
            return torch.arange(num_samples)[:, None] + 10.0 * torch.arange(len(images))

    assert Weighted(SPEC).elbo(torch.zeros(3, 1, 2, 2, dtype=torch.uint8)).tolist() == [0.0, 10.0, 20.0]


def test_an_encoder_that_does_not_say_its_latent_sizes_is_named():
    class Encoder(Inference, Coin):
        def encode(self, images):
            return images.flatten(1).double()

        def decode(self, latents):
            return latents.view(-1, *self.spec.shape)

    with pytest.raises(NotImplementedError, match="Encoder does not say its latent_sizes"):
        _ = Encoder(SPEC).latent_sizes
