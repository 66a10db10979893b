"""What the right models of many kinds share: entries as a sequence in raster order, and enumerated spaces."""

from __future__ import annotations

import torch
from museum.common import categorical_draw, fit_by_gradient
from torch import Tensor

from harness import Autoregressive, Dataset, ExactLikelihood, ImageSpec, Trainer, Unsupported


class Trained(Autoregressive):
    """Trained by the mean of its own log_prob."""

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: -self.log_prob(batch.images).mean())


class TrainedTable(ExactLikelihood):
    """One that is no product of conditionals, trained alike."""

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: -self.log_prob(batch.images).mean())


def at_most_entries(spec: ImageSpec, entries: int, levels: int = 256) -> None:
    """Refuses images of more entries, or more levels."""
    if spec.num_dimensions > entries or spec.levels > levels:
        raise Unsupported(f"{spec}: this model takes up to {entries} entries of {levels} levels")


def sequence(images: Tensor) -> Tensor:
    """Maps (N, C, H, W) uint8 to (N, D) int64 in raster order, the channels of a pixel one after another."""
    return images.permute(0, 2, 3, 1).flatten(1).long()


def unsequence(values: Tensor, spec: ImageSpec) -> Tensor:
    """Maps (N, D) in raster order to images (N, C, H, W) uint8."""
    return values.view(-1, spec.height, spec.width, spec.channels).permute(0, 3, 1, 2).to(torch.uint8).contiguous()


def as_logits(logits: Tensor, spec: ImageSpec) -> Tensor:
    """Maps (N, D, levels) in raster order to (N, levels, C, H, W)."""
    return logits.view(-1, spec.height, spec.width, spec.channels, spec.levels).permute(0, 4, 3, 1, 2)


def signed(values: Tensor, spec: ImageSpec, dtype: torch.dtype) -> Tensor:
    """Maps levels to [-1, 1]."""
    return values.to(dtype) * (2 / (spec.levels - 1)) - 1


def every_image(spec: ImageSpec, largest: int = 4096) -> Tensor:
    """Returns (M, C, H, W) uint8, where there are at most ``largest``; the first entry counts fastest."""
    count = spec.levels**spec.num_dimensions
    if count > largest:
        raise Unsupported(f"{spec} has more than {largest} images to sum over")
    powers = spec.levels ** torch.arange(spec.num_dimensions)
    return (torch.arange(count)[:, None] // powers % spec.levels).to(torch.uint8).view(-1, *spec.shape)


def number_of(images: Tensor, spec: ImageSpec) -> Tensor:
    """Maps images (N, C, H, W) uint8 to their places in ``every_image``, (N,) int64."""
    return (images.flatten(1).long() * spec.levels ** torch.arange(spec.num_dimensions)).sum(1)


def draw_rows(log_probs: Tensor, num_samples: int) -> Tensor:
    """Draws (num_samples,) int64 from one distribution (M,) of logits, by its distribution function."""
    steps = log_probs.double().softmax(0).cumsum(0)
    return torch.searchsorted(steps, torch.rand(num_samples, dtype=torch.float64) * steps[-1]).clamp_max(len(steps) - 1)


__all__ = [
    "Trained", "TrainedTable", "as_logits", "at_most_entries", "categorical_draw", "draw_rows", "every_image",
    "number_of", "sequence", "signed", "unsequence",
]  # fmt: skip
