"""Charts to files: an Altair chart as Vega-Lite (JSON), and that drawn as SVG, as PNG, or as HTML that works offline.

Vega-Lite is the same on every machine; drawings are not, so that each carries the digest of what it was drawn from.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, PngImagePlugin

from harness.support.files import write_atomically
from harness.support.names import in_texts, printable

if TYPE_CHECKING:
    import altair

    Picture = altair.TopLevelMixin | Image.Image

SPEC_ENDING = ".vl.json"
FORMATS = ("svg", "png", "html")  # what a chart can be drawn as
_SCHEMA, _VERSION = "https://vega.github.io/schema/vega-lite/v6.json", "6.4"
_KEY, _WORDS = "genharness", "Description"  # of text chunks; the latter is PNG's own
_LONGEST = 1_000  # letters of a caption
_PNG_SCALE = 2
_GREY = "#6b6b6b"
# Okabe & Ito 2008: told apart by everybody
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F", "#7F7F7F"]
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
    "range": {"category": _COLOURS},
}  # fmt: skip


def vega_lite(chart: altair.TopLevelMixin, mark: str | None = None) -> bytes:
    """Returns a chart as Vega-Lite in the house's style, but for its own; ``mark`` is as in ``stated_mark``."""
    content = chart.to_dict() | {"$schema": _SCHEMA} | ({} if mark is None else {"usermeta": {_KEY: mark}})
    own = content.get("config", {})
    styled = {name: {**value, **own.get(name, {})} for name, value in _THEME.items() if isinstance(value, dict)}
    content["config"] = {**_THEME, **own, **styled}
    content = in_texts(content, printable)
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def drawn(spec: bytes, form: str) -> bytes:
    """Draws Vega-Lite in one of ``FORMATS``, without access to the network; SVG and PNG carry its mark.

    HTML is a page that shows it in a browser, tooltips and all; the libraries are in it (about 900 kB).
    """
    import vl_convert

    text = spec.decode()
    if form == "html":
        return str(vl_convert.vegalite_to_html(text, vl_version=_VERSION, bundle=True)).encode()
    if form == "svg":
        svg = vl_convert.vegalite_to_svg(text, vl_version=_VERSION, allowed_base_urls=[])
        return f"{svg}\n<!-- {_mark(spec)} -->\n".encode()
    png = vl_convert.vegalite_to_png(text, vl_version=_VERSION, scale=_PNG_SCALE, allowed_base_urls=[])
    with Image.open(io.BytesIO(png)) as image:
        return _png_bytes(image, _mark(spec))


def draw_files(spec_file: Path, formats: Sequence[str] = ("svg", "png")) -> list[Path]:
    """Draws ``NAME.vl.json`` as ``NAME.svg`` and so on beside it, and returns these files."""
    for name in formats:
        write_atomically(_beside(spec_file, f".{name}"), drawn(spec_file.read_bytes(), name))
    return [_beside(spec_file, f".{name}") for name in formats]


def check_drawings(spec_file: Path, spec: bytes, formats: Sequence[str] = ("svg", "png")) -> list[Path]:
    """Returns those drawings of ``NAME.vl.json`` that are missing, or were not drawn from ``spec``."""
    files = [_beside(spec_file, f".{name}") for name in formats]
    return [path for path in files if not path.is_file() or mark_of(path.read_bytes()) != _mark(spec)]


def write_picture(picture: Picture, stem: Path, mark: str, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Writes an image as ``stem.png``, or a chart as ``stem.vl.json`` and ``formats``, with a ``stated_mark``.

    What an image says of itself in ``info["Description"]`` goes with it: it is read by ``description_of``.
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
    there = [name for name in ("svg", "png") if _beside(file, f".{name}").exists()]
    return [path.name for path in check_drawings(file, content, there if file.name.endswith(SPEC_ENDING) else ())]


def stated_mark(stem: Path) -> str | None:
    """What a picture that was written says that it shows; None where there is none, or somebody else's."""
    files = (_beside(stem, ending) for ending in (SPEC_ENDING, ".png"))
    return next((mark_of(file.read_bytes()) for file in files if file.is_file()), None)


def remove_picture(stem: Path) -> list[Path]:
    """Removes a picture, but for somebody else's, and returns its files."""
    endings = () if stated_mark(stem) is None else (SPEC_ENDING, ".svg", ".png", ".html")
    removed = [file for ending in endings if (file := _beside(stem, ending)).exists()]
    for file in removed:
        file.unlink()
    return removed


def mark_of(picture: bytes) -> str | None:
    """What Vega-Lite, an SVG or a PNG says that it shows; None where it is not of the harness's making."""
    if found := re.search(rb"<!-- (vega-lite [0-9a-f]+) -->\s*\Z", picture):
        return found[1].decode()
    try:
        if picture.startswith(b"{"):
            said = json.loads(picture)["usermeta"][_KEY]
        else:
            with Image.open(io.BytesIO(picture)) as image:
                said = image.info.get(_KEY)
    except (OSError, ValueError, KeyError, TypeError, Image.DecompressionBombError):
        return None
    return said if isinstance(said, str) else None


def description_of(file: Path) -> str:
    """What a PNG says of itself, in words for its caption, not too many; empty where it says nothing or is not read."""
    try:
        with Image.open(file, formats=["PNG"]) as image:
            words = str(image.info.get(_WORDS, ""))
            return words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""


def _main_file(picture: Picture, stem: Path, mark: str) -> tuple[Path, bytes]:
    import altair

    if isinstance(picture, Image.Image):
        return _beside(stem, ".png"), _png_bytes(picture, mark)
    if not isinstance(picture, altair.TopLevelMixin):
        raise ValueError(f"a figure draws an Altair chart or a Pillow image, not {picture!r:.80}")
    return _beside(stem, SPEC_ENDING), vega_lite(picture, mark)


def _png_bytes(image: Image.Image, mark: str) -> bytes:
    """The same image gives the same bytes, with one version of Pillow; ``mark`` goes into a text chunk."""
    text, out = PngImagePlugin.PngInfo(), io.BytesIO()
    text.add_text(_KEY, mark)
    if _WORDS in image.info:
        text.add_text(_WORDS, image.info[_WORDS])
    image.save(out, format="PNG", pnginfo=text, optimize=True)
    return out.getvalue()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name.removesuffix(SPEC_ENDING) + ending)


def _mark(spec: bytes) -> str:
    return f"vega-lite {hashlib.sha256(spec).hexdigest()[:16]}"
