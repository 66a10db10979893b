"""What the change of variables along a flow says of images: an estimate, to be ranked with no bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import harness
from harness_diffusion.flow_matching import FlowMatching

_IMAGES, _STEPS, _BATCH = 1000, 40, 100


class LikelihoodEstimate(harness.Metric):
    """The mean of -log p(f) over the first 1,000 images, in bits for each dimension of the integer image.

    One draw of the dequantization and one of Hutchinson's signs for each image, by ``_STEPS`` steps of Heun's method.
    The detail ``half_the_steps`` is the figure by half of them, at the same draws: how far the two are apart tells how
    far the steps may be to blame.
    """

    name = "likelihood-estimate"
    board = "likelihood-estimate"
    header = "Estimated NLL"
    unit = "bits/dim"
    requires = FlowMatching

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Scores the images twice, with ``_STEPS`` and with half as many."""
        model = evaluation.model
        assert isinstance(model, FlowMatching)
        images = evaluation.split.draw(0).images[:_IMAGES]
        to_bits = -1 / (model.spec.num_dimensions * math.log(2))
        whole, half = (self._scores(evaluation, model, images, steps) * to_bits for steps in (_STEPS, _STEPS // 2))
        error = whole.std().item() / math.sqrt(len(whole)) if len(whole) > 1 else None
        protocol = {"images": str(len(images)), "split": evaluation.split_name, "steps": f"{_STEPS}, Heun"}
        details = {"half_the_steps": half.mean().item()}
        return harness.Score(whole.mean().item(), error, "estimate", protocol=protocol, details=details)

    def _scores(self, evaluation: harness.Evaluation, model: FlowMatching, images: Tensor, steps: int) -> Tensor:
        with torch.no_grad(), harness.isolated_rng(harness.derive_seed(evaluation.seed, self.name), evaluation.device):
            parts = torch.split(images.to(evaluation.device), _BATCH)
            scores = torch.cat([model.estimate_log_prob(part, steps) for part in parts])
        return evaluation.checked(scores, (len(images),), self.name)
