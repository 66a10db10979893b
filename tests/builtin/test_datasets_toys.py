"""Densities of the plane: their tables are what the formulas say, and their draws follow the tables."""

import functools
import math

import pytest
import torch
from scipy import integrate, stats

from harness import ImageSpec
from harness.builtin.datasets import toys
from harness.builtin.datasets.toys import GridDensity

NAMES = ("two-moons", "eight-gaussians", "twenty-five-gaussians", "swiss-roll", "checkerboard")
SMALL = GridDensity(torch.tensor([[0.1, 0.0, 0.2], [0.0, 0.3, 0.0], [0.15, 0.25, 0.0]], dtype=torch.float64))


@functools.cache
def load(name):
    return getattr(toys, name.replace("-", "_"))(None)


@pytest.fixture(params=NAMES)
def data(request):
    return load(request.param)


def test_the_images_have_one_row_of_two_entries(data):
    assert data.spec == ImageSpec(channels=1, height=1, width=2, levels=256)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [20_000, 2_000, 5_000]


def test_the_test_images_score_the_entropy_within_their_error(data):
    nll = -data.log_prob(data.test.images)
    assert abs(nll.mean().item() - data.entropy) < 4 * nll.std().item() / len(nll) ** 0.5 + 1e-12


def test_draws_follow_the_table(data):
    blocks = data.distribution.probabilities.view(16, 16, 16, 16).sum((1, 3)).flatten()
    entries = data.train.images.flatten(1).long() // 16
    counts = torch.bincount(entries[:, 0] * 16 + entries[:, 1], minlength=256).double()
    common = blocks * len(entries) >= 5
    expected = torch.cat([blocks[common], blocks[~common].sum()[None]]) * len(entries)
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    keep = expected > 0
    assert observed[~keep].sum() == 0
    assert stats.chisquare(observed[keep].numpy(), expected[keep].numpy(), sum_check=False).pvalue > 1e-3


def test_almost_nothing_is_beyond_the_square(data):
    if data.name != "checkerboard":
        table = data.distribution.probabilities
        assert (table[0] + table[-1] + table[:, 0] + table[:, -1]).sum() < 1e-6


def test_a_cell_of_the_eight_gaussians_has_what_scipy_says():
    table = load("eight-gaussians").distribution.probabilities
    for i, j in [(128, 201), (180, 180), (128, 128), (250, 130)]:
        found = 0.0
        for k in range(8):
            sides = zip((i, j), (4 * math.cos(k * math.pi / 4), 4 * math.sin(k * math.pi / 4)), strict=True)
            ends = [[(-7 + 14 * (n + step) / 256 - centre) / 0.5 for step in (0, 1)] for n, centre in sides]
            found += math.prod(stats.norm.sf(low) - stats.norm.sf(high) for low, high in ends) / 8
        assert table[i, j].item() == pytest.approx(found, rel=1e-6)  # less than that is beyond the square


@pytest.mark.parametrize(
    ("name", "half", "noise", "start", "end", "curve"),
    [
        ("two-moons", 2, 0.1, 0, math.pi, lambda t: (math.cos(t) - 0.5, math.sin(t) - 0.25)),
        ("swiss-roll", 20, 1, 1.5 * math.pi, 4.5 * math.pi, lambda t: (t * math.cos(t), t * math.sin(t))),
    ],
)
def test_a_cell_near_a_curve_has_its_integral(name, half, noise, start, end, curve):
    table, share = load(name).distribution.probabilities, 0.5 if name == "two-moons" else 1.0
    for t in (start + 0.1 * (end - start), start + 0.5 * (end - start)):
        cell = [math.floor((value + half) / half * 128) for value in curve(t)]
        ends = [(-half + 2 * half * n / 256, -half + 2 * half * (n + 1) / 256) for n in cell]

        def mass(t, ends=ends):
            sides = zip(ends, curve(t), strict=True)
            return math.prod(
                stats.norm.cdf(high, at, noise) - stats.norm.cdf(low, at, noise) for (low, high), at in sides
            )

        found = share * integrate.quad(mass, start, end, points=[t], limit=200)[0] / (end - start)
        assert table[cell[0], cell[1]].item() == pytest.approx(found, rel=1e-5)


def test_the_moons_are_alike_when_the_plane_is_turned_by_half():
    table = load("two-moons").distribution.probabilities
    assert (table - table.flip(0, 1)).abs().max() < 1e-15


def test_the_checkerboard_has_half_the_cells_and_one_bit_less_than_uniform():
    data = load("checkerboard")
    assert data.entropy == pytest.approx(15 * math.log(2), rel=1e-14)
    nine = torch.tensor([[[[0, 0]]], [[[0, 64]]], [[[64, 64]]], [[[255, 191]]]], dtype=torch.uint8)
    assert data.log_prob(nine).isinf().tolist() == [False, True, False, True]


def test_a_table_is_scored_and_drawn_from_by_its_indices():
    images = torch.cartesian_prod(torch.arange(3), torch.arange(3)).to(torch.uint8).view(9, 1, 1, 2)
    assert torch.equal(SMALL.log_prob(images).exp().view(3, 3), SMALL.probabilities.log().exp())
    drawn = SMALL.sample(40_000, torch.Generator().manual_seed(0)).flatten(1).long()
    counts = torch.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9).double()
    assert counts[SMALL.probabilities.flatten() == 0].sum() == 0
    assert (counts / 40_000 - SMALL.probabilities.flatten()).abs().max() < 0.01


@pytest.mark.parametrize(
    ("table", "message"), [(torch.ones(2, 3) / 6, r"not \(2, 3\)"), (torch.ones(2, 2), "sum to one, not to 4")]
)
def test_what_is_no_table_of_probabilities_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        GridDensity(table)


def test_the_content_of_the_sets_is_the_published_one():
    assert {name: load(name).digest()[:16] for name in NAMES} == {
        "two-moons": "c04a8af9e60161cf",
        "eight-gaussians": "7b577f2fcd8255c6",
        "twenty-five-gaussians": "183216bc2d981894",
        "swiss-roll": "8241c61b3d9107f4",
        "checkerboard": "6fd1940d9118f71a",
    }
