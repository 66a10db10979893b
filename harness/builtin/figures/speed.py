"""Sampling speed against likelihood: a point for each row on each machine, named at the right."""

import math
from collections.abc import Sequence

import altair as alt
import pandas as pd

from harness import Leaderboard

_SPEEDS = ["fastest_images_per_second", "sampling_images_per_second"]
_WIDTH, _HEIGHT, _LINE = 480, 380, 15  # pixels; the last is from one name to the next
_SHAPES = {"exact": "circle", "upper bound": "triangle-down", "estimate": "diamond"}


def draw(leaderboard: Leaderboard, dataset: str) -> alt.VConcatChart | None:
    """Draws a panel for each machine; None where no row has both a likelihood and a sampling speed."""
    if not {"likelihood", "throughput"} <= set(leaderboard.boards):
        return None
    speeds, scores = (leaderboard.table(board, dataset) for board in ("throughput", "likelihood"))
    speeds["speed"] = speeds[[name for name in _SPEEDS if name in speeds]].max(axis=1)
    is_in_bits = scores["metric"].str.startswith("bits-per-dim").any()
    scores = scores[scores["role"] == "model"].assign(score=scores["bits_per_dim" if is_in_bits else "nll_nats"])
    both = scores[["label", "kind", "score"]].merge(speeds[["label", "hardware", "fingerprint", "speed"]], on="label")
    both = both[(both["score"] > 0) & (both["speed"] > 0)].sort_values(["score", "label"], kind="stable")
    if both.empty:
        return None
    unit = "bits/dim" if is_in_bits else "negative log-likelihood, nats"
    panels = [_panel(part, f"{unit}").properties(title=f"on {hardware}" if hardware else "")
              for (hardware, _), part in both.groupby(["hardware", "fingerprint"], dropna=False)]  # fmt: skip
    title = alt.TitleParams(
        f"{leaderboard.title}: {dataset}",
        subtitle="The fastest sampler that was measured against the likelihood, on logarithmic axes. Lower is better.",
    )
    return alt.vconcat(*panels, title=title)


def _panel(rows: pd.DataFrame, unit: str) -> alt.LayerChart | alt.FacetChart:
    """One machine: the best row is at the bottom, the fastest at the right."""
    scores, speeds = ([_plain(value) for value in rows[name]] for name in ("score", "speed"))
    height = max(_HEIGHT, 2 * _LINE * len(rows))
    logs = [math.log(score) for score in scores]
    line = (logs[-1] - logs[0] or 1.0) * _LINE / (height - 4 * _LINE)
    names_at = _apart(logs, line)
    places = [math.exp(place) for place in names_at]
    columns = zip(map(str, rows["label"]), map(str, rows["kind"]), scores, speeds, map(_plain, places), strict=True)
    values = [dict(zip(("label", "kind", "score", "speed", "place"), row, strict=True)) for row in columns]
    ends = [min(logs[0], names_at[0]) - line, max(logs[-1], names_at[-1]) + line]
    first, last = math.floor(math.log10(min(speeds))), math.floor(math.log10(max(speeds))) + 1
    steps = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [step * 10.0**power for power in range(first, last) for step in steps] + [10.0**last]
    x = alt.X("speed:Q").title("samples, images a second").axis(values=ticks)
    x = x.scale(type="log", domain=[ticks[0], ticks[-1]], nice=False)
    y = alt.Y("score:Q").title(unit).scale(type="log", domain=[_plain(math.exp(end)) for end in ends], nice=False)
    kinds = [kind for kind in _SHAPES if any(row["kind"] == kind for row in values)]
    chart = alt.Chart({"values": values}, width=_WIDTH, height=height)
    tips = [alt.Tooltip(f"{name}:N") for name in ("label", "kind", "score", "speed")]
    points = chart.mark_point(size=60, filled=True, opacity=1).encode(
        x, y, tooltip=tips,
        shape=alt.Shape("kind:N").title(None).scale(domain=kinds, range=[_SHAPES[kind] for kind in kinds]),
        color=alt.Color("kind:N").title(None).scale(domain=kinds).legend(orient="top"),
    )  # fmt: skip
    lines = chart.mark_rule(color="#c8c8c8").encode(x, y, x2=alt.value(_WIDTH), y2="place:Q")
    names = chart.mark_text(align="left", dx=6, fontSize=12).encode(x=alt.value(_WIDTH), y="place:Q", text="label:N")
    return alt.layer(lines, points, names)


def _apart(scores: Sequence[float], line: float) -> list[float]:
    """Returns where names stand, for rising scores: a line apart at least, as near to the scores as can be.

    In the least squares it is the isotonic regression of the scores less their index times a line: neighbours in the
    wrong order share their mean.
    """
    blocks: list[tuple[float, int]] = []  # mean and size
    for index, score in enumerate(scores):
        mean, size = score - index * line, 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    means = [mean for mean, size in blocks for _ in range(size)]
    return [mean + index * line for index, mean in enumerate(means)]


def _plain(value: float) -> float:
    """Ten significant digits, which every machine computes alike."""
    return float(f"{value:.10g}")
