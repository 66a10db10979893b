"""Datasets of known entropy: their log p is a distribution, their draws follow it, their entropy is its."""

import math

import pytest
import torch
from scipy import stats

from harness import ImageSpec
from harness.auditing.subject import all_images, index_of
from harness.builtin.datasets import known, register_datasets
from harness.builtin.datasets.known import (
    Ising,
    KnownDataset,
    MarkovTree,
    NoisyTemplates,
    OneSet,
    TreeField,
    spanning_tree,
)

SMALL = {
    "ising": Ising(ImageSpec(1, 4, 3, 2), coupling=0.5, field=0.2),
    "ising, 3 levels": Ising(ImageSpec(1, 3, 2, 3), coupling=0.9, field=-0.3),
    "ising, one row": Ising(ImageSpec(1, 1, 6, 2), coupling=0.7),
    "ising, one column": Ising(ImageSpec(1, 6, 1, 2), coupling=0.7),
    "tree": TreeField(ImageSpec(1, 3, 4, 2)),
    "tree, 3 levels": TreeField(ImageSpec(1, 3, 2, 3), seed=4),
    "templates": NoisyTemplates(ImageSpec(1, 3, 3, 2), num_templates=3, flip=0.15),
    "templates, 2 channels": NoisyTemplates(ImageSpec(2, 2, 2, 2), num_templates=5, flip=0.3),
    "one set": OneSet(ImageSpec(1, 2, 2, 2)),
}
NAMES = ["ising-8x8", "templates-8x8", "tree-8x8", "tree-8x8-4-levels"]
small = pytest.mark.parametrize("distribution", SMALL.values(), ids=SMALL)


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module", params=NAMES)
def data(request):
    [entry] = [entry for entry in register_datasets() if entry.name == request.param]
    return entry.load()(None)


@small
def test_probabilities_sum_to_one(distribution):
    log_probs = distribution.log_prob(all_images(distribution.spec))
    assert log_probs.dtype == torch.float64
    assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-12)


@small
def test_the_entropy_is_that_of_the_enumeration(distribution):
    log_probs = distribution.log_prob(all_images(distribution.spec))
    if distribution.entropy is None:
        assert isinstance(distribution, NoisyTemplates)
    else:
        assert distribution.entropy == pytest.approx(torch.special.entr(log_probs.exp()).sum().item(), abs=1e-12)


@small
def test_samples_follow_the_probabilities(distribution):
    number = 40_000
    probabilities = distribution.log_prob(all_images(distribution.spec)).exp()
    images = distribution.sample(number, generator(0))
    assert images.dtype == torch.uint8
    counts = torch.bincount(index_of(images, distribution.spec), minlength=len(probabilities)).double()
    common = probabilities * number >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    expected = torch.cat([probabilities[common], probabilities[~common].sum()[None]]) * number
    keep = expected > 0
    assert stats.chisquare(observed[keep].numpy(), expected[keep].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("name", ["ising", "ising, 3 levels", "ising, one row", "ising, one column"])
def test_the_transfer_matrix_agrees_with_brute_force(name):
    ising = SMALL[name]
    spec = ising.spec
    energies = []
    for image in all_images(spec)[:, 0].tolist():
        v = [[2 * x / (spec.levels - 1) - 1 for x in row] for row in image]
        energy = ising.field * sum(map(sum, v))
        for i in range(spec.height):
            for j in range(spec.width):
                energy += ising.coupling * v[i][j] * v[i][j + 1] if j + 1 < spec.width else 0
                energy += ising.coupling * v[i][j] * v[i + 1][j] if i + 1 < spec.height else 0
        energies.append(energy)
    energies = torch.tensor(energies, dtype=torch.float64)
    log_partition = energies.logsumexp(0)
    torch.testing.assert_close(ising.log_prob(all_images(spec)), energies - log_partition, rtol=0, atol=1e-12)


def test_without_coupling_ising_entries_are_independent_coins():
    ising = Ising(ImageSpec(1, 8, 8, 2), coupling=0.0, field=0.3)
    p = 1 / (1 + math.exp(-0.6))
    assert ising.entropy == pytest.approx(64 * -(p * math.log(p) + (1 - p) * math.log(1 - p)), rel=1e-12)


def test_a_chain_of_eight_spins_has_the_partition_function_of_ising():
    coupling = 0.83
    ising = Ising(ImageSpec(1, 1, 8, 2), coupling=coupling)
    log_partition = 7 * coupling - ising.log_prob(torch.ones(1, 1, 1, 8, dtype=torch.uint8)).item()  # all are equal
    assert log_partition == pytest.approx(math.log(2 * (2 * math.cosh(coupling)) ** 7), rel=1e-13)


def test_templates_are_flipped_bit_by_bit():
    templates = SMALL["templates"]
    image = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
    total = 0.0
    for template in templates.templates.tolist():
        total += math.prod(0.15 if bit else 0.85 for bit in template) / 3
    assert templates.log_prob(image).exp().item() == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (3, 4), (8, 8)])
def test_a_spanning_tree_reaches_every_entry_once_from_a_neighbour(height, width):
    order, parents = spanning_tree(height, width, generator(3))
    assert sorted(order) == list(range(height * width))
    for place, parent in enumerate(parents, start=1):
        assert parent < place
        (i, j), (k, n) = divmod(order[place], width), divmod(order[parent], width)
        assert abs(i - k) + abs(j - n) == 1


def test_a_transition_that_never_happens_adds_nothing_to_the_entropy():
    sure = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]], dtype=torch.float64)
    tree = MarkovTree(torch.tensor([0.5, 0.5], dtype=torch.float64).log(), sure[None], [0])
    assert tree.entropy == pytest.approx(math.log(2))
    assert tree.sample(100, generator(0)).diff(dim=1).abs().max() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ising(ImageSpec(3, 2, 2, 2), coupling=0.1), "one channel, not 3"),
        (lambda: Ising(ImageSpec(1, 2, 28, 2), coupling=0.1), "rows of 28 entries"),
        (lambda: TreeField(ImageSpec(3, 2, 2, 2)), "one channel, not 3"),
        (lambda: NoisyTemplates(ImageSpec(1, 2, 2, 3)), "no 3 levels"),
        (lambda: NoisyTemplates(ImageSpec(1, 2, 2, 2), flip=0.0), "between 0 and 1, not 0.0"),
        (lambda: MarkovTree(torch.zeros(2), torch.zeros(1, 2, 2), [1]), "the parent of site 1"),
        (lambda: MarkovTree(torch.zeros(2), torch.zeros(2, 2, 2), [0]), r"must be \(1, 2, 2\), not \(2, 2, 2\)"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_sets_have_their_sizes_and_know_their_images(data):
    assert isinstance(data, KnownDataset)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [10_000, 2_000, 5_000]
    assert "known distribution, seed 0" in data.split_protocol


def test_the_test_images_score_the_entropy_within_their_error(data):
    nll = -data.log_prob(data.test.images)
    error = nll.std().item() / len(nll) ** 0.5
    if data.entropy is None:  # twelve templates, mostly far apart: noise, and which of them
        noise = 64 * -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
        assert noise + math.log(12) - 0.2 < nll.mean().item() + 4 * error
        assert nll.mean().item() - 4 * error < noise + math.log(12)
    else:
        assert abs(nll.mean().item() - data.entropy) < 4 * error


def test_the_splits_are_drawn_independently_and_the_same_every_time(data):
    again = KnownDataset.draw(data.name, data.distribution, sizes=(10_000, 2_000, 5_000), seed=0)
    assert again.digest() == data.digest()
    other = KnownDataset.draw(data.name, data.distribution, sizes=(10_000, 2_000, 5_000), seed=1)
    assert other.digest() != data.digest()
    assert not torch.equal(data.train.images[:2000], data.valid.images)


def test_the_content_of_the_sets_is_the_published_one():
    digests = {
        make(None).name: make(None).digest()[:16]
        for make in (known.ising, known.templates, known.tree, known.tree_levels)
    }
    assert digests == {
        "ising-8x8": "c9e5826b968d890b",
        "templates-8x8": "7168e61bf09a42ad",
        "tree-8x8": "5dbbe411348aa11f",
        "tree-8x8-4-levels": "6f4c9eead1e3939e",
    }
