"""The certificate of a fast sampler: one forward pass confirms that an image is the one that the raster would draw.

With the noise g fixed, an entry is x_k = argmax_v (logit_v(x_<k) + g_v). Let a sampler return any image x whatever. One
forward pass gives logit(x_<k) for all k at once; if x_k is the argmax everywhere, then by induction over the order x is
the ancestral sample of that noise: x_1 depends on nothing, x_2 on x_1 alone, and so on. Two ways of adding up the same
sums differ by rounding, so that an entry may flip whose two best values are closer than that; such entries are counted.
"""

from dataclasses import astuple, dataclass
from typing import Self

import torch
from torch import Tensor

from harness.interface.model import Autoregressive
from harness.interface.sampling import Noise, clamp_known

ROUNDING = 1e-5


class CertificateFailed(ValueError):
    """A sampler's images are not those that its noise gives; its speed says nothing and is not shown."""


@dataclass(frozen=True)
class Certificate:
    """What one forward pass says of a sampler's images.

    Of ``entries`` that were drawn, known ones left out, ``mismatches`` are not what the noise gives; the decision of
    those ``within_rounding`` is closer than rounding. ``known_changed`` are known entries that were not kept.
    """

    entries: int
    mismatches: int = 0
    within_rounding: int = 0
    known_changed: int = 0

    @property
    def holds(self) -> bool:
        """Whether every entry is what the noise gives, but for rounding, and every known entry was kept."""
        return self.mismatches == self.within_rounding and self.known_changed == 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        if self.holds:
            return f"{self.entries} entries confirmed, {self.within_rounding} within rounding"
        wrong = self.mismatches - self.within_rounding
        parts = [f"{wrong} of {self.entries} entries are not what the noise gives"] if wrong else []
        parts += [f"{self.known_changed} known entries were changed"] if self.known_changed else []
        return ", ".join(parts)

    def require(self, what: str) -> None:
        """Raises CertificateFailed, which begins with ``what``, if the certificate does not hold."""
        if not self.holds:
            raise CertificateFailed(f"{what}: {self}")


@torch.no_grad()
def certify(
    model: Autoregressive, images: Tensor, noise: Noise, *, known: Tensor | None = None, mask: Tensor | None = None,
    rounding: float = ROUNDING,
) -> Certificate:  # fmt: skip
    """Confirms images by one forward pass of the ``model`` for each ordering; of several, each image by its own.

    ``images`` are (N, C, H, W) uint8, what a sampler drew with the ``noise``, and with ``known`` pixels where ``mask``
    is True (see ``harness.Sampler``): these are not drawn, but must be kept. An entry is within ``rounding`` where the
    best and the second best value of logit + noise are closer than that, in nats; for two levels that is
    |logit + noise| of the difference. Another shape or type, or ``known`` without ``mask``, is a ValueError.
    """
    shape = (len(noise.gumbel), *model.spec.shape)
    if images.dtype != torch.uint8 or images.shape != shape:
        raise ValueError(f"a certificate of this noise takes {shape} uint8, not {tuple(images.shape)} {images.dtype}")
    images = images.to(noise.gumbel.device)
    changed = int((clamp_known(images, known, mask) != images).sum())
    given = torch.zeros((), dtype=torch.bool, device=images.device) if mask is None else mask.to(images.device)
    given, mismatches, within = given.expand(shape), 0, 0
    for ordering in torch.unique(noise.ordering).tolist():
        rows = (noise.ordering == ordering).nonzero().squeeze(1)
        part = images[rows] if len(rows) < len(images) else images  # a view on given labels takes all of its images
        best = (model.conditional_logits(part, ordering) + noise.gumbel[rows]).topk(2, dim=1)  # (rows, 2, C, H, W)
        margin = best.values[:, 0] - best.values[:, 1]
        wrong = (best.indices[:, 0] != part) & ~given[rows]
        mismatches += int(wrong.sum())
        within += int((wrong & (margin < rounding)).sum())
    return Certificate(int((~given).sum()), mismatches, within, changed)
