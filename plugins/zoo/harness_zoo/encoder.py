"""An encoder as a further player, and the generator applied to its codes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call

from harness import ImageSpec
from harness_gan.networks import Network, build_discriminator


def build_encoder(network: Network, spec: ImageSpec, *, outputs: int, width: int) -> nn.Module:
    """Returns a network that maps images (N, C, H, W) in [-1, 1] to (N, outputs).

    It is a discriminator without batch norm, but for its last layer.

    Raises:
        ValueError: another network.
        Unsupported: images that the network cannot halve.
    """
    scores = build_discriminator(network, spec, width=width, normalization="none", dropout=0.0)
    return nn.Sequential(*list(scores)[:-1], nn.Linear(scores.num_features, outputs))


def apply_aside(network: nn.Module, inputs: Tensor, *, frozen: bool = False) -> Tensor:
    """Maps inputs (N, ...) to the network's outputs, and leaves its running statistics alone.

    They are there for sampling, so they must be those of latents from the prior, not those of an encoder's codes.

    Args:
        network: whose buffers stay as they are, in training mode as well.
        inputs: (N, ...).
        frozen: whether the gradient is one in the inputs alone, not in the network's weights.
    """
    state = {name: buffer.clone() for name, buffer in network.named_buffers()}
    if frozen:
        state |= {name: weight.detach() for name, weight in network.named_parameters()}
    outputs: Tensor = functional_call(network, state, (inputs,))
    return outputs
