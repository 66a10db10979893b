"""The variational autoencoder (Kingma & Welling 2014, arXiv 1312.6114)."""

from __future__ import annotations

from torch import Tensor

from harness_vae.hierarchy import GaussianHierarchy


class VAE(GaussianHierarchy):
    """Maximises the evidence lower bound, averaged over k draws of the latents.

        L(x) = E_q[(1/k) sum_i log w_i],    w_i = p(x, h_i) / q(h_i | x)

    See ``GaussianHierarchy`` for the hyperparameters. ``num_samples`` is one by default: more of them lower the
    variance of the gradient, and leave the bound as it is.
    """

    default_budget = "100 epochs"
    default_num_samples = 1

    def objective(self, images: Tensor, num_samples: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: the mean of ``num_samples`` log-weights."""
        return self.log_importance_weights(images, num_samples).mean(0)
