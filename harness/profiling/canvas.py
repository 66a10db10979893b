"""A drawing of lines, marks and texts, written as SVG or as PNG; the same drawing gives the same SVG, byte for byte."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]
Shape = Literal["circle", "square", "diamond", "triangle", "cross", "down"]

_OVERSAMPLING = 3
_PNG_SCALE = 1.5
_FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Line:
    """A polyline; ``dash`` are the lengths of strokes and gaps, none for a solid line."""

    points: tuple[Point, ...]
    color: str
    width: float = 1.5
    dash: tuple[float, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A data point; hollow where it is not filled."""

    center: Point
    shape: Shape
    color: str
    filled: bool = True
    radius: float = 3.6


@dataclass(frozen=True)
class Text:
    """A text on its baseline."""

    position: Point
    text: str
    size: float = 11
    anchor: Anchor = "start"
    color: str = "#222222"


Item = Line | Mark | Text


@dataclass(frozen=True)
class Drawing:
    """Items in the order in which they are drawn, on white; lengths are pixels of the SVG, downwards from the top."""

    width: float
    height: float
    items: tuple[Item, ...]


def to_svg(drawing: Drawing) -> str:
    """Writes a drawing as SVG."""
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(drawing.width)}" height="{_n(drawing.height)}" '
            f'viewBox="0 0 {_n(drawing.width)} {_n(drawing.height)}" font-family="{_FONT}">'
        ),
        f'<rect width="{_n(drawing.width)}" height="{_n(drawing.height)}" fill="#ffffff"/>',
    ]
    parts += [_svg_item(item) for item in drawing.items]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _svg_item(item: Item) -> str:
    if isinstance(item, Text):
        x, y = item.position
        anchor = "" if item.anchor == "start" else f' text-anchor="{item.anchor}"'
        return (
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(item.size)}" fill="{item.color}"{anchor}>'
            f"{escape(item.text)}</text>"
        )
    if isinstance(item, Line):
        dash = f' stroke-dasharray="{" ".join(map(_n, item.dash))}"' if item.dash else ""
        return (
            f'<polyline points="{_points(item.points)}" fill="none" stroke="{item.color}" '
            f'stroke-width="{_n(item.width)}"{dash}/>'
        )
    fill = item.color if item.filled else "#ffffff"
    look = f'fill="{fill}" stroke="{item.color}" stroke-width="1.4"'
    if item.shape == "circle":
        x, y = item.center
        return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(item.radius)}" {look}/>'
    return f'<polygon points="{_points(outline(item))}" {look}/>'


def outline(mark: Mark) -> tuple[Point, ...]:
    """Returns the corners of a mark that is no circle."""
    (x, y), r = mark.center, mark.radius
    shapes: dict[str, tuple[Point, ...]] = {
        "square": ((-r, -r), (r, -r), (r, r), (-r, r)),
        "diamond": ((0, -1.3 * r), (1.3 * r, 0), (0, 1.3 * r), (-1.3 * r, 0)),
        "triangle": ((0, -1.2 * r), (1.2 * r, r), (-1.2 * r, r)),
        "down": ((0, 1.2 * r), (1.2 * r, -r), (-1.2 * r, -r)),
        "cross": (
            (-r, -r / 3), (-r / 3, -r / 3), (-r / 3, -r), (r / 3, -r), (r / 3, -r / 3), (r, -r / 3),
            (r, r / 3), (r / 3, r / 3), (r / 3, r), (-r / 3, r), (-r / 3, r / 3), (-r, r / 3),
        ),
    }  # fmt: skip
    return tuple((x + dx, y + dy) for dx, dy in shapes[mark.shape])


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _n(value: float) -> str:
    """A length with two decimals at most, and never a negative zero."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def to_png(drawing: Drawing) -> bytes:
    """Writes a drawing as PNG, one and a half times as large as the SVG; its bytes vary with Pillow's version."""
    scale = _PNG_SCALE * _OVERSAMPLING
    image = Image.new("RGB", (round(drawing.width * scale), round(drawing.height * scale)), "#ffffff")
    pen = ImageDraw.Draw(image)
    for item in drawing.items:
        if isinstance(item, Line):
            for piece in _strokes(item):
                pen.line([(x * scale, y * scale) for x, y in piece], item.color, round(item.width * scale), "curve")
        elif isinstance(item, Mark):
            _draw_mark(pen, item, scale)
    image = image.resize(
        (round(drawing.width * _PNG_SCALE), round(drawing.height * _PNG_SCALE)), Image.Resampling.LANCZOS
    )
    pen = ImageDraw.Draw(image)  # letters are drawn at their own size: they are hinted for it
    for item in drawing.items:
        if isinstance(item, Text):
            x, y = item.position
            font = ImageFont.load_default(item.size * _PNG_SCALE)
            anchor = {"start": "ls", "middle": "ms", "end": "rs"}[item.anchor]
            pen.text((x * _PNG_SCALE, y * _PNG_SCALE), item.text, item.color, font, anchor)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _draw_mark(pen: ImageDraw.ImageDraw, mark: Mark, scale: float) -> None:
    fill, width = mark.color if mark.filled else "#ffffff", round(1.4 * scale)
    if mark.shape == "circle":
        (x, y), r = mark.center, mark.radius
        box = [(x - r) * scale, (y - r) * scale, (x + r) * scale, (y + r) * scale]
        pen.ellipse(box, fill, mark.color, width)
        return
    corners = [(x * scale, y * scale) for x, y in outline(mark)]
    pen.polygon(corners, fill, mark.color, width)


def _strokes(line: Line) -> list[list[Point]]:
    """A dashed line as its strokes."""
    if not line.dash:
        return [list(line.points)]
    strokes: list[list[Point]] = []
    index, left, drawing = 0, line.dash[0], True
    stroke = [line.points[0]]
    for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False):
        length, done = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 0.0
        while length - done > left:
            done += left
            at = (x0 + (x1 - x0) * done / length, y0 + (y1 - y0) * done / length)
            if drawing:
                strokes.append([*stroke, at])
            drawing, stroke, index = not drawing, [at], index + 1
            left = line.dash[index % len(line.dash)]
        left -= length - done
        if drawing:
            stroke.append((x1, y1))
    if drawing and len(stroke) > 1:
        strokes.append(stroke)
    return strokes
