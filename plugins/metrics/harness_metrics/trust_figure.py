"""Metrics of samples against the strength of each damage: a row of small panels for each metric, a panel a damage."""

from __future__ import annotations

from collections.abc import Iterable

import altair as alt
import numpy as np

from harness import Leaderboard
from harness_metrics.trust import DAMAGES, Trust, metrics_of, trust_in

_WIDTH, _HEIGHT = 72, 44  # pixels of a panel


def draw(leaderboard: Leaderboard, dataset: str) -> alt.FacetChart | None:
    """Draws the metrics that were tried on damaged images, each network's of the most samples; None where none was."""
    rows = leaderboard.rows.on(dataset)
    most: dict[tuple[str, str], tuple[int, str]] = {}
    for metric in metrics_of(rows):
        facts = rows.facts[metric]
        key = facts.header or metric, facts.protocol.get("features", "").partition(",")[0]
        most[key] = max(most.get(key, (-1, "")), (int(facts.protocol.get("samples", "0")), metric))
    values = [
        {"metric": header, "network": network, **point}
        for (header, network), (_, metric) in most.items()
        for point in _points(trust_in(rows, metric))
    ]
    if not values:
        return None
    metrics = list(dict.fromkeys(str(value["metric"]) for value in values))
    damages = [damage for damage in DAMAGES if any(value["damage"] == damage for value in values)]
    x = alt.X("strength:Q").title(None).scale(domain=[0, 1]).axis(values=[0, 0.5, 1], labelFontSize=9)
    scale = alt.Scale(type="symlog", constant=2)
    y = alt.Y("worse:Q").title(None).scale(scale).axis(values=[-100, 0, 100], grid=False, labelFontSize=9)
    tips = [alt.Tooltip(f"{name}:N") for name in ("metric", "network", "damage", "strength", "worse", "low", "high")]
    color = alt.Color("network:N").title(None).legend(orient="top")
    chart = alt.Chart(width=_WIDTH, height=_HEIGHT).encode(x=x, color=color, tooltip=tips)
    zero = alt.Chart().mark_rule(color="#888888").encode(y=alt.datum(0))
    title = alt.TitleParams(
        f"{leaderboard.title}: {dataset}",
        subtitle=[
            "By how many standard deviations over seeds a metric says that damaged images are worse, against strength.",
            "Up is worse; below the line a metric rewards the damage. Bars: the range over seeds. Symmetric log axis.",
        ],
    )
    layers = alt.layer(
        zero,
        chart.mark_line(strokeWidth=1.5).encode(y=y),
        chart.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q"), y2="high:Q"),
        chart.mark_point(size=12, filled=True, opacity=1).encode(y=y),
        data={"values": values},
    )
    return layers.facet(
        row=alt.Row("metric:N").title(None).sort(metrics).header(labelAngle=0, labelAlign="left", labelFontSize=11),
        column=alt.Column("damage:N").title(None).sort(damages).header(labelFontSize=11),
        spacing={"row": 6, "column": 8},
        title=title,
    )


def _points(trust: Trust) -> Iterable[dict[str, object]]:
    """The mean and the range over seeds, in standard deviations over seeds above the mean of undamaged images."""
    for damage, curve in trust.curves.items():
        for strength, values in sorted(curve.items()):
            if trust.spread:
                above = (np.array(values) - np.mean(curve[0.0])) / trust.spread
                numbers = {"worse": above.mean(), "low": above.min(), "high": above.max()}
                rounded = {name: float(f"{number:.10g}") for name, number in numbers.items()}
                yield {"damage": damage, "strength": strength, **rounded}
