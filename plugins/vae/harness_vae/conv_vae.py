"""A convolutional VAE with a posterior by name (Kingma et al. 2016, arXiv 1606.04934)."""

from __future__ import annotations

from harness import ImageSpec
from harness_layers.checks import check_positive, check_widths
from harness_layers.descent import Descent
from harness_layers.schedules import Schedule
from harness_vae.latent_model import Objective
from harness_vae.posteriors import PosteriorName, make_posterior
from harness_vae.residual import ResidualDecoder, ResidualEncoder
from harness_vae.single_layer import SingleLayerVAE


class ConvVAE(SingleLayerVAE):
    """Residual convolutional networks around one layer of latents: those of the paper on MNIST, by default.

    Args:
        spec: the sample space; two levels have a Bernoulli decoder, more a softmax over all levels.
        latents: D.
        posterior: see ``harness_vae.posteriors.make_posterior``.
        flow_steps, flow_width: of a posterior that is a flow.
        maps: of the blocks of the encoder that halve height and width, in turn; the decoder has them backwards.
        hidden: width of the dense layer between the blocks and the latents, on both sides.
        num_samples, warm_up, free_bits, average_decay: see ``harness_vae.latent_model.Objective``.
        learning_rate, batch_size, schedule, max_gradient_norm, validate_every: see ``harness_layers.descent.Descent``.

    Raises:
        ValueError: a number out of its range, an unknown word.
    """

    default_budget = "30 epochs"

    def __init__(self, spec: ImageSpec, *, latents: int = 32, posterior: PosteriorName = "diagonal",
                 flow_steps: int = 2, flow_width: int = 320, maps: tuple[int, ...] = (16, 32, 32), hidden: int = 450,
                 num_samples: int = 1, warm_up: float = 0.0, free_bits: float = 0.0,
                 average_decay: float | None = None, learning_rate: float = 2e-3, batch_size: int = 100,
                 schedule: Schedule = "cosine", max_gradient_norm: float | None = None,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        check_positive(latents=latents, hidden=hidden)
        check_widths(maps=maps)
        objective = Objective(
            num_samples=num_samples, warm_up=warm_up, free_bits=free_bits, average_decay=average_decay
        )
        descent = Descent(
            learning_rate=learning_rate, batch_size=batch_size, schedule=schedule,
            max_gradient_norm=max_gradient_norm, validate_every=validate_every,
        )  # fmt: skip
        super().__init__(
            spec,
            encoder=ResidualEncoder(spec, maps, hidden),
            posterior=make_posterior(posterior, hidden, latents, steps=flow_steps, width=flow_width),
            decoder=ResidualDecoder(latents, hidden, maps, spec),
            objective=objective,
            descent=descent,
        )
