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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.support.files import write_atomically

if TYPE_CHECKING:
    import altair
    from PIL import Image

    Picture = altair.TopLevelMixin | Image.Image

SPEC_ENDING = ".vl.json"
FORMATS = ("svg", "png", "html")
"""What a chart can be drawn as."""

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


def vega_lite(chart: altair.TopLevelMixin, mark: str | None = None) -> bytes:
    """Returns a chart as Vega-Lite in the house's style; what the chart configures itself stays as it is.

    ``mark`` says what it shows, see ``stated_mark``.
    """
    content = chart.to_dict()
    if mark is not None:
        content["usermeta"] = {_KEY: mark}
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
        return _png_bytes(image, f"vega-lite {_digest(spec)}")


def to_html(spec: bytes) -> bytes:
    """Returns a page that shows Vega-Lite in a browser, tooltips and all; the libraries are in it (about 900 kB)."""
    import vl_convert

    page: str = vl_convert.vegalite_to_html(spec.decode(), vl_version=_VERSION, bundle=True)
    return page.encode()


def draw_files(spec_file: Path, formats: Sequence[str] = ("svg", "png")) -> list[Path]:
    """Draws ``NAME.vl.json`` as ``NAME.svg`` and so on beside it, and returns these files."""
    spec, files = spec_file.read_bytes(), []
    for name in formats:
        files.append(_beside(spec_file, f".{name}"))
        write_atomically(files[-1], _WRITERS[name](spec))
    return files


def check_drawings(spec_file: Path, spec: bytes, formats: Sequence[str] = ("svg", "png")) -> list[Path]:
    """Returns those drawings of ``NAME.vl.json`` that are missing, or were not drawn from ``spec``."""
    wanted = f"vega-lite {_digest(spec)}"
    files = [_beside(spec_file, f".{name}") for name in formats]
    return [path for path in files if not path.is_file() or mark_of(path.read_bytes()) != wanted]


def write_picture(picture: Picture, stem: Path, mark: str, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Writes an image as ``stem.png``, or a chart as ``stem.vl.json`` and in each of ``formats``.

    Args:
        picture: what a figure drew.
        stem: the path without its ending.
        mark: what the picture shows, see ``stated_mark``.
        formats: any of ``FORMATS``.

    Raises:
        ValueError: it is neither an image of Pillow nor a chart of Altair.
    """
    file, content = _main_file(picture, stem, mark)
    remove_picture(stem)  # it may have had other formats
    write_atomically(file, content)
    return [file, *(draw_files(file, formats) if file.name.endswith(SPEC_ENDING) else [])]


def differing(picture: Picture, stem: Path, mark: str) -> list[str]:
    """Returns the names of a picture's files that are missing or other than ``write_picture`` would have them."""
    file, content = _main_file(picture, stem, mark)
    if not file.is_file() or file.read_bytes() != content:
        return [file.name]
    if not file.name.endswith(SPEC_ENDING):
        return []
    drawn = [name for name in ("svg", "png") if _beside(file, f".{name}").exists()]
    return [path.name for path in check_drawings(file, content, drawn)]


def stated_mark(stem: Path) -> str | None:
    """What a picture that was written says that it shows; None where there is none, or somebody else's."""
    spec, image = stem.with_name(stem.name + SPEC_ENDING), stem.with_name(f"{stem.name}.png")
    if spec.is_file():
        try:
            found = json.loads(spec.read_bytes())["usermeta"][_KEY]
        except (ValueError, KeyError, TypeError):
            return None
        return str(found)
    return mark_of(image.read_bytes()) if image.is_file() else None


def remove_picture(stem: Path) -> list[Path]:
    """Removes a picture, but for somebody else's, and returns its files."""
    if stated_mark(stem) is None:
        return []
    files = [stem.with_name(stem.name + ending) for ending in (SPEC_ENDING, *(f".{name}" for name in FORMATS))]
    removed = [file for file in files if file.exists()]
    for file in removed:
        file.unlink()
    return removed


def mark_of(drawing: bytes) -> str | None:
    """What a PNG or an SVG says that it shows; None where it is not of the harness's making."""
    from PIL import Image

    if found := re.search(rb"<!-- (vega-lite [0-9a-f]+) -->\s*\Z", drawing):
        return found[1].decode()
    try:
        with Image.open(io.BytesIO(drawing)) as image:
            said = image.info.get(_KEY)
    except OSError:
        return None
    return said if isinstance(said, str) else None


def _main_file(picture: Picture, stem: Path, mark: str) -> tuple[Path, bytes]:
    import altair
    from PIL import Image

    if isinstance(picture, Image.Image):
        return stem.with_name(f"{stem.name}.png"), _png_bytes(picture, mark)
    if not isinstance(picture, altair.TopLevelMixin):
        raise ValueError(f"a figure draws an Altair chart or a Pillow image, not {picture!r:.80}")
    return stem.with_name(stem.name + SPEC_ENDING), vega_lite(picture, mark)


def _png_bytes(image: Image.Image, mark: str) -> bytes:
    """The same image gives the same bytes, with one version of Pillow; ``mark`` goes into a text chunk."""
    from PIL import PngImagePlugin

    text, out = PngImagePlugin.PngInfo(), io.BytesIO()
    text.add_text(_KEY, mark)
    image.save(out, format="PNG", pnginfo=text, optimize=True)
    return out.getvalue()


def _beside(spec_file: Path, ending: str) -> Path:
    return spec_file.with_name(spec_file.name.removesuffix(SPEC_ENDING) + ending)


_WRITERS: dict[str, Callable[[bytes], bytes]] = {"svg": to_svg, "png": to_png, "html": to_html}


def _digest(spec: bytes) -> str:
    return hashlib.sha256(spec).hexdigest()[:16]
