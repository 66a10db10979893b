"""The built-in figures, registered through the same hook as anyone's. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from harness import FigureEntry, hookimpl


@hookimpl
def register_figures() -> Sequence[FigureEntry]:
    """Returns the entries of the built-in figures."""
    return [
        FigureEntry(
            "samples",
            "harness.builtin.figures.samples:draw",
            summary="the first samples of each model, and real images beside them",
            requires="Model",
            data=True,
        ),
        FigureEntry(
            "receptive-field",
            "harness.builtin.figures.receptive_field:draw",
            summary="which past pixels the centre pixel's conditional sees, and how much they matter to it",
            paper="van den Oord et al. 2016",
            requires="Autoregressive",
        ),
        FigureEntry(
            "likelihood",
            "harness.builtin.figures.likelihood:draw",
            summary="negative log-likelihoods and bounds with their standard errors and ranks",
        ),
    ]
