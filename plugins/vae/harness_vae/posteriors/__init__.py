"""Approximate posteriors of one layer of latents, by name."""

from __future__ import annotations

from typing import Literal, get_args

from harness_layers.checks import check_choice, check_positive
from harness_vae.posteriors.autoregressive import IAFStep, LinearIAFStep
from harness_vae.posteriors.coupling import CouplingStep
from harness_vae.posteriors.full_covariance import FullCovariance
from harness_vae.posteriors.planar_radial import PlanarStep, RadialStep
from harness_vae.posteriors.posterior import FlowPosterior, Posterior, Step

PosteriorName = Literal["diagonal", "full-covariance", "planar", "radial", "nice", "linear-iaf", "iaf"]


def make_posterior(name: PosteriorName, num_features: int, size: int, *, steps: int, width: int) -> Posterior:
    """Returns a posterior of ``size`` latents given ``num_features`` features.

    Args:
        name: ``diagonal`` or ``full-covariance``, Gaussians; ``linear-iaf``, a Gaussian as well; or ``planar``,
            ``radial``, ``nice`` or ``iaf``, flows of several steps.
        num_features: F.
        size: D.
        steps: how many a flow has.
        width: of the hidden layers in each step of ``nice`` and ``iaf``.

    Raises:
        ValueError: an unknown name, a number that is not positive.
    """
    check_choice(get_args(PosteriorName), posterior=name)
    check_positive(flow_steps=steps, flow_width=width)
    if name == "full-covariance":
        return FullCovariance(num_features, size)

    def step(index: int) -> Step:
        odd = index % 2 == 1
        match name:
            case "planar":
                return PlanarStep(num_features, size)
            case "radial":
                return RadialStep(num_features, size)
            case "nice":
                return CouplingStep(num_features, size, width, odd=odd)
            case "iaf":
                return IAFStep(num_features, size, width, backwards=odd)
            case _:
                return LinearIAFStep(num_features, size)

    count = {"diagonal": 0, "linear-iaf": 1}.get(name, steps)
    return FlowPosterior(num_features, size, [step(index) for index in range(count)])
