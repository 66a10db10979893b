"""The plot of a profile: seconds of a call against pixels, in powers of ten, one panel below another.

A panel is of one machine, one batch size, and models as initialised or trained. Lines are named where they end, in a
column at the right, where they are pushed apart, and thin lines lead to them.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import altair as alt
from scipy.optimize import isotonic_regression

from harness.profiling.comparison import bits_of
from harness.profiling.overtaking import overtakings, size_of
from harness.profiling.profile import Measurement
from harness.profiling.tables import MachineTables
from harness.support.numbers import fixed, seconds, ten_digits

_Limits = tuple[tuple[float, float], tuple[float, float]]
_DASHES: list[Any] = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [12, 3]]
_SHAPES: list[Any] = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross"]
_GREY = "#6b6b6b"
_WIDTH, _HEIGHT, _LINE = 300, 300, 15  # of a panel, and of a name, in pixels
_WIDER = 50  # what names may take more in a browser that has other letters
_SECONDS = "datum.value < 1e-3 ? datum.value * 1e6 + ' µs' : datum.value < 1 ? datum.value * 1e3 + ' ms'"
_SECONDS += " : format(datum.value, ',') + ' s'"
_READING = (
    "Bars are quartiles over rounds, mostly shorter than the marks. Hollow marks are extrapolated.",
    "b: the exponent of seconds ~ pixels^b, where it is known; grey lines: b = 1, b = 2.",
    "bits: what a trained model pays, bits a dimension. Ring: from there on, a model is the fastest.",
)


def draw_plot(title: str, machines: Sequence[MachineTables]) -> alt.VConcatChart | None:
    """Draws all machines' measurements, colours for models, marks and dashes for samplers; None without a figure."""
    everything = [item for tables in machines for item in tables.measurements if item.shown]
    if not everything:
        return None
    labels = list(dict.fromkeys(item.label for item in everything))
    samplers = list(dict.fromkeys(item.sampler for item in everything))
    count = len(samplers)
    dashes, shapes = (alt.Scale(domain=samplers, range=(marks * count)[:count]) for marks in (_DASHES, _SHAPES))
    looks = [
        alt.Color("model:N", scale=alt.Scale(domain=labels), legend=None),
        alt.Fill("model:N", scale=alt.Scale(domain=labels), legend=None),
        alt.StrokeDash("sampler:N", scale=dashes, legend=None),
        alt.Shape("sampler:N", scale=shapes, legend=None),
    ]
    rows = []
    for tables in machines:
        own = [item for item in tables.measurements if item.shown]
        panels = []
        for weights in dict.fromkeys(item.weights for item in own):
            alike = [item for item in own if item.weights == weights]
            left, right = _limits([item.pixels for item in alike])
            limits = (left, right), _limits([item.median_seconds for item in alike])
            for batch_size in sorted({item.batch_size for item in alike}):
                said = f"batch {batch_size}, {'trained' if weights == 'trained' else 'weights as initialised'}"
                items = [item for item in alike if item.batch_size == batch_size]
                panels.append(_panel(tables, items, said, limits, looks))
        if panels:
            machine = alt.TitleParams(tables.hardware, fontSize=13)
            rows.append(alt.vconcat(*panels, spacing=20).properties(title=machine))
    heading = alt.TitleParams(title, subtitle=list(_READING), offset=12)
    return alt.vconcat(*rows).properties(title=heading, padding={"left": 5, "top": 5, "right": _WIDER, "bottom": 5})


def _panel(
    tables: MachineTables, items: Sequence[Measurement], heading: str, limits: _Limits, looks: Sequence[Any]
) -> alt.LayerChart | alt.FacetChart:
    sizes = {item.pixels: item.size for item in sorted(items, key=lambda item: item.pixels)}
    powers = [10.0**power for power in range(math.ceil(math.log10(limits[1][0])), 1 + int(math.log10(limits[1][1])))]
    by_size = alt.Axis(values=list(sizes), labelExpr=f"({json.dumps(sizes)})[datum.value]", labelOverlap="greedy")
    height = max(_HEIGHT, _LINE * (1 + len({(item.label, item.sampler) for item in items})))
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
    ends = alt.Chart({"values": _ends(tables, items, limits, _LINE / height)}).encode(x=x, y=y, detail="name:N")
    written = ends.transform_filter("datum.is_name").encode(text="name:N")
    names = alt.layer(
        ends.mark_line(strokeWidth=0.7).encode(color=color),
        written.mark_text(align="left", dx=4, fontSize=11, color="#333333"),
    )
    title = alt.TitleParams(heading, fontSize=13, color=_GREY)
    layers = [_guides(limits)] * (len(sizes) > 1) + [measured, names, *_ring(tables, items, x, y)]
    return alt.layer(*layers).properties(title=title, width=_WIDTH, height=height)


def _point(tables: MachineTables, item: Measurement) -> dict[str, object]:
    scaling = tables.scaling_of(item)
    low, high = item.quartiles_seconds
    return {
        "model": item.label, "sampler": item.sampler, "space": f"{item.channels} {item.levels}",
        "size": item.size, "pixels": item.pixels, "seconds": item.median_seconds,
        "low": low, "high": high, "extrapolated": item.extrapolated_from is not None,
        "time": seconds(item.median_seconds),
        "growth": "" if scaling is None or scaling.seconds is None else str(scaling.seconds),
        "certificate": "" if item.certificate is None else item.certificate.status,
    }  # fmt: skip


def _ends(tables: MachineTables, items: Sequence[Measurement], limits: _Limits, line: float) -> list[dict[str, Any]]:
    """Two points for each line: where it ends, and where its name stands, a ``line`` of the height from the next."""
    last = {(it.label, it.sampler, it.channels, it.levels): it for it in sorted(items, key=lambda item: item.pixels)}
    lines = sorted(last.values(), key=lambda item: (item.median_seconds, item.label, item.sampler))
    low, high = (math.log(end) for end in limits[1])
    places, found = apart([math.log(item.median_seconds) for item in lines], low, high, (high - low) * line), []
    for item, place in zip(lines, places, strict=True):
        law, bits = tables.scaling_of(item), "" if item.bits_per_dim is None else f", {bits_of(item)} bits"
        growth = "" if law is None or law.seconds is None else f", b = {fixed(law.seconds.exponent, 2)}"
        name = {"model": item.label, "name": f"{item.label}, {item.sampler}{bits}{growth}"}
        found.append(name | {"pixels": item.pixels, "seconds": item.median_seconds, "is_name": False})
        found.append(name | {"pixels": limits[0][1], "seconds": ten_digits(math.exp(place)), "is_name": True})
    return found


def apart(places: Sequence[float], low: float, high: float, step: float) -> list[float]:
    """Moves sorted places as little as can be, in squares, until each is a ``step`` from the next, inside two ends."""
    pulled = isotonic_regression([place - number * step for number, place in enumerate(places)]).x
    bottom, top = low + step / 2, high - (len(places) - 0.5) * step
    return [min(max(place, bottom), top) + number * step for number, place in enumerate(pulled.tolist())]


def _ring(tables: MachineTables, items: Sequence[Measurement], x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """A mark where a model overtakes all others, with its name and the size."""
    values = [
        {"pixels": point[0], "seconds": point[1], "says": f"{found.ours[0].label}\novertakes at\n{size_of(point[0])}"}
        for found in overtakings(tables)
        if found.ours[0] in items and (point := found.point) is not None
    ]
    rings = alt.Chart({"values": values}).encode(x=x, y=y)
    mark = rings.mark_point(shape="circle", size=260, filled=False, color="#000000", strokeWidth=1.6, opacity=1)
    says = rings.mark_text(align="left", dx=4, dy=18, fontSize=11, color="#000000", lineBreak="\n")
    return [mark, says.encode(text="says:N")] if values else []


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
        named.mark_text(align="right", dx=-14, dy=-2, color=_GREY, fontSize=11),
    )
