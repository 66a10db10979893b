"""Charts as files: the same Vega-Lite and SVG each time, and drawings that say what they were drawn from."""

import io
import json
import struct
import subprocess
import sys
import zlib

import altair as alt
import pytest
from PIL import Image

from harness.report.charts import SPEC_ENDING, check_drawings, description_of, draw_files, drawn, mark_of, vega_lite

MAKE = """
import altair as alt
from harness.report.charts import drawn, vega_lite
values = [{"x": x, "y": 10.0 ** x, "name": "<script>&"} for x in range(4)]
chart = alt.Chart(alt.Data(values=values), title="Größe").mark_point().encode(
    alt.X("x:Q").title("pixels"), alt.Y("y:Q").scale(type="log"), color="name:N"
)
"""


def made():
    names = {}
    exec(MAKE, names)
    return names["chart"]


def test_the_same_chart_gives_the_same_svg_again_and_in_another_process():
    spec = vega_lite(made())
    assert vega_lite(made()) == spec
    svg = drawn(spec, "svg")
    assert drawn(spec, "svg") == svg
    code = f"{MAKE}\nimport sys\nsys.stdout.buffer.write(drawn(vega_lite(chart), 'svg'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert other.stdout == svg


def test_a_chart_names_the_format_and_not_the_version_of_a_library():
    assert json.loads(vega_lite(made()))["$schema"] == "https://vega.github.io/schema/vega-lite/v6.json"


def test_texts_of_a_chart_are_no_markup():
    svg = drawn(vega_lite(made()), "svg").decode()
    assert "&lt;script&gt;&amp;" in svg
    assert "<script" not in svg


def test_nothing_in_a_chart_steers_a_terminal():
    spec = vega_lite(made().properties(title="\x1b[31m \u202e \x9b"))
    assert not {"\x1b", "\u202e", "\x9b"} & set(
        json.dumps(json.loads(spec), ensure_ascii=False) + drawn(spec, "svg").decode()
    )
    assert json.loads(spec)["title"] == r"\x1b[31m \u202e \x9b"


def test_what_a_chart_configures_stands_beside_the_style_of_the_house():
    config = json.loads(vega_lite(made().configure_axis(labelFontSize=7)))["config"]
    assert config["axis"]["labelFontSize"] == 7
    assert config["axis"]["titleFontSize"] == 12
    assert config["font"].startswith("Liberation Sans")


def test_a_png_is_twice_as_large_as_the_svg():
    spec = vega_lite(alt.Chart(alt.Data(values=[{"x": 1}]), width=200, height=100).mark_point().encode(x="x:Q"))
    with Image.open(io.BytesIO(drawn(spec, "png"))) as image:
        assert image.width > 400
        assert image.height > 200


def test_a_page_holds_all_that_it_needs_and_asks_the_network_for_nothing():
    page = drawn(vega_lite(made()), "html").decode()
    assert len(page) > 400_000
    assert "<script src" not in page
    assert "cdn." not in page


def test_a_chart_that_would_fetch_its_data_is_not_drawn():
    spec = vega_lite(alt.Chart("https://example.org/data.csv").mark_point().encode(x="x:Q"))
    with pytest.raises(ValueError, match=r"example\.org"):
        drawn(spec, "svg")


def test_drawings_that_are_missing_or_of_another_chart_are_named(tmp_path):
    file = tmp_path / f"x{SPEC_ENDING}"
    file.write_bytes(vega_lite(made()))
    svg, png = draw_files(file)
    assert (svg.name, png.name) == ("x.svg", "x.png")
    assert check_drawings(file, file.read_bytes()) == []
    other = vega_lite(made().properties(title="other"))
    assert check_drawings(file, other) == [svg, png]
    png.unlink()
    assert check_drawings(file, file.read_bytes()) == [png]


def test_a_picture_of_somebody_elses_has_no_mark():
    out = io.BytesIO()
    Image.new("L", (2, 2)).save(out, format="PNG")
    assert mark_of(out.getvalue()) is None
    assert mark_of(b"<svg/>") is None


def png(side, *texts):
    """A PNG of so many pixels, as it says, with text chunks."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        *((b"tEXt", b"Description\0" + text) for text in texts),
        (b"IDAT", b""),
        (b"IEND", b""),
    ]
    parts = [struct.pack(">I", len(it)) + kind + it + struct.pack(">I", zlib.crc32(kind + it)) for kind, it in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_caption_is_cut_and_a_picture_that_says_that_it_is_huge_says_nothing(tmp_path):
    (file := tmp_path / "x.png").write_bytes(png(4, b"a" * 100_000))
    assert description_of(file) == "a" * 1000 + " ..."
    file.write_bytes(png(100_000, b"a"))
    assert (description_of(file), mark_of(file.read_bytes())) == ("", None)
