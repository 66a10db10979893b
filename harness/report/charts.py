"""Charts to files: an Altair chart as Vega-Lite (JSON), and that drawn as SVG, as PNG, or as HTML that works offline.

What a chart shows is its Vega-Lite, which is the same on every machine. SVG and PNG are drawn from it with the letters
that come with the drawing library; another version of that library may place them otherwise. So a drawing carries the
digest of its Vega-Lite, and two drawings are of one chart if the digests are equal.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.support.files import write_atomically

if TYPE_CHECKING:
    import altair

SPEC_ENDING = ".vl.json"
_SCHEMA, _VERSION = "https://vega.github.io/schema/vega-lite/v6.json", "6.4"
_KEY = "genharness"
_PNG_SCALE = 2
_GREY = "#6b6b6b"
_THEME: dict[str, Any] = {
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "background": "#ffffff",
    "view": {"stroke": "#888888"},
    "axis": {"gridColor": "#e3e3e3", "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    "header": {"labelFontSize": 13, "titleFontSize": 13},
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "labelLimit": 400, "titleColor": _GREY},
    "title": {
        "fontSize": 16, "fontWeight": "normal", "anchor": "start", "subtitleColor": _GREY, "subtitleFontSize": 12,
    },
    # Okabe & Ito 2008: told apart by everybody
    "range": {
        "category": [
            "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F", "#7F7F7F",
        ]
    },
}  # fmt: skip


def vega_lite(chart: altair.TopLevelMixin) -> bytes:
    """Returns a chart as Vega-Lite in the house's style; what the chart configures itself stays as it is."""
    content = chart.to_dict()
    content["$schema"] = _SCHEMA
    own = content.get("config", {})
    content["config"] = {
        name: {**value, **own.get(name, {})} if isinstance(value, dict) else own.get(name, value)
        for name, value in _THEME.items()
    } | {name: value for name, value in own.items() if name not in _THEME}
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def to_svg(spec: bytes) -> bytes:
    """Draws Vega-Lite as SVG, without access to the network; the comment at its end says of what."""
    import vl_convert

    text: str = vl_convert.vegalite_to_svg(spec.decode(), vl_version=_VERSION, allowed_base_urls=[])
    return f"{text}\n<!-- vega-lite {_digest(spec)} -->\n".encode()


def to_png(spec: bytes) -> bytes:
    """Draws Vega-Lite as PNG, twice as large as the SVG; a text chunk says of what."""
    import vl_convert
    from PIL import Image

    drawn = vl_convert.vegalite_to_png(spec.decode(), vl_version=_VERSION, scale=_PNG_SCALE, allowed_base_urls=[])
    with Image.open(io.BytesIO(drawn)) as image:
        return png_bytes(image, f"vega-lite {_digest(spec)}")


def to_html(spec: bytes) -> bytes:
    """Returns a page that shows Vega-Lite in a browser, tooltips and all; the libraries are in it (about 900 kB)."""
    import vl_convert

    page: str = vl_convert.vegalite_to_html(spec.decode(), vl_version=_VERSION, bundle=True)
    return page.encode()


def draw_files(spec_file: Path) -> list[Path]:
    """Draws ``NAME.vl.json`` as ``NAME.svg`` and ``NAME.png`` beside it, and returns these."""
    spec = spec_file.read_bytes()
    svg, png = _drawings(spec_file)
    write_atomically(svg, to_svg(spec))
    write_atomically(png, to_png(spec))
    return [svg, png]


def check_drawings(spec_file: Path, spec: bytes) -> list[Path]:
    """Returns those of ``NAME.svg`` and ``NAME.png`` that are missing, or were not drawn from ``spec``."""
    wanted = f"vega-lite {_digest(spec)}"
    return [path for path in _drawings(spec_file) if not path.is_file() or mark_of(path.read_bytes()) != wanted]


def _drawings(spec_file: Path) -> tuple[Path, Path]:
    stem = spec_file.name.removesuffix(SPEC_ENDING)
    return spec_file.with_name(f"{stem}.svg"), spec_file.with_name(f"{stem}.png")


def png_bytes(image: Any, mark: str) -> bytes:
    """Writes a Pillow image as PNG; ``mark``, which says what it shows, goes into a text chunk."""
    from PIL import PngImagePlugin

    text, out = PngImagePlugin.PngInfo(), io.BytesIO()
    text.add_text(_KEY, mark)
    image.save(out, format="PNG", pnginfo=text, optimize=True)
    return out.getvalue()


def mark_of(drawing: bytes) -> str | None:
    """What a PNG or SVG says that it shows; None where it is not of the harness's making."""
    from PIL import Image

    if found := re.search(rb"<!-- (vega-lite [0-9a-f]+) -->\s*\Z", drawing):
        return found[1].decode()
    try:
        with Image.open(io.BytesIO(drawing)) as image:
            said = image.info.get(_KEY)
    except OSError:
        return None
    return said if isinstance(said, str) else None


def _digest(spec: bytes) -> str:
    return hashlib.sha256(spec).hexdigest()[:16]
