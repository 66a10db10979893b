"""The chart of a history: each figure that moved, over the versions, with its interval."""

import math
from typing import Any

import altair as alt

from harness.boards.history import History
from harness.support.numbers import ten_digits

_MOST = 24  # figures


def chart_of(title: str, history: History, versions: list[str]) -> alt.FacetChart:
    """Draws the figures that moved, each on a scale of its own; where none did, the first of those that there are."""
    moved = dict.fromkeys(step.name for step in history.moved)
    rows: list[dict[str, Any]] = []
    for name in list(moved or history.figures)[:_MOST]:
        for version, it in history.figures[name].items():
            half = math.hypot((it.standard_deviation or 0) / math.sqrt(len(it.values)), it.standard_error or 0) * 1.96
            ends = {"value": it.mean, "low": it.mean - half, "high": it.mean + half}
            shown = {"figure": f"{name.label}, {name.dataset}  {name.metric} {it.unit}", "version": version}
            rows.append(shown | {end: ten_digits(value) for end, value in ends.items()})
    base = alt.Chart().encode(x=alt.X("version:N").title(None).sort(versions).axis(labelAngle=-30, labelLimit=120))
    layers = alt.layer(
        base.mark_line(opacity=0.4).encode(y=alt.Y("value:Q").title(None).scale(zero=False)),
        base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q").title(None), y2="high:Q"),
        base.mark_point(filled=True, size=50, opacity=1).encode(y="value:Q"),
        data=alt.InlineData(values=rows),
    ).properties(width=300, height=150)
    header = alt.Header(labelExpr="split(datum.label, '  ')", labelAnchor="start")  # two lines
    facet = alt.Facet("figure:N").title(None).sort(None).header(header)
    chart: alt.FacetChart = layers.facet(facet=facet, columns=2)
    said = "The figures that moved." if moved else "No figure moved."
    chart.title = alt.TitleParams(
        title, subtitle=f"{said} Bars are 95 % intervals of each alone; the tests pair images."
    )
    chart.resolve = alt.Resolve(scale=alt.ScaleResolveMap(y="independent"))
    return chart
