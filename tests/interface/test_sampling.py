"""Noise, clamping and the raster sampler, on autoregressive models that are tables of conditionals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from harness.interface.model import Autoregressive
from harness.interface.sampling import Noise, SamplingTrace, clamp_known, raster_sample
from harness.interface.spec import ImageSpec

SPEC = ImageSpec(1, 2, 2, 2)
COLOUR = ImageSpec(2, 1, 2, 3)
RASTER = ([0], [1], [2], [3])
TWO_ORDERINGS = (RASTER, ([3], [1, 2], [0]))  # the second draws two entries at once


class Table(Autoregressive):
    """Conditionals looked up in random tables: entry e given the values of all entries of earlier steps."""

    def __init__(self, spec, *, orderings=(RASTER,), seed=0):
        super().__init__(spec)
        self.orderings, self.num_orderings = orderings, len(orderings)
        generator = torch.Generator().manual_seed(seed)
        shape = (len(orderings), spec.num_dimensions, spec.levels**spec.num_dimensions, spec.levels)
        self.register_buffer("table", torch.randn(shape, generator=generator, dtype=torch.float64))

    def conditional_logits(self, images, ordering=0):
        values, levels = images.flatten(1).long(), self.spec.levels
        logits = torch.empty(len(images), levels, self.spec.num_dimensions, dtype=torch.float64)
        past = torch.zeros(len(images), dtype=torch.int64)
        for step in self.orderings[ordering]:
            for entry in step:
                logits[:, :, entry] = self.table[ordering, entry, past]
            for entry in step:
                past = past + values[:, entry] * levels**entry
        return logits.view(len(images), levels, *self.spec.shape)

    def generation_steps(self, ordering=0):
        steps = torch.empty(self.spec.num_dimensions, dtype=torch.int64)
        for number, step in enumerate(self.orderings[ordering]):
            steps[step] = number
        return steps.view(self.spec.shape)

    def fit(self, data, trainer):
        raise NotImplementedError

    def brute_force(self, image, ordering):
        """p(image) under one ordering, by products of table look-ups."""
        probability, past = 1.0, 0
        for step in self.orderings[ordering]:
            for entry in step:
                probability *= self.table[ordering, entry, past].softmax(0)[image[entry]].item()
            past += sum(image[entry] * self.spec.levels**entry for entry in step)
        return probability


def all_values(spec):
    return list(itertools.product(range(spec.levels), repeat=spec.num_dimensions))


def as_images(values, spec):
    return torch.tensor(values, dtype=torch.uint8).view(-1, *spec.shape)


def frequencies(images, spec):
    place = spec.levels ** torch.arange(spec.num_dimensions - 1, -1, -1)
    codes = images.flatten(1).long() @ place
    return torch.bincount(codes, minlength=spec.levels**spec.num_dimensions).double().numpy()


def chi_square(observed, probabilities):
    assert observed[probabilities == 0].sum() == 0
    possible = probabilities > 0
    return stats.chisquare(observed[possible], probabilities[possible] * observed.sum()).pvalue


def draw(model, num_samples, *, seed=0, **options):
    torch.manual_seed(seed)
    model.double()
    return raster_sample(
        model.conditional_logits, model.generation_steps, model.spec, model.draw_noise(num_samples), **options
    )


@pytest.mark.parametrize(
    "model",
    [Table(SPEC), Table(COLOUR), Table(SPEC, orderings=([[3], [0], [1, 2]],)), Table(SPEC, orderings=TWO_ORDERINGS)],
    ids=["raster", "colour", "permuted", "two orderings"],
)
def test_raster_samples_have_the_enumerated_frequencies(model):
    orderings = range(model.num_orderings)
    expected = [np.mean([model.brute_force(x, k) for k in orderings]) for x in all_values(model.spec)]
    assert sum(expected) == pytest.approx(1, abs=1e-12)
    assert chi_square(frequencies(draw(model, 30_000), model.spec), np.array(expected)) > 1e-3


def test_each_image_follows_the_ordering_that_its_noise_names():
    model = Table(SPEC, orderings=TWO_ORDERINGS).double()
    torch.manual_seed(1)
    noise = model.draw_noise(40_000)
    images = raster_sample(model.conditional_logits, model.generation_steps, SPEC, noise)
    for ordering in range(2):
        expected = np.array([model.brute_force(x, ordering) for x in all_values(SPEC)])
        assert chi_square(frequencies(images[noise.ordering == ordering], SPEC), expected) > 1e-3


def test_orderings_are_drawn_equally_often():
    torch.manual_seed(2)
    ordering = Noise.draw(30_000, SPEC, num_orderings=3).ordering
    assert stats.chisquare(torch.bincount(ordering).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_noise_is_standard_gumbel(dtype):
    torch.manual_seed(3)
    gumbel = Noise.draw(2000, SPEC, dtype=dtype).gumbel
    assert gumbel.dtype == dtype
    assert gumbel.shape == (2000, 2, 1, 2, 2)
    assert stats.kstest(gumbel.flatten().double().numpy(), "gumbel_r").pvalue > 1e-3


def test_the_same_noise_gives_the_same_images_whatever_the_global_generator():
    model = Table(SPEC, orderings=TWO_ORDERINGS).double()
    noise = model.draw_noise(200)
    images = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        images.append(raster_sample(model.conditional_logits, model.generation_steps, SPEC, noise))
    assert torch.equal(*images)


def test_an_image_depends_on_its_own_noise_alone():
    model = Table(SPEC, orderings=TWO_ORDERINGS).double()
    noise = model.draw_noise(200)
    index = torch.randperm(200)[:50]
    part = Noise(noise.gumbel[index], noise.ordering[index])
    whole = raster_sample(model.conditional_logits, model.generation_steps, SPEC, noise)
    alone = raster_sample(model.conditional_logits, model.generation_steps, SPEC, part)
    assert torch.equal(alone, whole[index])


def test_no_noise_gives_no_images():
    assert draw(Table(SPEC), 0).shape == (0, 1, 2, 2)


def test_known_pixels_are_kept_wherever_they_are():
    model = Table(SPEC, orderings=TWO_ORDERINGS)
    known = torch.randint(2, (500, 1, 2, 2), dtype=torch.uint8)
    mask = torch.rand(500, 1, 2, 2) < 0.5
    images = draw(model, 500, known=known, mask=mask)
    assert torch.equal(images[mask], known[mask])


def test_pixels_after_the_known_ones_follow_the_conditional_distribution():
    model = Table(SPEC)
    mask = torch.tensor([[True, True], [False, False]])  # raster order: the first row comes first
    for given in itertools.product(range(2), repeat=2):
        known = torch.tensor([*given, 0, 0], dtype=torch.uint8).view(1, 1, 2, 2).expand(20_000, 1, 2, 2)
        joint = np.array([model.brute_force(x, 0) if x[:2] == given else 0.0 for x in all_values(SPEC)])
        images = draw(model, 20_000, known=known, mask=mask)
        assert chi_square(frequencies(images, SPEC), joint / joint.sum()) > 1e-3


def test_unmasked_values_of_known_are_never_seen():
    model, mask = Table(SPEC), torch.tensor([[True, False], [False, False]])
    images = [draw(model, 300, known=torch.full((300, 1, 2, 2), v, dtype=torch.uint8), mask=mask) for v in (0, 1)]
    zeros = torch.zeros(300, 1, 2, 2, dtype=torch.uint8)
    other = zeros.clone()
    other[:, :, 1] = 1
    assert torch.equal(draw(model, 300, known=zeros, mask=mask), draw(model, 300, known=other, mask=mask))
    assert not torch.equal(*images)


@pytest.mark.parametrize(
    ("orderings", "evaluations"), [((RASTER,), 4), (([[0, 1, 2, 3]],), 1), (TWO_ORDERINGS, 7)], ids=str
)
def test_trace_counts_an_evaluation_a_generation_step(orderings, evaluations):
    trace = SamplingTrace()
    draw(Table(SPEC, orderings=orderings), 100, trace=trace)
    assert trace == SamplingTrace(network_evaluations=evaluations, sequential_depth=evaluations)


def test_clamping_needs_both_known_pixels_and_a_mask():
    images = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="known pixels need a mask"):
        clamp_known(images, images, None)
    with pytest.raises(ValueError, match="a mask needs known pixels"):
        clamp_known(images, None, torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="known pixels need a mask"):
        draw(Table(SPEC), 1, known=images)


def test_clamping_nothing_returns_the_images():
    images = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    assert clamp_known(images, None, None) is images


def test_mixture_log_prob_is_the_log_of_the_mean_over_orderings():
    model = Table(SPEC, orderings=(*TWO_ORDERINGS, ([2], [0, 3], [1]))).double()
    expected = [math.log(np.mean([model.brute_force(x, k) for k in range(3)])) for x in all_values(SPEC)]
    np.testing.assert_allclose(model.log_prob(as_images(all_values(SPEC), SPEC)).numpy(), expected, rtol=1e-12)
