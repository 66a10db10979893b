"""Active units: how much of a latent space a model uses."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Evaluation, Inference, Metric, NonFiniteScore, Score, derive_seed, isolated_rng
from harness.builtin.metrics.averages import split_protocol

THRESHOLD = 1e-2


class ActiveUnits(Metric):
    """The number of latent units u with Cov_x(E_q[u | x]) > 1e-2 over the split.

    Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519. The covariance is the variance over images (and draws) of the
    posterior mean. The details count each stochastic layer, layer 1 being the top, where the model says its
    ``latent_sizes``.
    """

    name = "active-units"
    board = "bounds"
    unit = "units"
    higher_is_better = True
    requires = Inference

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Encodes the whole split, in evaluation-sized batches.

        Raises:
            NonFiniteScore: a posterior mean is NaN or infinite.
            ValueError: the layers' sizes do not add up to the width of the latents.
        """
        model = evaluation.model
        assert isinstance(model, Inference)
        active = _posterior_means(evaluation, model).var(0, correction=0) > THRESHOLD  # (D,)
        details = {"units": float(len(active)), **_per_layer(model, active)}
        protocol = {**split_protocol(evaluation), "threshold": f"{THRESHOLD:g}"}
        return Score(float(active.sum().item()), None, "estimate", None, protocol, details)


@torch.no_grad()
def _posterior_means(evaluation: Evaluation, model: Inference) -> Tensor:
    """Returns (num_draws * N, D) float64."""
    split = evaluation.split
    with isolated_rng(derive_seed(evaluation.seed, evaluation.split_name, "active-units"), evaluation.device):
        parts = [
            model.encode(batch.to(evaluation.device)).cpu().double()
            for draw in range(split.num_draws)
            for batch in torch.split(split.draw(draw).images, evaluation.batch_size)
        ]
    means = torch.cat(parts)
    bad = (~torch.isfinite(means)).any(1).nonzero().flatten()
    if len(bad):
        raise NonFiniteScore(
            f"active-units: {len(bad)} of {len(means)} images have a posterior mean that is not finite, "
            f"the first is image {int(bad[0]) % len(split)}"
        )
    return means


def _per_layer(model: Inference, active: Tensor) -> dict[str, float]:
    try:
        sizes = model.latent_sizes
    except NotImplementedError:
        return {}
    if sum(sizes) != len(active):
        raise ValueError(f"latent_sizes {sizes} add up to {sum(sizes)}, encode returns {len(active)} units")
    counts: dict[str, float] = {}
    for layer, units in enumerate(torch.split(active, list(sizes)), start=1):
        counts[f"layer_{layer}_active"] = float(units.sum().item())
        counts[f"layer_{layer}_units"] = float(len(units))
    return counts
