"""Importance samples: K weights that are asked for are K weights, independent of one another and of other calls."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy import stats

from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen
from harness.auditing.trial import Evidence, Note, Trial
from harness.interface.model import ImportanceWeighted

_WEIGHTS, _CALLS = 64, 200
_IMAGES, _IMAGES_AT_FULL_SIZE = 4, 1


def importance_samples(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields tests of the variance of a call's mean: that of one weight, divided by how many are asked for."""
    laboratory.require(ImportanceWeighted, "the model has no importance weights")
    for specimen in laboratory.specimens("initial", "random", "fitted", spaces=laboratory.some(1)):
        yield from _independence(specimen)


@torch.no_grad()
def _independence(specimen: Specimen) -> Iterator[Evidence]:
    count = _IMAGES if specimen.spec.num_dimensions <= 64 else _IMAGES_AT_FULL_SIZE
    model, images = specimen.model_as(ImportanceWeighted), specimen.images(count, "importance")
    with specimen.rng("importance"):
        calls = [model.log_importance_weights(images, _WEIGHTS).double() for _ in range(_CALLS)]
    for weights in calls:
        if weights.shape != (_WEIGHTS, count):
            what = f"{_WEIGHTS} weights of {count} images were asked for, {tuple(weights.shape)} were returned"
            yield Trial.broken(specimen.where, what)
            return
    values = torch.stack(calls)  # (calls, K, N)
    # any function of a weight will do: this one has no heavy tails
    flat = values.flatten(0, 1)
    middle, spread = flat.median(0).values, flat.quantile(0.84, dim=0) - flat.quantile(0.16, dim=0)
    if not bool((spread > specimen.tolerance(scale=float(flat.abs().max()))).any()):
        yield Note(f"{specimen.where}: all weights of an image are equal, as with an exact posterior")
        return
    bounded = torch.tanh((values - middle) / spread.clamp_min(1e-300))
    single = bounded.flatten(0, 1).var(0, correction=1)
    ratio = _WEIGHTS * bounded.mean(1).var(0, correction=1) / single.clamp_min(1e-300)  # (N,)
    ratio = ratio[single > 1e-12]
    freedom = _CALLS - 1
    low = float(stats.chi2.cdf(freedom * float(ratio.min()), freedom))
    high = float(stats.chi2.sf(freedom * float(ratio.max()), freedom))
    used = _WEIGHTS / float(ratio.max()) if high < low else _WEIGHTS / max(float(ratio.min()), 1e-12)
    meaning = (
        f"{_WEIGHTS} weights average like {used:.3g} independent ones: draws are repeated, capped, or shared "
        "by calls through a generator of their own"
    )
    yield Trial.p_value(
        specimen.where, f"variance of the mean of {_WEIGHTS} weights, times {_WEIGHTS}, against that of one",
        min(1.0, 2 * len(ratio) * min(low, high)), meaning=meaning,
        smallest_defect=lambda t: f"{_WEIGHTS} weights that average like "
        f"{_WEIGHTS * stats.chi2.ppf(0.05, freedom) / stats.chi2.isf(t / (2 * len(ratio)), freedom):.0f}",
    )  # fmt: skip
