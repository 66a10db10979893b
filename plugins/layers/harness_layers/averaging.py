"""An average of a network's weights over the steps of its training (Polyak & Juditsky 1992)."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, *, decay: float, num_steps: int) -> None:
    """Takes in a network after its ``num_steps``-th step: average <- a average + (1 - a) network, a at most ``decay``.

    a = min(decay, (1 + n) / (10 + n)): early on, what is averaged is shorter. Batch norm's running statistics are
    averaged too: in evaluation mode they are weights like others. See Yazici et al. 2019, arXiv 1806.04498.
    """
    share = 1 - min(decay, (1 + num_steps) / (10 + num_steps))
    weights = network.state_dict()
    for name, mean in average.state_dict().items():
        if mean.is_floating_point():
            mean.lerp_(weights[name], share)
