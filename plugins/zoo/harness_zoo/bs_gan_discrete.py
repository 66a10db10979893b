"""BS-GAN for binary images: a generator that is trained by importance-weighted draws (Hjelm et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness import ImageSpec, Unsupported
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network, Normalization
from harness_gan.objectives import non_saturating
from harness_layers.checks import check_positive
from harness_layers.pixels import draw_levels, level_log_probs, scale


def boundary_seeking(scores: Tensor, log_probs: Tensor) -> Tensor:
    """Maps outputs s and log g(x|z) in nats, (K, N) for K draws at each of N latents, to the generator's loss, ().

    It is the mean over latents of -sum_k w_k log g(x_k|z), w the softmax of s over the draws; w is held fixed.
    """
    weights = scores.detach().softmax(0)
    return -(weights * log_probs).sum(0).mean()


class BSGANDiscrete(Adversarial):
    r"""A generator of probabilities of pixels, whose draws have no gradient; the discriminator weighs them.

    .. math:: \min_G -E_z \sum_k w_k \log g(x_k|z), \quad x_k \sim g(x|z), \quad
              w_k = \frac{e^{s(x_k)}}{\sum_l e^{s(x_l)}}

    g(x|z) is a Bernoulli distribution of every pixel. At the optimal discriminator e^s = D / (1 - D) is the ratio of
    the data's probability to the generator's, so the step makes more probable the draws that the data have more of.
    The discriminator has no batch norm, as in the paper, and minimises what a GAN's does. Reference: Hjelm et al. 2018,
    arXiv 1702.08431, on discrete data.

    Args:
        spec: binary images; even sides of at least 8 pixels for ``dcgan``.
        draws: K; 20 in the paper.
        network, normalization, latents, width, learning_rate, batch_size: see ``Adversarial``.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images of more than two levels, or that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, draws: int = 20, network: Network = "dcgan",
                 normalization: Normalization = "none", latents: int = 64, width: int = 64,
                 learning_rate: float = 1e-3, batch_size: int = 64) -> None:  # fmt: skip
        if spec.levels != 2:
            raise Unsupported(f"its generator draws binary images, not ones of {spec.levels} levels")
        check_positive(draws=draws)
        super().__init__(
            spec, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, batch_size=batch_size,
        )  # fmt: skip
        self.draws = draws

    def build_generator(self, network: Network, *, width: int) -> nn.Module:
        """Returns a network that maps latents (N, D) to logits (N, C, H, W): the usual one without its tanh."""
        layers = list(super().build_generator(network, width=width).children())
        del layers[max(place for place, layer in enumerate(layers) if isinstance(layer, nn.Tanh))]
        return nn.Sequential(*layers)

    def generate(self, generator: nn.Module, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Maps latents (N, D) to one draw each, (N, C, H, W) of -1 and 1 without a graph; NaN where the logit is."""
        logits: Tensor = generator(latents)
        return torch.where(torch.isfinite(logits), self._draw(logits), logits).detach()

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns the discriminator's cross-entropy."""
        return non_saturating(self.judge(shown.real), self.judge(shown.fake))

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the loss of ``draws`` images at each of the round's latents."""
        logits = self.generator(shown.latents).to(self.dtype).expand(self.draws, -1, -1, -1, -1)  # (K, N, C, H, W)
        images = self._draw(logits)
        with torch.no_grad():
            scores = self.judge(images.flatten(0, 1)).view(self.draws, -1)
        log_probs = level_log_probs(logits.unsqueeze(-1), images > 0)
        return boundary_seeking(scores, log_probs.flatten(2).sum(2))

    def _draw(self, logits: Tensor) -> Tensor:
        return scale(draw_levels(logits.unsqueeze(-1)), 2, self.dtype)
