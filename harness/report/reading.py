"""How to read each board: what stands under every one of its kind."""

from __future__ import annotations

from harness.published import TAGS
from harness.report.ranking import ALPHA

_SPREAD = """
a ± b (c): mean over seeds, ± the standard deviation over seeds, (the standard error over test images). One seed has
no ±.
"""

_RANKS = f"""
A rank is an interval, from 1 + the number of rows proven better, to the number of rows less those proven worse. Two
rows differ if a test over training seeds crossed with test images says so, with Holm's correction over all pairs of a
table at alpha = {ALPHA:g}. Rows whose intervals overlap may be equal; being equal is not transitive. Rows are sorted
by the first number of the interval, then by the figure.
"""

_ORDER = """
≤ marks an upper bound: the lowest of those that the row was scored by, where there is no exact value. A bound below
an exact value is better, since the true value is lower still. An exact value below a bound proves nothing, and
neither row is ranked above the other. Bounds are compared with one another as the promises that they are.
"""

_UNITS = """
bits/dim: nats / (D ln 2), with D the number of dimensions of an image. Parameters: those that drawing an image uses /
those in the checkpoint; one number where they are equal, or only one was counted. Training: mean over seeds, and
which weights were scored.
"""

_K = """
iwae-K: the importance-weighted bound of K samples an image. It falls to the negative log-likelihood as K grows, so
bounds of different K are different quantities, each with a column of its own.
"""

_SPEED = """
Speeds compare within one table only: each is one machine. They are measured alone on it, with the first seed: the
median over blocks of calls, in brackets the quartiles. Rows are sorted by sampling speed, and not ranked.
"""

_LIKELIHOOD = f"Negative log-likelihood of the test images, in nats an image; lower is better. {_SPREAD}"
_BOUNDS = f"Upper bounds on the negative log-likelihood of the test images; lower is better. {_SPREAD}"
_UNITS_ACTIVE = "Active units: latent units whose posterior mean varies over test images, of all; mean ± sd over seeds."
_COST = "FLOPs and parameters do not depend on the machine. FLOPs are of one image at batch 1; a multiply-add is two."
_TAGS = f"Tags of published figures: {'; '.join(f'{tag}: {words}' for tag, words in TAGS.items())}."

READING: dict[str, tuple[str, ...]] = {
    "likelihood": (_LIKELIHOOD, _RANKS, _ORDER, _UNITS, _TAGS),
    "bounds": (_BOUNDS, _K, _RANKS, _UNITS_ACTIVE),
    "throughput": (_SPEED, _COST),
}
