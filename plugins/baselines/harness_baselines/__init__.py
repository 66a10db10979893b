"""Closed-form baselines: the floors that any learned model of images has to beat."""

from __future__ import annotations

from collections.abc import Sequence

from harness import ModelEntry, hookimpl


@hookimpl
def register_models() -> Sequence[ModelEntry]:
    """Returns the baselines of this package."""
    return [
        ModelEntry(
            "uniform",
            "harness_baselines.uniform:Uniform",
            summary="every image has the same probability: D ln(levels) nats",
        ),
        ModelEntry(
            "independent-pixels",
            "harness_baselines.independent_pixels:IndependentPixels",
            summary="a smoothed histogram for every entry, exact, in closed form",
        ),
        ModelEntry(
            "gaussian",
            "harness_baselines.gaussian:Gaussian",
            summary="a full-covariance Gaussian on dequantized pixels, a bound, in closed form",
        ),
        ModelEntry(
            "training-images",
            "harness_baselines.real_images:TrainingImages",
            summary="no model: draws the training images, the reference that samples can be held against",
        ),
        ModelEntry(
            "test-images",
            "harness_baselines.real_images:TestImages",
            summary="no model: draws the very test images, the floor of any distance to them",
        ),
    ]
