"""The certificate of a fast sampler: one forward pass confirms that an image is the one that the raster would draw.

With the noise g fixed, an entry is x_k = argmax_v (logit_v(x_<k) + g_v). Let a sampler return any image x whatever. One
forward pass gives logit(x_<k) for all k at once; if x_k is the argmax everywhere, then by induction over the order x is
the ancestral sample of that noise: x_1 depends on nothing, x_2 on x_1 alone, and so on. Two ways of adding up the same
sums differ by rounding, so that an entry may flip whose two best values are closer than that; such entries are counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.interface.model import Autoregressive
from harness.interface.sampling import Noise

ROUNDING = 1e-5


class CertificateFailed(ValueError):
    """A sampler's images are not those that its noise gives; its speed says nothing and is not shown."""


@dataclass(frozen=True)
class Certificate:
    """What one forward pass says of a sampler's images.

    Attributes:
        entries: how many were drawn, those that are known left out.
        mismatches: entries that are not what the noise gives.
        within_rounding: those among them whose decision is closer than rounding.
        known_changed: known entries that were not kept.
    """

    entries: int
    mismatches: int = 0
    within_rounding: int = 0
    known_changed: int = 0

    @property
    def holds(self) -> bool:
        """Whether every entry is what the noise gives, but for rounding, and every known entry was kept."""
        return self.mismatches == self.within_rounding and self.known_changed == 0

    def __add__(self, other: Certificate) -> Certificate:
        return Certificate(
            self.entries + other.entries,
            self.mismatches + other.mismatches,
            self.within_rounding + other.within_rounding,
            self.known_changed + other.known_changed,
        )

    def __str__(self) -> str:
        wrong = self.mismatches - self.within_rounding
        if wrong or self.known_changed:
            parts = [f"{wrong} of {self.entries} entries are not what the noise gives"] if wrong else []
            parts += [f"{self.known_changed} known entries were changed"] if self.known_changed else []
            return ", ".join(parts)
        return f"{self.entries} entries confirmed, {self.within_rounding} within rounding"

    def require(self, what: str) -> None:
        """Raises CertificateFailed, which begins with ``what``, if the certificate does not hold."""
        if not self.holds:
            raise CertificateFailed(f"{what}: {self}")


@torch.no_grad()
def certify(
    model: Autoregressive,
    images: Tensor,
    noise: Noise,
    *,
    known: Tensor | None = None,
    mask: Tensor | None = None,
    rounding: float = ROUNDING,
) -> Certificate:
    """Confirms images by one forward pass for each ordering.

    Args:
        model: whose conditionals decide; of several orderings, each image is confirmed by its own.
        images: (N, C, H, W) uint8, what a sampler drew.
        noise: what it drew them with.
        known: the pixels that it was told, see ``harness.Sampler``; they are not drawn, but must be kept.
        mask: which pixels these are.
        rounding: an entry within rounding is one where the best and the second best value of logit + noise are closer
            than this, in nats; for two levels that is |logit + noise| of the difference.

    Raises:
        ValueError: images, noise or known pixels of another shape or type, or ``known`` without ``mask``.
    """
    num_images, shape = len(noise.gumbel), (len(noise.gumbel), *model.spec.shape)
    if images.dtype != torch.uint8 or images.shape != shape:
        raise ValueError(f"a certificate of this noise takes {shape} uint8, not {tuple(images.shape)} {images.dtype}")
    if (known is None) != (mask is None):
        raise ValueError("known pixels need a mask, and a mask needs known pixels")
    images = images.to(noise.gumbel.device)
    given = torch.zeros(shape, dtype=torch.bool, device=images.device)
    changed = 0
    if known is not None and mask is not None:
        given = mask.to(images.device).expand(shape)
        changed = int(((images != known.to(images.device)) & given).sum())
    mismatches = within = 0
    for ordering in torch.unique(noise.ordering).tolist():
        rows = (noise.ordering == ordering).nonzero().squeeze(1)
        part = images[rows] if len(rows) < num_images else images  # a view on given labels takes all of its images
        wanted, margin = _decisions(model.conditional_logits(part, ordering) + noise.gumbel[rows])
        wrong = (wanted != part) & ~given[rows]
        mismatches += int(wrong.sum())
        within += int((wrong & (margin < rounding)).sum())
    return Certificate(int((~given).sum()), mismatches, within, changed)


def _decisions(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (N, levels, C, H, W) to the best values (N, C, H, W) and how far ahead of the second best they are."""
    top = scores.topk(2, dim=1)
    return top.indices[:, 0].to(torch.uint8), top.values[:, 0] - top.values[:, 1]
