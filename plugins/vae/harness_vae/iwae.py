"""The importance weighted autoencoder (Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519)."""

from __future__ import annotations

import math

from torch import Tensor

from harness_vae.hierarchy import GaussianHierarchy


class IWAE(GaussianHierarchy):
    """Maximises the bound of k importance samples, which grows with k towards log p(x).

        L_k(x) = E_q[log (1/k) sum_i w_i],    w_i = p(x, h_i) / q(h_i | x)

    See ``GaussianHierarchy`` for the hyperparameters. ``num_samples`` is 50 by default; with one it is the VAE.
    """

    default_budget = "50 epochs"
    default_num_samples = 50

    def objective(self, images: Tensor, num_samples: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: the log of the mean of ``num_samples`` weights."""
        return self.log_importance_weights(images, num_samples).logsumexp(0) - math.log(num_samples)
