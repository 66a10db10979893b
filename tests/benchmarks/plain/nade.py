"""NADE for binary images: a loop over entries, as in the paper."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness_nade.nade import NADE


class PlainNADE(nn.Module):
    """The model of Larochelle & Murray 2011, algorithm 1."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, hidden))
        self.hidden_bias = nn.Parameter(torch.empty(hidden))
        self.output_weight = nn.Parameter(torch.empty(size, hidden))
        self.output_bias = nn.Parameter(torch.empty(size))

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, 1, H, W) float, zeros and ones, to logits (N, 1, H, W)."""
        x = images.flatten(1)
        activations = self.hidden_bias.expand(len(x), -1)
        logits = []
        for entry in range(x.shape[1]):
            hidden = torch.sigmoid(activations)
            logits.append(hidden @ self.output_weight[entry] + self.output_bias[entry])
            activations = activations + x[:, entry, None] * self.weight[entry]
        return torch.stack(logits, dim=1).view_as(images)

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, 1, H, W) uint8 to (N,) nats."""
        x = images.float()
        return -F.binary_cross_entropy_with_logits(self(x), x, reduction="none").sum((1, 2, 3))


def plain_of(model: NADE) -> PlainNADE:
    """Returns the plain formulation of a model of binary images with one channel, with its weights."""
    assert model.spec.channels == 1
    assert model.spec.levels == 2
    plain = PlainNADE(model.spec.num_dimensions, len(model.hidden_bias))
    with torch.no_grad():
        plain.weight.copy_(model.weight[:, 0])
        plain.hidden_bias.copy_(model.hidden_bias)
        plain.output_weight.copy_(model.output_weight[:, 0])
        plain.output_bias.copy_(model.output_bias[:, 0])
    return plain.eval()
