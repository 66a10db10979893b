"""How models use their latents, and how near the bounds on their likelihood are: the board of inference."""

import re
from collections.abc import Sequence
from functools import partial

from harness import Board, BoardRow, Cell, Column, Rows, Table

ACTIVE = "active-units"
_CONVERGED = 1.0  # the most that the variance of log weights over chains may be
_SAME = ("path", "transitions", "chains")
_TEXT = {"": "string"}


class Inference(Board):
    """What latents cost and keep, annealed importance sampling, and its gap; sorted by AIS, and not ranked."""

    name = "inference"
    title = "inference"
    is_ranked = False
    shows = frozenset({"audit", "seeds", "training"})
    nothing = "no latents with a density"
    reading = """
    KL: the divergence from the prior to the posterior, what the latents of an image cost; by layers, the top first.
    Active units: latent units whose posterior mean varies over test images, of all. Reconstruction: -log p(x | z) of
    latents from the posterior, in nats, or the mean square of what a pixel of the decoded posterior mean is off, in
    levels. Negative ELBO = KL + reconstruction.

    Marginal KL: how far the latents of all test images together are from the prior, by a classifier that tells them
    apart, and so at least so much; told apart: how many it tells right, 50 % where they agree.

    AIS: an upper bound on the negative log-likelihood of the test images by annealed importance sampling, which needs
    no good posterior; below IWAE: how much lower than the bound of the most importance samples, which the posterior
    limits. BDMC gap: on images that the model makes, AIS and a bound from the other side lie so far apart. Of these,
    the true value lies between; on test images, it is what to expect.
    """

    def columns(self, rows: Rows) -> Sequence[Column]:
        """One for each metric and protocol, the active units, and what is read beside some of them."""
        made, metrics = list[Column](), {metric.replace("-", "_"): metric for metric in self.metrics(rows)}
        for column in rows.columns_by_protocol(self.metrics(rows)):
            made += [column, *_beside(metrics.get(column.key, ""), column.key)]
        units = Column("active_units", "Active units", higher_is_better=True, decimals=(0, 1), required=False,
                       parts={"": "float64", "_sd": "float64", "_layers": "string"}, cell=_active)  # fmt: skip
        return [*made, units] if any(row.figure(ACTIVE) for row in rows) else made

    def ranked_by(self, columns: Sequence[Column], rows: Rows) -> Column | None:
        """What rows are sorted by: AIS, or the first column."""
        return next((it for it in columns if it.key.startswith("ais_")), rows.first_column(columns))

    def notes(self, table: Table) -> Sequence[str]:
        """Whose chains have not converged."""
        found = [
            f"{row.label} (variance {variance:.2g}, effective sample size {size:.1f})"
            for row in table.rows
            for metric in row.metrics
            if metric.startswith("ais-") and (figure := row.figure(metric)) is not None
            and (variance := figure.detail("log_weight_variance") or 0.0) > _CONVERGED
            and (size := figure.detail("effective_sample_size")) is not None
        ]  # fmt: skip
        why = "AIS's weights vary too much between chains, its bound may be far from tight"
        return [f"Not converged: {why}: {'; '.join(found)}."] if found else []


def both_sides(row: BoardRow) -> Cell | None:
    """AIS's bound on the NLL, and that less the gap of the same transitions, where the gap is below one nat."""
    found = {metric: figure for metric in row.metrics if (figure := row.figure(metric)) is not None}
    for upper in (figure for metric, figure in found.items() if metric.startswith("ais-")):
        for gap in (figure for metric, figure in found.items() if metric.startswith("bdmc-gap-")):
            theirs, ours = gap.scores[0].protocol, upper.scores[0].protocol
            if gap.mean < 1 and all(theirs.get(key) == ours.get(key) for key in _SAME):
                lower = upper.mean - max(0.0, gap.mean)
                return Cell(upper.mean, text=f"{lower:.2f} to {upper.mean:.2f}", more={"_lower": lower})
    return None


BOTH_SIDES = Column("nll_from_both_sides", "NLL, from both sides", "nats", False, required=False,
                    parts={"": "float64", "_lower": "float64"}, cell=both_sides)  # fmt: skip
SAYS_BOTH_SIDES = (
    "NLL, from both sides: AIS's upper bound, and that less the gap that bidirectional Monte Carlo finds on images of "
    "the model's own. The true value of such images lies between; of test images, it is what to expect."
)


def _beside(metric: str, key: str) -> list[Column]:
    """The columns that are read beside that of a metric."""
    if metric == "kl":
        return [Column(f"{key}_layers", "KL by layers", style="text", parts=_TEXT, required=False, cell=_layers)]
    if metric == "marginal-kl":
        return [Column(f"{key}_told_apart", "Told apart", style="percent", parts={"": "float64"}, required=False,
                       cell=_told_apart)]  # fmt: skip
    if metric.startswith("ais-"):
        return [Column(f"{key}_below_iwae", "Below IWAE", "nats", True, decimals=(2, 3), parts={"": "float64"},
                       required=False, cell=partial(_below_iwae, metric))]  # fmt: skip
    return []


def _layers(row: BoardRow) -> Cell | None:
    if (figure := row.figure("kl")) is None:
        return None
    names = sorted((it for it in figure.scores[0].details if it.startswith("layer_")), key=lambda it: int(it[6:-5]))
    return Cell(", ".join(f"{figure.detail(name):.2f}" for name in names)) if len(names) > 1 else None


def _told_apart(row: BoardRow) -> Cell | None:
    figure = row.figure("marginal-kl")
    return None if figure is None else Cell(figure.detail("accuracy"))


def _below_iwae(metric: str, row: BoardRow) -> Cell | None:
    bounds = {int(it[5:]): it for it in row.metrics if re.fullmatch(r"iwae-\d+", it) and row.figure(it) is not None}
    ais, iwae = row.figure(metric), row.figure(bounds[max(bounds)]) if bounds else None
    return None if ais is None or iwae is None else Cell(iwae.mean - ais.mean, note=f" (K = {max(bounds):,})")


def _active(row: BoardRow) -> Cell | None:
    if (figure := row.figure(ACTIVE)) is None:
        return None
    units = figure.detail("units")
    layers = [
        f"{figure.detail(f'layer_{layer}_active'):.0f} of {figure.detail(f'layer_{layer}_units'):.0f}"
        for layer in range(1, 1 + sum(name.endswith("_active") for name in figure.scores[0].details))
    ]
    note = "" if units is None else f" of {units:,.0f}"
    note += f" ({', '.join(layers)})" if len(layers) > 1 else ""
    return Cell(figure.mean, figure.standard_deviation, note=note, more={"_layers": ", ".join(layers) or None})
