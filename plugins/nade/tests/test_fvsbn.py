from __future__ import annotations

import math

import pytest
import torch

from harness import Budget, Dataset, ImageSpec, Split, Trainer
from harness_nade.fvsbn import FVSBN


def raster(spec: ImageSpec) -> list[tuple[int, int, int]]:
    return [(c, h, w) for h in range(spec.height) for w in range(spec.width) for c in range(spec.channels)]


def test_binary_log_prob_is_the_papers_product_of_logistic_regressions(every_image, randomised):
    spec = ImageSpec(channels=2, height=2, width=2, levels=2)
    model = randomised(FVSBN(spec))
    images = every_image(spec)[::17]
    order = raster(spec)
    number = {entry: entry[0] * 4 + entry[1] * 2 + entry[2] for entry in order}
    weight, bias = model.weight.tolist(), model.bias.tolist()
    for image, log_prob in zip(images, model.log_prob(images).tolist(), strict=True):
        expected = 0.0
        for position, entry in enumerate(order):
            logit = bias[number[entry]]
            for before in order[:position]:
                logit += weight[number[entry]][number[before]] * image[before].item()
            probability = 1 / (1 + math.exp(-logit))
            expected += math.log(probability if image[entry] else 1 - probability)
        assert log_prob == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("inputs", ["scaled", "one-hot"])
def test_multilevel_log_prob_is_the_product_of_softmax_regressions(inputs, every_image, randomised):
    spec = ImageSpec(channels=1, height=2, width=2, levels=4)
    model = randomised(FVSBN(spec, inputs=inputs))
    images = every_image(spec)[::11]
    weight, bias = model.weight.tolist(), model.bias.tolist()
    for image, log_prob in zip(images.flatten(1).tolist(), model.log_prob(images).tolist(), strict=True):
        expected = 0.0
        for d in range(4):
            logits = []
            for v in range(4):
                logit = bias[4 * d + v]
                for j in range(d):
                    row = weight[4 * d + v]
                    logit += row[j] * image[j] / 3 if inputs == "scaled" else row[4 * j + image[j]]
                logits.append(logit)
            expected += logits[image[d]] - math.log(sum(math.exp(logit) for logit in logits))
        assert log_prob == pytest.approx(expected, abs=1e-9)


def test_one_entry_is_learned_as_its_frequency():
    spec = ImageSpec(channels=1, height=1, width=1, levels=2)
    split = Split(torch.tensor([0] * 75 + [1] * 25, dtype=torch.uint8).view(-1, 1, 1, 1))
    data = Dataset("coin", spec, split, split, split)
    model = FVSBN(spec)
    model.fit(data, Trainer(model, data, budget=Budget.parse("1 steps")))
    one = model.log_prob(torch.ones(1, 1, 1, 1, dtype=torch.uint8)).exp().item()
    assert one == pytest.approx(0.25, abs=0.01)
