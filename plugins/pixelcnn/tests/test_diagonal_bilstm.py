"""Diagonal BiLSTM: what a pixel sees, a reference written pixel by pixel, samplers."""

from __future__ import annotations

import pytest
import torch

from harness import ImageSpec, SamplingTrace, with_samplers
from harness_pixelcnn.diagonal_bilstm import DiagonalBiLSTM
from harness_pixelcnn.recurrence import diagonal_order, diagonals_schedule, recurrence

COLOUR = ImageSpec(3, 2, 2, 2)
WIDER = {
    "binary": ImageSpec(1, 5, 6, 2),
    "colour": ImageSpec(3, 3, 4, 4),
    "a row": ImageSpec(1, 1, 4, 3),
    "a column": ImageSpec(3, 4, 1, 2),
}


def small(spec, layers=2):
    return DiagonalBiLSTM(spec, channels=7, layers=layers, head=5)


def corner(inputs, weight, aside):
    """The states of an LSTM that reads the state ``aside`` columns away and the one above; {(row, column): (N, P)}."""
    _, _, height, width = inputs.shape
    zero = inputs.new_zeros(len(inputs), weight.shape[-1])
    states, cells = {}, {}
    for row in range(height):
        for column in range(width) if aside < 0 else reversed(range(width)):
            beside = (row, column + aside)
            gates = inputs[:, :, row, column] + states.get(beside, zero) @ weight[0].T
            gates = gates + states.get((row - 1, column), zero) @ weight[1].T
            out, forget, into, candidate = gates.chunk(4, dim=1)
            cell = forget.sigmoid() * cells.get(beside, zero) + into.sigmoid() * candidate.tanh()
            cells[row, column], states[row, column] = cell, out.sigmoid() * cell.tanh()
    return states


def reference(model, images):
    """The outputs (N, C * O, H, W), by the paper's equations at one pixel after another."""
    scaled = images.double() * 2 / (model.spec.levels - 1) - 1
    x = model.first(scaled)
    for layer in model.layers:
        left = corner(layer.input(x), layer.state_weight[0], -1)
        seen = torch.cat([x, scaled], dim=1).permute(0, 2, 3, 1)
        right = corner(layer.from_right(seen).permute(0, 3, 1, 2), layer.state_weight[1], 1)
        result = x.clone()
        for (row, column), state in left.items():
            both = state + right[row - 1, column] if row else state  # shifted down by one row
            result[:, :, row, column] += both @ layer.up.masked_weight()[:, :, 0, 0].T + layer.up.bias
        x = result
    return model.output(model.hidden(x.relu()).relu())


@pytest.mark.parametrize("spec", WIDER.values(), ids=WIDER)
def test_the_network_is_the_one_of_the_paper_written_pixel_by_pixel(spec, randomised):
    model = randomised(small(spec))
    images = torch.randint(spec.levels, (4, *spec.shape), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(model.outputs(images), reference(model, images), rtol=1e-10, atol=1e-12)


def test_the_gradients_of_all_weights_are_those_of_the_reference(randomised):
    spec = ImageSpec(3, 3, 4, 2)
    model = randomised(small(spec))
    images = torch.randint(2, (3, *spec.shape), dtype=torch.uint8)
    towards = torch.randn(3, *spec.shape, dtype=torch.float64)
    parameters = list(model.parameters())
    ours = torch.autograd.grad((model.outputs(images) * towards).sum(), parameters)
    theirs = torch.autograd.grad((reference(model, images) * towards).sum(), parameters)
    for name, (got, expected) in zip(dict(model.named_parameters()), zip(ours, theirs, strict=True), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize(("height", "width"), [(2, 3), (3, 2), (3, 1), (1, 3)])
def test_the_gradient_of_the_recurrence_is_that_of_finite_differences(height, width):
    pre = torch.randn(2, 8, height * width, 1, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 8, 2, dtype=torch.float64, requires_grad=True)
    schedule = diagonals_schedule(height, width)
    assert torch.autograd.gradcheck(lambda a, b: recurrence(a, b, schedule), (pre, weight))


@pytest.mark.parametrize(("height", "width"), [(3, 5), (5, 3), (4, 4), (1, 3), (3, 1)])
def test_the_taps_of_a_diagonal_are_the_pixels_left_and_above(height, width):
    place = diagonal_order(height, width).tolist()
    found = {"left": [], "above": []}
    for step in diagonals_schedule(height, width):
        for name, tap in zip(found, step.taps, strict=True):
            if tap is not None:
                sources = range(tap.source.start, tap.source.stop)
                cells = range(tap.into.start, tap.into.stop)
                found[name] += [(place[cell], place[source]) for cell, source in zip(cells, sources, strict=True)]
    size = range(height * width)
    assert sorted(found["left"]) == [(pixel, pixel - 1) for pixel in size if pixel % width]
    assert sorted(found["above"]) == [(pixel, pixel - width) for pixel in size if pixel >= width]


@pytest.mark.parametrize(
    "spec", [ImageSpec(1, 3, 10, 2), ImageSpec(1, 6, 3, 2), ImageSpec(3, 3, 5, 2)], ids=["wide", "high", "colour"]
)
def test_every_conditional_sees_its_whole_past_by_a_single_layer_and_nothing_else(spec, randomised, seen, past):
    model = DiagonalBiLSTM(spec, channels=12, layers=1, head=24)
    assert model.dependence() is None
    measured = torch.stack([seen(randomised(model)) for _ in range(3)]).any(0)
    assert torch.equal(measured, past(spec))


def test_without_the_image_in_the_states_from_the_right_the_last_pixel_of_the_row_above_is_unseen(randomised, seen):
    spec = ImageSpec(1, 2, 10, 2)
    model = randomised(small(spec, layers=2))
    assert seen(model).view(2, 10, 2, 10)[1, 0, 0, 9]
    with torch.no_grad():
        for layer in model.layers:
            layer.from_right.weight[:, -1] = 0
    assert not seen(model).view(2, 10, 2, 10)[1, 0, 0, 9]


@pytest.mark.parametrize("name", ["cached", "fixed-point"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("spec", WIDER.values(), ids=WIDER)
def test_a_sampler_draws_the_images_of_the_raster_sampler(name, layers, spec, randomised):
    model = randomised(small(spec, layers))
    noise = model.draw_noise(8)
    known = torch.randint(spec.levels, (8, *spec.shape), dtype=torch.uint8)
    mask = torch.rand(1, 1, *spec.shape[1:]) < 0.4
    samplers = with_samplers(model).samplers()
    assert torch.equal(samplers[name](8, noise=noise), samplers["raster"](8, noise=noise))
    clamped = samplers[name](8, noise=noise, known=known, mask=mask)
    assert torch.equal(clamped, samplers["raster"](8, noise=noise, known=known, mask=mask))
    assert torch.equal(clamped[mask.expand_as(known)], known[mask.expand_as(known)])


def test_the_cached_sampler_evaluates_an_entry_once_and_is_the_default(randomised):
    model = randomised(small(COLOUR))
    trace = SamplingTrace()
    assert next(iter(with_samplers(model).samplers())) == "cached"
    with_samplers(model).samplers()["cached"](3, trace=trace)
    assert trace == SamplingTrace(network_evaluations=12, sequential_depth=12)
