"""DRAW's windows against the paper's sums, and weights of both DRAWs against integrals over all latents."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import harness
from harness_vae.attention import Attention, WholeReader, Window, filterbank
from harness_vae.conv_draw import ConvDRAW
from harness_vae.draw import DRAW
from harness_vae.recurrent import lstm

BINARY = harness.ImageSpec(1, 2, 2, 2)
COLOUR = harness.ImageSpec(2, 1, 1, 3)


def all_images(spec):
    values = itertools.product(range(spec.levels), repeat=spec.num_dimensions)
    return torch.tensor(list(values), dtype=torch.uint8).view(-1, *spec.shape)


def filters_by_hand(centre, stride, deviation, size, length):
    rows = []
    for i in range(1, size + 1):
        mean = centre + (i - size / 2 - 0.5) * stride
        row = [math.exp(-((a - mean) ** 2) / (2 * deviation**2)) for a in range(1, length + 1)]
        rows.append([value / sum(row) for value in row])
    return torch.tensor(rows, dtype=torch.float64)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_filters_are_the_papers():
    found = filterbank(double(2.3), double(1.7), double(2 * math.log(0.8)), size=3, length=6)
    torch.testing.assert_close(found[0], filters_by_hand(2.3, 1.7, 0.8, size=3, length=6))


def test_filters_of_a_window_that_has_left_the_image_still_sum_to_one():
    found = filterbank(double(1e4), double(1.0), double(-10.0), size=4, length=28)
    torch.testing.assert_close(found.sum(-1), torch.ones(1, 4, dtype=torch.float64))


def window_of(height, width, size, place):
    attention = Attention(1, size=size, height=height, width=width).double()
    with torch.no_grad():
        attention.place.weight.zero_()
        attention.place.bias.copy_(double(*place))
    return attention(torch.zeros(1, 1, dtype=torch.float64))


def test_a_window_reads_and_writes_as_the_papers_products_do():
    height, width, size = 4, 5, 3
    window = window_of(height, width, size, (0.2, -0.3, math.log(0.5), math.log(0.6), math.log(1.5)))
    stride = (width - 1) / (size - 1) * 0.6  # of the longer side
    across, down = (width + 1) / 2 * 1.2, (height + 1) / 2 * 0.7
    f_x = filters_by_hand(across, stride, math.sqrt(0.5), size, width)
    f_y = filters_by_hand(down, stride, math.sqrt(0.5), size, height)
    images, patches = torch.randn(1, 2, height, width).double(), torch.randn(1, 2, size, size).double()
    read = window.read(images.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(read, 1.5 * f_y @ images @ f_x.T)
    written = window.write(patches.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(written, f_y.T @ patches @ f_x / 1.5)


def test_sharp_filters_on_all_pixels_write_what_they_read():
    window = window_of(4, 4, 4, (0, 0, -9.0, 0, 0.7))
    images = torch.randn(2, 4, 1, 4).double()
    torch.testing.assert_close(Window(*vars(window).values()).write(window.read(images)), images)


def test_what_the_image_gives_is_computed_once_and_is_what_reading_both_parts_gives():
    reader = WholeReader(7, BINARY).double()
    images, visible = torch.rand(3, 1, 2, 2).double(), torch.rand(3, 1, 2, 2).double()
    by_hand = reader.image(images.flatten(1)) + reader.error((images - visible).flatten(1))
    torch.testing.assert_close(reader(reader.features(images), visible, torch.empty(3, 0)), by_hand)


def with_random_weights(cls, spec, **hyperparameters):
    torch.manual_seed(1)
    model = cls(spec, glimpses=2, latents=1, **hyperparameters).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.1 if "attention" in name else 0.5)
        model.posterior.bias.view(2, -1)[1] += 0.5  # wider than the prior: weights of finite variance
    return model


def log_integral(model, images):
    """log p(x) of every image by a sum over a grid of the two latents, (N,)."""
    nodes = torch.linspace(-9, 9, 61, dtype=torch.float64)
    grid = torch.cartesian_prod(nodes, nodes)
    log_prior = model.log_prior(grid) + 2 * (nodes[1] - nodes[0]).log()
    return torch.stack([
        (log_prior + model.log_likelihood(image.expand(len(grid), *image.shape), grid)).logsumexp(0) for image in images
    ])  # fmt: skip


MODELS = {
    "attention": (DRAW, {"units": 3, "read_size": 2, "write_size": 2}),
    "without": (DRAW, {"units": 3, "attention": False}),
    "convolutional": (ConvDRAW, {"units": 2, "scale": 2}),
}


@pytest.mark.parametrize("spec", [BINARY, COLOUR], ids=["binary", "two channels"])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_mean_weight_of_an_image_is_the_integral_over_all_latents(name, spec):
    cls, hyperparameters = MODELS[name]
    model, images = with_random_weights(cls, spec, **hyperparameters), all_images(spec)
    exact = log_integral(model, images)
    assert exact.exp().sum().item() == pytest.approx(1, abs=1e-6)
    ratios = (model.log_importance_weights(images[::5], 2000) - exact[::5]).exp()
    errors = (ratios.mean(0) - 1) / (ratios.std(0) / math.sqrt(len(ratios)))
    assert errors.abs().max() < 4.5


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_draws_of_the_posterior_have_the_weights_that_are_averaged(name):
    cls, hyperparameters = MODELS[name]
    model, images = with_random_weights(cls, BINARY, **hyperparameters), all_images(BINARY)
    torch.manual_seed(2)
    latents, log_q = model.draw_posterior(images)
    torch.manual_seed(2)
    weights = model.log_importance_weights(images, 1)[0]
    torch.testing.assert_close(model.log_prior(latents) + model.log_likelihood(images, latents) - log_q, weights)


def test_an_untrained_canvas_has_the_frequencies_of_the_training_images():
    images = all_images(BINARY)[8:]  # the first pixel is white in all of them
    model = DRAW(BINARY, glimpses=1, latents=1, units=2)
    model.start_from(images)
    torch.testing.assert_close(
        model.visible(model.empty_canvas(1))[0, 0], torch.tensor([[0.9, 0.5], [0.5, 0.5]]), atol=1e-6, rtol=0
    )


def test_convolutions_read_the_image_once_for_both_parts_and_beyond_the_edge_nothing():
    model = ConvDRAW(harness.ImageSpec(1, 3, 5, 2), units=2, scale=2).double()
    images = torch.randint(0, 2, (3, 1, 3, 5), dtype=torch.uint8)
    blank, unseen = model.blank(3), model.unseen(3)
    _, found = model.look(unseen, blank, model.features(images))
    both = torch.cat([images.double(), images.double() - model.visible(blank[-1])], dim=1)
    gates = model.image(torch.nn.functional.pad(both, (0, 1, 0, 1)))
    hidden, _ = lstm(gates + model.encoder(torch.cat([unseen[0], blank[0]], dim=1)), unseen[1])
    torch.testing.assert_close(found.mean, model.posterior(hidden)[:, :4].flatten(1))
    assert model.paint(blank, found.mean)[-1].shape == (3, 1, 3, 5)


def test_the_prior_of_a_turn_is_moved_by_the_latents_before_it():
    model = with_random_weights(ConvDRAW, BINARY, units=2, scale=2)
    first, second = (model.prior(model.paint(model.blank(1), torch.full((1, 1), z).double())).mean for z in (-1.0, 1.0))
    assert (first - second).abs().item() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_as_many_images_are_drawn_as_are_asked_for(name, monkeypatch):
    cls, hyperparameters = MODELS[name]
    monkeypatch.setattr(cls, "block_rows", 2)
    model = with_random_weights(cls, BINARY, **hyperparameters)
    assert [tuple(model.sample(count).shape) for count in (0, 3, 4)] == [(0, 1, 2, 2), (3, 1, 2, 2), (4, 1, 2, 2)]
