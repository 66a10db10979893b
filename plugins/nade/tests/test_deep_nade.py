from __future__ import annotations

import itertools
import math

import pytest
import torch

from harness import ImageSpec
from harness_nade.deep_nade import DeepNADE


def log_conditional(model: DeepNADE, image: list[int], observed: set[int], entry: int) -> float:
    """Log p(x_entry | x_observed) by loops from the paper's formula and the model's weights; scaled inputs."""
    spec = model.spec
    size = spec.num_dimensions
    hidden = [image[j] / (spec.levels - 1) * (j in observed) for j in range(size)]
    hidden += [float(j in observed) for j in range(size)]
    for layer in model.layers:
        weight, bias = layer.weight.tolist(), layer.bias.tolist()
        hidden = [
            max(0.0, b + sum(w * h for w, h in zip(row, hidden, strict=True)))
            for row, b in zip(weight, bias, strict=True)
        ]
    num_out = 1 if spec.levels == 2 else spec.levels
    weight, bias = model.output.weight.tolist(), model.output.bias.tolist()
    outputs = [
        bias[entry * num_out + v] + sum(w * h for w, h in zip(weight[entry * num_out + v], hidden, strict=True))
        for v in range(num_out)
    ]
    logits = [0.0, *outputs] if spec.levels == 2 else outputs
    return logits[image[entry]] - math.log(sum(math.exp(logit) for logit in logits))


TINY = [ImageSpec(channels=1, height=2, width=2, levels=2), ImageSpec(channels=3, height=1, width=1, levels=3)]


@pytest.mark.parametrize("spec", TINY, ids=["binary", "colour"])
@pytest.mark.parametrize("hidden", [(5,), (5, 4, 3)])
def test_log_prob_is_the_product_of_conditionals_given_what_came_before(spec, hidden, every_image, randomised):
    model = randomised(DeepNADE(spec, hidden=hidden, num_orderings=2, inputs="scaled"))
    images = every_image(spec)[::2]
    for k in range(2):
        order = model.orders[k].tolist()
        computed = model.conditional_log_probs(images, k).flatten(1).sum(1).tolist()
        for image, log_prob in zip(images.flatten(1).tolist(), computed, strict=True):
            expected = sum(log_conditional(model, image, set(order[:t]), entry) for t, entry in enumerate(order))
            assert log_prob == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("spec", TINY, ids=["binary", "colour"])
def test_expected_objective_is_the_mean_negative_log_likelihood_over_all_orderings(spec, every_image, randomised):
    model = randomised(DeepNADE(spec, hidden=(5, 4), inputs="scaled"))
    size = spec.num_dimensions
    image = every_image(spec)[[5]]
    values = image.flatten().tolist()
    orders = list(itertools.permutations(range(size)))
    total = 0.0
    for order in orders:
        total -= sum(log_conditional(model, values, set(order[:t]), entry) for t, entry in enumerate(order))
    objective = 0.0
    for count in range(size):
        subsets = list(itertools.combinations(range(size), count))
        for subset in subsets:
            observed = torch.zeros(1, size, dtype=torch.bool)
            observed[0, list(subset)] = True
            objective += model.negative_order_agnostic(image, observed).item() / len(subsets) / size
    assert objective == pytest.approx(total / len(orders), abs=1e-9)


def test_observed_sets_are_drawn_with_uniform_size_and_uniformly_within_a_size():
    model = DeepNADE(ImageSpec(channels=1, height=1, width=4, levels=2), hidden=(2,))
    observed = model.draw_observed(40_000)
    index = (observed.long() * torch.tensor([1, 2, 4, 8])).sum(1)
    frequencies = index.bincount(minlength=16) / 40_000
    for subset in range(16):
        count = subset.bit_count()
        expected = 0.0 if count == 4 else 1 / 4 / math.comb(4, count)
        assert frequencies[subset].item() == pytest.approx(expected, abs=5 * math.sqrt(expected / 40_000))


def test_objective_under_a_mask_ignores_the_values_of_unobserved_entries_as_inputs(randomised):
    spec = ImageSpec(channels=1, height=3, width=3, levels=2)
    model = randomised(DeepNADE(spec, hidden=(6,)))
    observed = torch.rand(20, 9) < 0.5
    images = torch.randint(2, (20, 1, 3, 3), dtype=torch.uint8)
    other = torch.where(observed.view_as(images), images, 1 - images)
    assert torch.equal(model.outputs_given(images, observed), model.outputs_given(other, observed))


def test_logits_do_not_depend_on_the_size_of_the_chunks(randomised, monkeypatch):
    model = randomised(DeepNADE(ImageSpec(channels=1, height=3, width=3, levels=3), hidden=(6, 5)))
    images = torch.randint(3, (7, 1, 3, 3), dtype=torch.uint8)
    whole = model.conditional_logits(images)
    for floats in (1, 7 * 6 * 2, 7 * 6 * 4):
        monkeypatch.setattr("harness_nade.deep_nade._CHUNK_FLOATS", floats)
        torch.testing.assert_close(model.conditional_logits(images), whole)


def test_orderings_depend_on_the_seed_alone_and_the_first_ones_not_on_their_number():
    spec = ImageSpec(channels=1, height=3, width=3, levels=2)
    few, many, other = DeepNADE(spec, num_orderings=2), DeepNADE(spec, num_orderings=5), DeepNADE(spec, ordering_seed=1)
    assert torch.equal(few.orders, many.orders[:2])
    assert not torch.equal(few.orders[:1], other.orders)
