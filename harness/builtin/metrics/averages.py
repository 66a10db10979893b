"""From scores of single images to one figure with its uncertainty: what all likelihoods and bounds share."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from harness import Evaluation, Score, ScoreKind


def precision_of(evaluation: Evaluation) -> str:
    """Returns the floating-point type in which the model computes, such as ``float32``."""
    return str(evaluation.model.dtype).removeprefix("torch.")


def split_protocol(evaluation: Evaluation) -> dict[str, str]:
    """Returns what is to be said of a figure that is of a whole split."""
    return {
        "images": str(len(evaluation.split)),
        "split": evaluation.split_name,
        "draws": str(evaluation.split.num_draws),
        "precision": precision_of(evaluation),
    }


def average(
    values: Tensor,
    evaluation: Evaluation,
    *,
    kind: ScoreKind,
    unit: str = "nats",
    protocol: Mapping[str, str] | None = None,
    details: Mapping[str, float] | None = None,
) -> Score:
    """Averages scores over a whole split.

    The standard error is that of the mean over images, sd / sqrt(N), of which random data's draws are a part: with more
    than one draw the details say how far one draw moves the mean (``draw_sd_of_mean``) and which share of the variance
    of the reported mean the draws are (``draw_share_of_variance``).

    ``values`` is (num_draws, N) float64 nats, as ``Evaluation.per_image`` gives them; ``unit`` is that of the score:
    ``nats``, or ``bits/dim``, which are nats / (D ln 2). ``protocol`` and ``details`` are what there is to say besides.
    """
    if unit == "bits/dim":
        values = values / (evaluation.model.spec.num_dimensions * math.log(2))
    num_draws, num_images = values.shape
    per_image = values.mean(0)  # (N,)
    error = per_image.std(correction=1).item() / math.sqrt(num_images) if num_images > 1 else None
    details = dict(details or {}) | (of_draws(values) if num_draws > 1 and num_images > 1 else {})
    protocol = {**split_protocol(evaluation), "draws": str(num_draws), **(protocol or {})}
    return Score(per_image.mean().item(), error, kind, per_image, protocol, details)


def of_draws(values: Tensor) -> dict[str, float]:
    """Returns how far one draw of the images moves the mean, and the share of the mean's variance that the draws are.

    ``values`` is (R, N) float64, at least two of each. Image i's score under draw r is mu + a_i + e_ri with independent
    draws of each image. The mean over R draws and N images has variance (var(a) + var(e) / R) / N, of which
    var(e) / (R N) is the draws'. With s_e^2 the variance within images and s_m^2 that of the images' means, one draw
    moves the mean by s_e / sqrt(N), and the share is s_e^2 / (R s_m^2), at most 1: the inverse of a one-way F. What is
    no more than rounding counts as zero.
    """
    scores = values.numpy()
    floor = (1e-12 * float(abs(scores).max())) ** 2
    within, between = float(scores.var(axis=0, ddof=1).mean()), float(scores.mean(axis=0).var(ddof=1))
    within, between = within if within > floor else 0.0, between if between > floor else 0.0
    share = 1.0 if between == 0 else min(1.0, within / (len(scores) * between))
    return {
        "draw_sd_of_mean": math.sqrt(within / scores.shape[1]),
        "draw_share_of_variance": share if within > 0 else 0.0,
    }
