"""How to read each board: what stands under every one of its kind."""

from __future__ import annotations

from harness.boards.published import TAGS
from harness.report.audits import OF_SAMPLES
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

_AUDIT = """
Audit: each model's class, with the row's hyperparameters, is checked before it is ranked: by enumeration of small
sample spaces, and by tests on larger ones; docs/audits.md says how. ✓: it passed every check that applies; below the
table stands which. ✗: the named checks failed; such a row is listed last, has no rank and changes no other, and below
the table stands what is likely wrong. Not enumerated: the model takes no sample space that can be enumerated, so that
its normalisation and its samplers are not checked; it passed the others. Not audited: the records have no audit of this
code. A right model fails any check at all with a probability of 0.1 % at most.
"""

_AUDIT_OF_SAMPLES = f"""
Audit: the same as on the likelihood board. Here a row loses its rank by the checks on which its samples rest alone:
{", ".join(OF_SAMPLES)}. A wrong likelihood is named, and says nothing of samples.
"""

_LIKELIHOOD = f"Negative log-likelihood of the test images, in nats an image; lower is better. {_SPREAD}"
_BOUNDS = f"Upper bounds on the negative log-likelihood of the test images; lower is better. {_SPREAD}"
_UNITS_ACTIVE = "Active units: latent units whose posterior mean varies over test images, of all; mean ± sd over seeds."
_COST = "FLOPs and parameters do not depend on the machine. FLOPs are of one image at batch 1; a multiply-add is two."
_TAGS = f"Tags of published figures: {'; '.join(f'{tag}: {words}' for tag, words in TAGS.items())}."

_QUALITY = """
Distances between samples and the images of the reference split, both as a network sees them; lower is better. FID is
the Fréchet distance of two Gaussians that are fitted to the features (Heusel et al. 2017, arXiv 1706.08500); KID is the
unbiased squared MMD of the features with the kernel (x^T y / d + 1)^3 (Bińkowski et al. 2018, arXiv 1801.01401),
printed times 1,000. a ± b: mean over seeds, ± the standard deviation over seeds, which holds both the training and the
draw of the samples. a (c): one seed, and in brackets the standard error by resampling samples and reference.
"""

_PROTOCOL = """
A column has one protocol, which stands under the table: features, number of samples, reference, resizing. FID falls as
the number of samples grows, by an amount that differs between models, so that figures of other numbers of samples are
other quantities; KID has no such bias. The network's digest says which weights the features are of: another training
of the same classifier is another ruler, with a column of its own. Features of lenet-... are those of a small
classifier trained here, features of pixels are the pixels: neither is the Inception network of published FIDs, and no
figure of theirs compares with a published one.
"""

_QUALITY_RANKS = f"""
A rank is an interval, from 1 + the number of rows proven better, to the number of rows less those proven worse. Two
rows of several seeds each differ if Welch's test over seeds says so; where a row has one seed, if the difference is
too large for the resampling standard errors of both; with Holm's correction over all pairs of a table at
alpha = {ALPHA:g}. All rows are compared with the same reference images. Tests over seeds say nothing of other reference
images. Tests by resampling count the reference's error for both rows, although it is common and mostly cancels: they
separate too few rows rather than too many.
"""

_FAILED_SEEDS = """
A seed without a figure (degenerate: all samples are one image, or not finite; diverged, timed-out, out-of-memory,
killed, failed) is named in the row, and never averaged in: the figure is of the seeds that have one.
"""

_FLOORS = """
Floors and ceilings are not ranked. Two halves of the reference, as large as can be, give what a perfect model would
give at their size: the mean over random splits, and between which values 95 % of the splits lie. For FID that is more
than a perfect model gets at the full size.
"""

READING: dict[str, tuple[str, ...]] = {
    "likelihood": (_LIKELIHOOD, _RANKS, _ORDER, _AUDIT, _UNITS, _TAGS),
    "bounds": (_BOUNDS, _K, _RANKS, _AUDIT, _UNITS_ACTIVE),
    "throughput": (_SPEED, _COST),
    "sample-quality": (_QUALITY, _PROTOCOL, _QUALITY_RANKS, _AUDIT_OF_SAMPLES, _FAILED_SEEDS, _FLOORS, _TAGS),
}
