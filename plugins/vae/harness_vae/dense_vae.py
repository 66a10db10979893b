"""A VAE of dense networks, as deep as is asked for on either side, with a posterior by name."""

from __future__ import annotations

from harness import ImageSpec
from harness_layers.checks import check_positive
from harness_layers.descent import Descent
from harness_layers.schedules import Schedule
from harness_vae.dense import DenseDecoder, DenseEncoder
from harness_vae.latent_model import Objective
from harness_vae.posteriors import PosteriorName, make_posterior
from harness_vae.single_layer import SingleLayerVAE


class DenseVAE(SingleLayerVAE):
    """Dense networks around one layer of latents: the setting of Rezende & Mohamed 2015, arXiv 1505.05770.

    Args:
        spec: the sample space; two levels have a Bernoulli decoder, more a softmax over all levels.
        latents: D.
        width: of all hidden layers of encoder and decoder.
        encoder_layers, decoder_layers: how many of them each has.
        posterior: see ``harness_vae.posteriors.make_posterior``.
        flow_steps, flow_width: of a posterior that is a flow.
        num_samples, warm_up, free_bits, average_decay: see ``harness_vae.latent_model.Objective``.
        learning_rate, batch_size, schedule, max_gradient_norm, validate_every: see ``harness_layers.descent.Descent``.

    Raises:
        ValueError: a number out of its range, an unknown word.
    """

    default_budget = "100 epochs"

    def __init__(self, spec: ImageSpec, *, latents: int = 40, width: int = 400, encoder_layers: int = 2,
                 decoder_layers: int = 2, posterior: PosteriorName = "diagonal", flow_steps: int = 10,
                 flow_width: int = 100, num_samples: int = 1, warm_up: float = 0.0, free_bits: float = 0.0,
                 average_decay: float | None = None, learning_rate: float = 1e-3, batch_size: int = 100,
                 schedule: Schedule = "cosine", max_gradient_norm: float | None = None,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        check_positive(latents=latents, width=width, encoder_layers=encoder_layers, decoder_layers=decoder_layers)
        objective = Objective(
            num_samples=num_samples, warm_up=warm_up, free_bits=free_bits, average_decay=average_decay
        )
        descent = Descent(
            learning_rate=learning_rate, batch_size=batch_size, schedule=schedule,
            max_gradient_norm=max_gradient_norm, validate_every=validate_every,
        )  # fmt: skip
        super().__init__(
            spec,
            encoder=DenseEncoder(spec, [width] * encoder_layers),
            posterior=make_posterior(posterior, width, latents, steps=flow_steps, width=flow_width),
            decoder=DenseDecoder(latents, [width] * decoder_layers, spec),
            objective=objective,
            descent=descent,
        )
