"""FeatureMetric: a metric of one's own on a network's features is one function; the rest has a default."""

from __future__ import annotations

import math

import pytest
import torch

from harness import Evaluation, FeatureMetric, ImageSpec, MetricEntry
from harness.testing.tiny import Coins, tiny_dataset


class MeanShift(FeatureMetric):
    family = "mean-shift"

    def distance(self, samples, reference):
        return float((samples.mean(0) - reference.mean(0))[0])


def test_by_default_groups_are_left_out_in_turn():
    sets = [torch.randn(num, 3, generator=torch.Generator().manual_seed(num)).double() for num in (40, 60)]
    found = MeanShift().errors(*sets, 1000)  # groups of two
    pairs = [part[:, 0].reshape(-1, 2).mean(1) for part in sets]
    assert found == pytest.approx([float(pair.std()) / math.sqrt(len(pair)) for pair in pairs], rel=1e-9)


@pytest.mark.parametrize(("compared_with", "images"), [("split", "test, 60 images"), ("train", "train, 240 images")])
def test_it_is_compared_with_the_split_or_with_the_training_images(compared_with, images, monkeypatch):
    monkeypatch.setattr(MeanShift, "compared_with", compared_with)
    spec = ImageSpec(1, 3, 3, levels=4)
    entry = MetricEntry.of_features("mean-shift", MeanShift)
    metric = entry.load()(**entry.match("mean-shift-pixels-n30"))
    score = metric.evaluate(Evaluation(Coins(spec), tiny_dataset(spec)))
    assert (metric.name, metric.header, score.protocol["reference"]) == ("mean-shift-pixels-n30", "Mean shift", images)
