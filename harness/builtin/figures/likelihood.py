"""The likelihood board as a chart: a row for each model, best first, with standard errors and rank intervals."""

from typing import Any

import altair as alt
import pandas as pd

from harness import Leaderboard

_KINDS = ["exact", "upper bound", "lower bound", "estimate"]
_COLUMNS = ["label", "nll_nats", "nll_nats_se", "bits_per_dim", "kind", "rank_best", "rank_worst", "seeds"]


def draw(leaderboard: Leaderboard, dataset: str) -> alt.LayerChart | alt.FacetChart | None:
    """Draws the figures of a dataset; None where there is no likelihood."""
    if "likelihood" not in leaderboard.boards:
        return None
    frame = leaderboard.table("likelihood", dataset)
    frame = frame[frame["nll_nats"].notna()].sort_values("nll_nats", kind="stable")
    rows = [
        {name: _plain(value) for name, value in zip(_COLUMNS, values, strict=True)}
        for values in frame[_COLUMNS].astype(object).itertuples(index=False, name=None)
    ]
    if not rows:
        return None
    for row in rows:
        best, worst = row.pop("rank_best"), row.pop("rank_worst")
        row["rank"] = "" if best is None else f"{best}" if best == worst else f"{best}–{worst}"
    labels = [str(row["label"]) for row in rows]
    kinds = [kind for kind in _KINDS if any(row["kind"] == kind for row in rows)]
    tips = [alt.Tooltip(f"{name}:N") for name in ("label", "kind", "nll_nats", "nll_nats_se", "bits_per_dim", "seeds")]
    chart = (
        alt.Chart({"values": rows}, width=420)
        .transform_calculate(
            low="datum.nll_nats - 1.96 * datum.nll_nats_se", high="datum.nll_nats + 1.96 * datum.nll_nats_se"
        )
        .encode(
            y=alt.Y("label:N").title(None).sort(labels).axis(labelLimit=500),
            color=alt.Color("kind:N").title(None).scale(domain=kinds).legend(orient="top"),
            tooltip=tips,
        )
    )
    title = alt.TitleParams(
        f"{leaderboard.title}: {dataset}",
        subtitle="Bars are 95 % intervals over test images. Numbers at the right are rank intervals.",
    )
    x = alt.X("nll_nats:Q").title("negative log-likelihood, nats for an image; lower is better").scale(zero=False)
    ranks = alt.Chart({"values": rows}).encode(
        y=alt.Y("label:N").sort(labels), x=alt.value("width"), text=alt.Text("rank:N")
    )
    return alt.layer(
        chart.mark_rule(strokeWidth=2.5).encode(x=alt.X("low:Q"), x2="high:Q"),
        chart.mark_point(size=32, filled=True, opacity=1).encode(x=x),
        ranks.mark_text(align="left", dx=8, fontSize=12, color="#6b6b6b"),
    ).properties(title=title)


def _plain(value: Any) -> Any:
    """Ten significant digits, which every machine computes alike."""
    if pd.isna(value):
        return None
    return float(f"{value:.10g}") if isinstance(value, float) else value
