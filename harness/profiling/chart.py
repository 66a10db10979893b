"""The plot of a profile: seconds of a call against pixels, both logarithmic; a panel a machine and batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.profiling.canvas import Drawing, Item, Line, Mark, Point, Shape, Text
from harness.profiling.measurement import Measurement
from harness.profiling.tables import MachineTables
from harness.report.values import seconds

# Okabe & Ito 2008: told apart by everybody
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F", "#7F7F7F")
_MARKS: tuple[Shape, ...] = ("circle", "square", "triangle", "diamond", "down", "cross")
_DASHES: tuple[tuple[float, ...], ...] = ((), (6, 3), (2, 2), (8, 3, 2, 3), (1, 3), (12, 3))
_GREY, _INK = "#d9d9d9", "#222222"
_PANEL, _TALL, _LEFT, _GAP, _TOP, _BOTTOM = 300.0, 330.0, 62.0, 64.0, 74.0, 46.0
_LINE_HEIGHT = 16.0


@dataclass(frozen=True)
class _Frame:
    """A panel's place, and the logarithms at its edges."""

    left: float
    top: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, pixels: float, value: float) -> Point:
        """Where a point is drawn."""
        across = (math.log10(pixels) - self.x[0]) / (self.x[1] - self.x[0])
        up = (math.log10(value) - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * _PANEL, self.top + (1 - up) * _TALL


def draw_chart(title: str, machines: Sequence[MachineTables]) -> Drawing | None:
    """Draws all machines' measurements; None where there is no figure.

    Colours are models, marks and dashes are samplers; extrapolated points are hollow; grey lines have slopes 1 and 2.
    """
    shown = [(tables, [item for item in tables.measurements if item.shown]) for tables in machines]
    shown = [(tables, items) for tables, items in shown if items]
    if not shown:
        return None
    everything = [item for _, items in shown for item in items]
    labels = list(dict.fromkeys(item.label for item in everything))
    samplers = list(dict.fromkeys(item.sampler for item in everything))
    batches = sorted({item.batch_size for item in everything})
    items: list[Item] = [Text((_LEFT, 26), title, 15)]
    for row, (tables, own) in enumerate(shown):
        top = _TOP + row * (_TALL + _TOP + _BOTTOM)
        items.append(Text((_LEFT, top - 30), tables.hardware, 11, color="#555555"))
        y = _limits([item.median_seconds for item in own])
        x = _limits([item.pixels for item in own])
        for column, batch_size in enumerate(batches):
            frame = _Frame(_LEFT + column * (_PANEL + _GAP), top, x, y)
            points = [item for item in own if item.batch_size == batch_size]
            items += _panel(frame, points, batch_size, labels, samplers)
    legend = _LEFT + len(batches) * (_PANEL + _GAP) - _GAP + 24
    entries = list(dict.fromkeys((item.label, item.sampler) for item in everything))
    items += _legend(legend, entries, labels, samplers)
    width = legend + 44 + 6.4 * max(len(f"{label}, {sampler}") for label, sampler in entries)
    height = max(len(shown) * (_TALL + _TOP + _BOTTOM), _TOP + _LINE_HEIGHT * (len(entries) + 3))
    return Drawing(math.ceil(width), math.ceil(height), tuple(items))


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    edge = max(0.12, 0.06 * (high - low))
    return low - edge, high + edge


def _panel(
    frame: _Frame, measurements: Sequence[Measurement], batch_size: int, labels: Sequence[str], samplers: Sequence[str]
) -> list[Item]:
    left, top, right, bottom = frame.left, frame.top, frame.left + _PANEL, frame.top + _TALL
    items: list[Item] = [Text((left, top - 10), f"batch {batch_size}: time of a call", 12)]
    for power in range(math.ceil(frame.y[0]), math.floor(frame.y[1]) + 1):
        y = frame.at(10 ** frame.x[0], 10.0**power)[1]
        items += [
            Line(((left, y), (right, y)), _GREY, 0.8),
            Text((left - 6, y + 4), _tick(power), 10, "end"),
        ]
    last = -math.inf
    for pixels, size in sorted({(item.pixels, f"{item.height}x{item.width}") for item in measurements}):
        x = frame.at(pixels, 10 ** frame.y[0])[0]
        items.append(Line(((x, top), (x, bottom)), _GREY, 0.8))
        if x - last > 36:
            items.append(Text((x, bottom + 16), size, 10, "middle"))
            last = x
    items.append(Text((right, bottom + 32), "pixels", 10, "end", "#555555"))
    for slope in (1, 2):
        items += _guide(frame, slope)
    items.append(Line(((left, top), (right, top), (right, bottom), (left, bottom), (left, top)), "#888888", 1))
    series: dict[tuple[str, str, int, int], list[Measurement]] = {}
    for item in measurements:
        series.setdefault((item.label, item.sampler, item.channels, item.levels), []).append(item)
    for (label, sampler, *_), points in series.items():
        color, shape, dash = _look(label, sampler, labels, samplers)
        points = sorted(points, key=lambda item: item.pixels)
        places = tuple(frame.at(item.pixels, item.median_seconds) for item in points)
        if len(places) > 1:
            items.append(Line(places, color, 1.5, dash))
        items += [
            Mark(place, shape, color, item.extrapolated_from is None)
            for place, item in zip(places, points, strict=True)
        ]
    return items


def _guide(frame: _Frame, slope: int) -> list[Item]:
    """A grey line of a slope, from the lower left corner, as far as it stays inside."""
    reach = min(frame.x[1] - frame.x[0], (frame.y[1] - frame.y[0]) / slope)
    if reach <= 0:
        return []
    start = frame.at(10 ** frame.x[0], 10 ** frame.y[0])
    end = frame.at(10 ** (frame.x[0] + reach), 10 ** (frame.y[0] + slope * reach))
    at = (end[0] - 4, end[1] + 14) if end[1] < frame.top + 1 else (end[0] - 4, end[1] - 5)
    return [Line((start, end), "#a8a8a8", 1, (3, 3)), Text(at, f"slope {slope}", 9, "end", "#7a7a7a")]


def _look(
    label: str, sampler: str, labels: Sequence[str], samplers: Sequence[str]
) -> tuple[str, Shape, tuple[float, ...]]:
    number = samplers.index(sampler)
    return _COLORS[labels.index(label) % len(_COLORS)], _MARKS[number % len(_MARKS)], _DASHES[number % len(_DASHES)]


def _legend(
    left: float, entries: Sequence[tuple[str, str]], labels: Sequence[str], samplers: Sequence[str]
) -> list[Item]:
    items: list[Item] = []
    for number, (label, sampler) in enumerate(entries):
        y = _TOP + 6 + number * _LINE_HEIGHT
        color, shape, dash = _look(label, sampler, labels, samplers)
        items += [
            Line(((left, y), (left + 28, y)), color, 1.5, dash),
            Mark((left + 14, y), shape, color),
            Text((left + 36, y + 4), f"{label}, {sampler}", 11),
        ]
    y = _TOP + 6 + len(entries) * _LINE_HEIGHT
    return [*items, Mark((left + 14, y), "circle", _INK, False), Text((left + 36, y + 4), "hollow: extrapolated", 11)]


def _tick(power: int) -> str:
    value = 10.0**power
    return seconds(value).replace(".00", "").replace(".0", "") if power <= 0 else f"{value:,.0f} s"
