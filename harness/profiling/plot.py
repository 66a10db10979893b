"""The plot of a profile: seconds of a call against pixels, in powers of ten; a panel for each batch and machine."""

import json
import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from harness.profiling.profile import Measurement
from harness.profiling.tables import MachineTables
from harness.support.numbers import fixed, seconds, ten_digits

_Limits = tuple[tuple[float, float], tuple[float, float]]
_DASHES: list[Any] = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [12, 3]]
_SHAPES: list[Any] = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross"]
_GREY = "#7a7a7a"
_SECONDS = "datum.value < 1e-3 ? datum.value * 1e6 + ' µs' : datum.value < 1 ? datum.value * 1e3 + ' ms'"
_SECONDS += " : format(datum.value, ',') + ' s'"
_READING = (
    "Bars are quartiles over rounds, mostly shorter than the marks. Hollow marks are extrapolated.",
    "Numbers at the ends of lines are the exponents b of seconds ~ pixels^b, sizes of 16 and more; grey: b = 1, b = 2.",
)


def draw_plot(title: str, machines: Sequence[MachineTables]) -> alt.VConcatChart | None:
    """Draws all machines' measurements, colours for models, marks and dashes for samplers; None without a figure."""
    shown = [(tables, [item for item in tables.measurements if item.shown]) for tables in machines]
    everything = [item for _, own in shown for item in own]
    if not everything:
        return None
    labels = list(dict.fromkeys(item.label for item in everything))
    samplers = list(dict.fromkeys(item.sampler for item in everything))
    count = len(samplers)
    dashes, shapes = (alt.Scale(domain=samplers, range=(marks * count)[:count]) for marks in (_DASHES, _SHAPES))
    looks = [
        alt.Color("model:N", title="model", scale=alt.Scale(domain=labels)),
        alt.Fill("model:N", title="model", scale=alt.Scale(domain=labels)),
        alt.StrokeDash("sampler:N", title="sampler", scale=dashes),
        alt.Shape("sampler:N", title="sampler", scale=shapes),
    ]
    rows, sizes = [], sorted({item.batch_size for item in everything})
    for tables, own in shown:
        if own:
            left, right = _limits([item.pixels for item in own])
            limits = (left, 1.6 * right), _limits([item.median_seconds for item in own])
            panels = [_panel(tables, [item for item in own if item.batch_size == n], n, limits, looks) for n in sizes]
            heading = alt.TitleParams(tables.hardware, fontSize=13)
            rows.append(alt.hconcat(*panels, spacing=30).properties(title=heading))
    return alt.vconcat(*rows).properties(title=alt.TitleParams(title, subtitle=list(_READING), offset=12))


def _panel(
    tables: MachineTables, items: Sequence[Measurement], batch_size: int, limits: _Limits, looks: Sequence[Any]
) -> alt.LayerChart | alt.FacetChart:
    sizes = {item.pixels: item.size for item in sorted(items, key=lambda item: item.pixels)}
    powers = [10.0**power for power in range(math.ceil(math.log10(limits[1][0])), 1 + int(math.log10(limits[1][1])))]
    by_size = alt.Axis(values=list(sizes), labelExpr=f"({json.dumps(sizes)})[datum.value]", labelOverlap="greedy")
    across, up = (alt.Scale(type="log", domain=domain, nice=False) for domain in limits)
    x = alt.X("pixels:Q", title="pixels", scale=across, axis=by_size)
    y = alt.Y("seconds:Q", title="time of a call", scale=up, axis=alt.Axis(values=powers, labelExpr=_SECONDS))
    color, fill, dash, shape = looks
    tips = [alt.Tooltip(f"{name}:N") for name in ("model", "sampler", "size", "time", "growth", "certificate")]
    points = alt.Chart({"values": [_point(tables, item) for item in items]}).encode(x=x, tooltip=tips)
    marks = points.mark_point(size=55, opacity=1, strokeWidth=1.4).encode(y=y, color=color, shape=shape)
    measured = alt.layer(
        points.mark_line(strokeWidth=1.6).encode(y=y, color=color, strokeDash=dash, detail="space:N"),
        points.mark_rule(strokeWidth=1.6).encode(y=alt.Y("low:Q"), y2="high:Q", color=color),
        marks.transform_filter("!datum.extrapolated").encode(fill=fill),
        marks.transform_filter("datum.extrapolated").encode(fill=alt.value("#ffffff")),
    )
    ends = alt.Chart({"values": _ends(tables, items, limits[1])}).encode(x=x, y=y, color=color)
    exponents = ends.mark_text(align="left", dx=8, fontSize=11).encode(text="exponent:N")
    title = alt.TitleParams(f"batch {batch_size}", fontSize=13, color=_GREY)
    return alt.layer(_guides(limits), measured, exponents).properties(title=title)


def _point(tables: MachineTables, item: Measurement) -> dict[str, object]:
    scaling = tables.scaling_of(item)
    low, high = item.quartiles_seconds
    return {
        "model": item.label, "sampler": item.sampler, "space": f"{item.channels} {item.levels}",
        "size": item.size, "pixels": item.pixels, "seconds": item.median_seconds,
        "low": low, "high": high, "extrapolated": item.extrapolated_from is not None,
        "time": seconds(item.median_seconds), "growth": "" if scaling is None else str(scaling.seconds),
        "certificate": "" if item.certificate is None else item.certificate.status,
    }  # fmt: skip


def _ends(tables: MachineTables, items: Sequence[Measurement], limits: tuple[float, float]) -> list[dict[str, Any]]:
    """The exponents, each at the end of its line, or above another one that is in its place."""
    found, taken = [], dict[int, float]()
    for item in sorted(items, key=lambda item: item.median_seconds):
        scaling = tables.scaling_of(item)
        if scaling is not None and item.height == max(scaling.sizes):
            place = max(item.median_seconds, taken.get(item.pixels, 0.0) * (limits[1] / limits[0]) ** 0.04)
            taken[item.pixels] = place
            end = {"pixels": item.pixels, "seconds": ten_digits(place), "exponent": fixed(scaling.seconds.exponent, 2)}
            found.append({"model": item.label, **end})
    return found


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest value, and some space around them."""
    edge = max(1.3, (max(values) / min(values)) ** 0.06)
    return ten_digits(min(values) / edge), ten_digits(max(values) * edge)


def _guides(limits: _Limits) -> alt.LayerChart | alt.FacetChart:
    """Grey lines of slope 1 and 2, from the lower left corner, as far as they stay inside."""
    (left, right), (low, high) = limits
    reaches = {slope: min(right / left, (high / low) ** (1 / slope)) for slope in (1, 2)}
    values = [
        {"pixels": ten_digits(left * part), "seconds": ten_digits(low * part**slope), "slope": slope, "end": part > 1}
        for slope, reach in reaches.items()
        for part in (1.0, reach)
    ]
    guides = alt.Chart({"values": values}).encode(x="pixels:Q", y="seconds:Q", detail="slope:N")
    named = guides.transform_filter("datum.end").encode(text=alt.Text("slope:N"))
    return alt.layer(
        guides.mark_line(color="#a8a8a8", strokeWidth=1, strokeDash=[3, 3]),
        named.mark_text(align="right", dx=-6, dy=12, color=_GREY, fontSize=11),
    )
