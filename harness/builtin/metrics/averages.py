"""From scores of single images to one figure with its uncertainty: what all likelihoods and bounds share."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from harness import Evaluation, Score, ScoreKind
from harness.boards.statistics import draw_share, draw_standard_deviation


def precision_of(evaluation: Evaluation) -> str:
    """Returns the floating-point type in which the model computes, such as ``float32``."""
    return str(evaluation.model.dtype).removeprefix("torch.")


def average(
    values: Tensor,
    evaluation: Evaluation,
    *,
    kind: ScoreKind,
    protocol: Mapping[str, str] | None = None,
    details: Mapping[str, float] | None = None,
) -> Score:
    """Averages scores over a whole split.

    The standard error is that of the mean over images, sd / sqrt(N), of which random data's draws are a part: with more
    than one draw the details say how far one draw moves the mean (``draw_sd_of_mean``) and which share of the variance
    of the reported mean the draws are (``draw_share_of_variance``).

    Args:
        values: (num_draws, N) float64, as ``Evaluation.per_image`` gives them.
        evaluation: what was scored.
        kind: what the values are of the quantity that the metric names.
        protocol, details: what the metric has to say besides.
    """
    num_draws, num_images = values.shape
    per_image = values.mean(0)  # (N,)
    error = per_image.std(correction=1).item() / math.sqrt(num_images) if num_images > 1 else None
    details = dict(details or {})
    if num_draws > 1 and num_images > 1:
        details["draw_sd_of_mean"] = draw_standard_deviation(values.numpy())
        details["draw_share_of_variance"] = draw_share(values.numpy())
    common = {
        "images": str(num_images),
        "split": evaluation.split_name,
        "draws": str(num_draws),
        "precision": precision_of(evaluation),
    }
    return Score(per_image.mean().item(), error, kind, per_image, {**common, **(protocol or {})}, details)
