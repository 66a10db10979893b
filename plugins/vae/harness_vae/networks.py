"""The networks that give the parameters of diagonal Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from harness_layers.posteriors import DiagonalGaussian


def glorot_linear(inputs: int, outputs: int) -> nn.Linear:
    """Returns a linear layer with Glorot's uniform weights and zero biases (Glorot & Bengio 2010)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class TanhNetwork(nn.Module):
    """Linear layers of the widths ``hidden`` with a tanh after each; maps (..., inputs) to (..., hidden[-1])."""

    def __init__(self, inputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(glorot_linear(*widths) for widths in pairwise([inputs, *hidden]))

    def forward(self, values: Tensor) -> Tensor:
        """Maps (..., inputs) to (..., hidden[-1])."""
        for layer in self.layers:
            values = layer(values).tanh_()  # in place: the derivative of tanh needs its result alone
        return values


class GaussianNetwork(nn.Module):
    """A diagonal Gaussian whose parameters are linear in the features of a tanh network.

    Args:
        inputs: width of what it is conditioned on.
        hidden: widths of the tanh layers.
        outputs: D, the width of the Gaussian.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.features = TanhNetwork(inputs, hidden)
        self.mean = glorot_linear(hidden[-1], outputs)
        self.log_variance = glorot_linear(hidden[-1], outputs)

    def forward(self, inputs: Tensor) -> DiagonalGaussian:
        """Maps (..., inputs) to a Gaussian with parameters (..., D)."""
        features = self.features(inputs)
        return DiagonalGaussian(self.mean(features), self.log_variance(features))
