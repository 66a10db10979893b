"""A plugin for the end-to-end tests: models that train a little, models that fail, a metric, a watched dataset."""

from __future__ import annotations

from harness import DatasetEntry, MetricEntry, ModelEntry, hookimpl


@hookimpl
def register_models():
    failing = ["Raises", "Diverges", "Unable", "Undefined", "Killed", "Exits", "Quits", "Stubborn", "Crashes"]
    failing += [
        "Hungry",
        "Greedy",
        "Dreams",
        "Overflows",
        "Backwards",
        "Constant",
        "NotANumber",
        "Boastful",
        "Steering",
        "Wordy",
    ]
    failing += ["Lingers", "Drops", "Spies"]
    return [
        ModelEntry("tilted", "harness_tinker.tilted:Tilted", summary="independent pixels, by noisy gradient descent"),
        ModelEntry("edited", "harness_tinker.edited:Edited", summary="independent pixels, whose code the tests edit"),
        *[ModelEntry(name.lower(), f"harness_tinker.failing:{name}") for name in failing],
    ]


@hookimpl
def register_metrics():
    return [
        MetricEntry("ink", "harness_tinker.metrics:Ink", summary="mean intensity of 50 samples"),
        MetricEntry("hardness", "harness_tinker.metrics:Hardness", summary="a speed that takes no time to measure"),
        MetricEntry("dawdling", "harness_tinker.metrics:Dawdling", summary="takes its time"),
        MetricEntry("deadly", "harness_tinker.metrics:Deadly", summary="kills the process that measures it"),
        MetricEntry(
            "crooked", "harness_tinker.metrics:Crooked", pattern=r"crooked-(?P<kind>[a-z]+)", usage="crooked-KIND"
        ),
        MetricEntry("vanishing", "harness_tinker.metrics:Vanishing", summary="ends the process that measures it"),
    ]


@hookimpl
def register_datasets():
    return [
        DatasetEntry("watched", "harness_tinker.datasets:watched", summary="digits that note who asks for the test"),
        DatasetEntry("broken", "harness_tinker.datasets:broken", summary="a dataset whose code fails"),
    ]
