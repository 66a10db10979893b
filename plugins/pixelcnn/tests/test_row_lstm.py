"""Row LSTM: what a pixel sees, a reference written pixel by pixel, samplers; and the recurrence's gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from harness import ImageSpec, SamplingTrace, with_samplers
from harness_pixelcnn.recurrence import recurrence, rows_schedule
from harness_pixelcnn.row_lstm import RowLSTM

COLOUR = ImageSpec(3, 2, 2, 2)
WIDER = {
    "binary": ImageSpec(1, 5, 6, 2),
    "colour": ImageSpec(3, 3, 4, 4),
    "a row": ImageSpec(1, 1, 4, 3),
    "a column": ImageSpec(3, 4, 1, 2),
}


def small(spec, layers=2):
    return RowLSTM(spec, channels=7, layers=layers, head=5)


def reference(model, images):
    """The outputs (N, C * O, H, W), by the paper's equations at one pixel after another."""
    size = model.layers[0].size
    x = model.first(images.double() * 2 / (model.spec.levels - 1) - 1)
    height, width = x.shape[2:]
    for layer in model.layers:
        zero = x.new_zeros(len(x), size)
        states, cells = {}, {}
        result = x.clone()
        kernel, up = layer.input.masked_weight()[:, :, 0], layer.up.masked_weight()[:, :, 0, 0]
        for row in range(height):
            for column in range(width):
                gates = layer.input.bias + x[:, :, row, column] @ kernel[..., 1].T
                if column:
                    gates = gates + x[:, :, row, column - 1] @ kernel[..., 0].T
                for tap, aside in enumerate((0, -1, 1)):
                    gates = gates + states.get((row - 1, column + aside), zero) @ layer.state_weight[0, tap].T
                out, forget, into, candidate = gates.chunk(4, dim=1)
                carried = forget.sigmoid() * cells.get((row - 1, column), zero)
                cells[row, column] = carried + into.sigmoid() * candidate.tanh()
                states[row, column] = out.sigmoid() * cells[row, column].tanh()
                result[:, :, row, column] += states[row, column] @ up.T + layer.up.bias
        x = result
    return model.output(model.hidden(x.relu()).relu())


@pytest.mark.parametrize("spec", WIDER.values(), ids=WIDER)
def test_the_network_is_the_one_of_the_paper_written_pixel_by_pixel(spec, randomised):
    model = randomised(small(spec))
    images = torch.randint(spec.levels, (4, *spec.shape), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(model.outputs(images), reference(model, images), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(3, 3), (3, 1), (1, 3)])
def test_the_gradient_of_the_recurrence_is_that_of_finite_differences(height, width):
    pre = torch.randn(1, 8, height * width, 1, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 3, 8, 2, dtype=torch.float64, requires_grad=True)
    schedule = rows_schedule(height, width)
    assert torch.autograd.gradcheck(lambda a, b: recurrence(a, b, schedule), (pre, weight))


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


def test_the_receptive_field_is_a_triangle_above_the_pixel(past):
    spec = ImageSpec(1, 6, 28, 2)
    model = small(spec, layers=1)
    field = model.dependence()[5 * 28 + 14].view(6, 28)
    for row in range(5):
        columns = field[row].nonzero().flatten()
        # the first kernel reaches 3 columns aside; each row further up adds one
        assert columns.max() == 14 + 3 + (4 - row)
        assert field[row, columns.min() : columns.max()].all()


def test_of_its_own_pixel_a_channel_sees_the_earlier_ones(randomised, seen):
    model = RowLSTM(ImageSpec(3, 2, 2, 2), channels=12, layers=2, head=24)
    table = torch.stack([seen(randomised(model)) for _ in range(3)]).any(0).view(3, 4, 3, 4)
    for pixel in range(4):
        assert torch.equal(table[:, pixel, :, pixel], torch.ones(3, 3, dtype=torch.bool).tril(-1))


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


def test_a_row_of_the_recurrence_reads_the_row_above_by_a_kernel_of_three():
    weight = torch.randn(1, 3, 4, 1, dtype=torch.float64)
    pre = torch.randn(1, 4, 10, 2, dtype=torch.float64)
    hidden = recurrence(pre, weight, rows_schedule(2, 5)).view(5 * 2, 2)
    row = F.pad(hidden[:5].T.unsqueeze(1), (1, 1))  # (N, 1, W + 2)
    kernel = weight[0, [1, 0, 2], :, 0].T.unsqueeze(1)  # above left, above, above right
    out, forget, into, candidate = (F.conv1d(row, kernel) + pre[0, :, 5:].permute(2, 0, 1)).sigmoid().unbind(1)
    first = pre[0, :, :5].sigmoid()
    above = (first[2] * (2 * first[3] - 1)).T
    expected = out * (forget * above + into * (2 * candidate - 1)).tanh()
    torch.testing.assert_close(hidden[5:].T, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"channels": 0}, "channels must be positive, not 0"),
        ({"layers": 0}, "layers must be positive, not 0"),
        ({"head": 0}, "head must be positive, not 0"),
        ({"channels": 1}, "2 features cannot be split into 3 groups"),
    ],
)
def test_a_wrong_hyperparameter_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        RowLSTM(ImageSpec(3, 3, 3, 2), **given)
