"""Claims that hold for every model of this package."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness import Autoregressive, Budget, Dataset, ImageSpec, Noise, SamplingTrace, Split, Trainer, with_samplers
from harness_nade.deep_nade import DeepNADE
from harness_nade.fvsbn import FVSBN
from harness_nade.made import MADE
from harness_nade.nade import NADE

BUILD = {
    "fvsbn": lambda spec: FVSBN(spec),
    "fvsbn-one-hot": lambda spec: FVSBN(spec, inputs="one-hot"),
    "nade": lambda spec: NADE(spec, hidden=5),
    "nade-one-hot": lambda spec: NADE(spec, hidden=5, inputs="one-hot"),
    "deep-nade": lambda spec: DeepNADE(spec, hidden=(7, 6), num_orderings=2),
    "deep-nade-one-hot": lambda spec: DeepNADE(spec, hidden=(7,), inputs="one-hot"),
    "made": lambda spec: MADE(spec, hidden=(12, 10), num_masks=2, num_orderings=2, inputs="one-hot"),
    "made-direct": lambda spec: MADE(spec, hidden=(4,), direct=True),
    "made-narrow": lambda spec: MADE(spec, hidden=(3, 4, 2), num_orderings=2),
}
models = pytest.mark.parametrize("build", BUILD.values(), ids=BUILD.keys())


@models
def test_likelihood_is_the_equal_mixture_over_orderings(build, spec, every_image, randomised):
    model, images = randomised(build(spec)), every_image(spec)
    members = [
        model.conditional_logits(images, k).log_softmax(1).gather(1, images.long()[:, None]).flatten(1).sum(1).exp()
        for k in range(model.num_orderings)
    ]
    torch.testing.assert_close(model.log_prob(images).exp(), sum(members) / len(members))
    for member in members:
        torch.testing.assert_close(member.sum().item(), 1.0)


@models
def test_every_sampler_gives_the_raster_image_under_the_same_noise(build, spec, randomised):
    model = randomised(build(spec))
    noise = model.draw_noise(200)
    raster = with_samplers(model).samplers()["raster"](200, noise=noise)
    for sampler in with_samplers(model).samplers().values():
        assert torch.equal(sampler(200, noise=noise), raster)


@models
def test_every_sampler_gives_the_raster_image_around_clamped_pixels(build, spec, randomised):
    model = randomised(build(spec))
    noise = model.draw_noise(100)
    known = torch.randint(spec.levels, (100, *spec.shape), dtype=torch.uint8)
    mask = torch.rand(spec.shape) < 0.5
    raster = with_samplers(model).samplers()["raster"](100, noise=noise, known=known, mask=mask)
    assert torch.equal(raster[:, mask], known[:, mask])
    for sampler in with_samplers(model).samplers().values():
        assert torch.equal(sampler(100, noise=noise, known=known, mask=mask), raster)


@pytest.mark.parametrize("name", ["fvsbn-one-hot", "nade-one-hot", "deep-nade-one-hot", "made"])
def test_training_finds_the_distribution_that_made_the_data(name, every_image):
    spec = ImageSpec(channels=1, height=1, width=2, levels=3)
    joint = torch.tensor([[0.20, 0.05, 0.05], [0.05, 0.30, 0.05], [0.05, 0.05, 0.20]]).flatten()
    counts = (joint * 2000).round().long()  # the images have exactly these frequencies
    images = every_image(spec).repeat_interleave(counts, 0)
    split = Split(images)
    data = Dataset("pairs", spec, split, split, split)
    model: Autoregressive = BUILD[name](spec)
    model.descent = replace(model.descent, learning_rate=0.03)
    model.fit(data, Trainer(model, data, budget=Budget.parse("20 epochs")))
    torch.testing.assert_close(model.log_prob(every_image(spec)).exp(), joint, rtol=0, atol=0.01)


def test_incremental_samplers_evaluate_the_network_once_an_entry():
    spec = ImageSpec(channels=1, height=3, width=3, levels=2)
    for model in (NADE(spec, hidden=4), DeepNADE(spec, hidden=(4,))):
        trace = SamplingTrace()
        with_samplers(model).samplers()["incremental"](5, trace=trace)
        assert (trace.network_evaluations, trace.sequential_depth) == (9, 9)


def test_noise_of_one_ordering_gives_that_members_samples():
    spec = ImageSpec(channels=1, height=2, width=2, levels=2)
    model = DeepNADE(spec, hidden=(6,), num_orderings=3).double()
    noise = model.draw_noise(300)
    draw = with_samplers(model).samplers()["incremental"]
    together = draw(300, noise=noise)
    for ordering in range(3):
        rows = noise.ordering == ordering
        alone = draw(int(rows.sum()), noise=Noise(noise.gumbel[rows], noise.ordering[rows]))
        assert torch.equal(alone, together[rows])


@pytest.mark.parametrize("model", [FVSBN, NADE, DeepNADE, MADE])
def test_bad_hyperparameters_are_named(model):
    spec = ImageSpec(channels=1, height=2, width=2, levels=2)
    with pytest.raises(ValueError, match="learning_rate must be positive, not -1"):
        model(spec, learning_rate=-1)
    with pytest.raises(ValueError, match="inputs must be one of 'scaled', 'one-hot', not 'onehot'"):
        model(spec, inputs="onehot")
