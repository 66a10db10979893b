"""IAF: inverse autoregressive flow, as a density (Kingma et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from harness import ImageSpec, Unsupported
from harness_flows.autoregressive import Inverted, MaskedAffine
from harness_flows.maf import MAF
from harness_layers.schedules import Schedule

_MOST_ENTRIES = 64


class IAF(MAF):
    """MAF whose steps are turned around: one pass to samples, and a pass for each entry to densities.

    That is how its steps are used in a posterior, whose own samples alone are scored; images are foreign ones, and
    training takes a pass for each entry, too.

    Reference: Kingma et al. 2016, arXiv 1606.04934; the density is that of Papamakarios et al. 2017, arXiv 1705.07057.

    Args:
        spec: a sample space of at most 64 entries, else it is ``Unsupported``.
        layers, hidden, preprocessing, alpha: see ``MAF``.
        learning_rate, batch_size, weight_decay, schedule, validate_every: see ``harness_layers.descent.Descent``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    def __init__(self, spec: ImageSpec, *, layers: int = 5, hidden: Sequence[int] = (64, 64),
                 preprocessing: str = "logit", alpha: float = 1e-6, learning_rate: float = 1e-3,
                 batch_size: int = 100, weight_decay: float = 0.0, schedule: Schedule = "cosine",
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        if spec.num_dimensions > _MOST_ENTRIES:
            what = f"a density takes a pass for each of {spec.num_dimensions} entries"
            raise Unsupported(f"{what}, and training takes many: at most {_MOST_ENTRIES}")
        super().__init__(
            spec, layers=layers, hidden=hidden, preprocessing=preprocessing, alpha=alpha, learning_rate=learning_rate,
            batch_size=batch_size, weight_decay=weight_decay, schedule=schedule, validate_every=validate_every,
        )  # fmt: skip

    @staticmethod
    def _step(step: MaskedAffine) -> nn.Module:
        return Inverted(step)
