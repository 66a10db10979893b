"""Tables and plots of a profile, made of measurements that are written down."""

import csv
import io
import itertools
import json
import math

import pytest

from harness.profiling.files import (
    check_profile,
    headline,
    number,
    outcome_line,
    render_profile,
    speed_cells,
    write_profile,
)
from harness.profiling.plot import draw_plot
from harness.profiling.profile import CertificateCounts, Measurement
from harness.profiling.tables import tables_of
from harness.report.charts import vega_lite

HOLDS = CertificateCounts(status="holds", entries=1000, within_rounding=2, mismatches=2)


def measured(model, sampler, size, seconds, *, batch_size=16, fingerprint="here", **settings):
    cell = f"{model} {sampler} {size} {batch_size} {fingerprint}"
    content = {
        "cell": cell, "key": cell, "label": model, "model": model, "channels": 1, "height": size, "width": size,
        "levels": 2, "batch_size": batch_size, "sampler": sampler, "seconds": (seconds,) * 3,
        "certificate": HOLDS, "fingerprint": fingerprint, "hardware": f"machine {fingerprint}",
    }  # fmt: skip
    return Measurement(**content | settings)


def known_laws():
    """Raster grows with the square of the pixels, cached linearly; multiscale's depth logarithmically."""
    found = []
    for size, depth in ((16, 19), (32, 25), (64, 31)):
        pixels = size * size
        found += [
            measured("gated", "cached", size, 1e-3 * pixels, default=True, sequential_depth=pixels),
            measured(
                "gated", "raster", size, 1e-4 * pixels**2, sequential_depth=pixels, extrapolated_from=4,
                full_passes=pixels, certificate=CertificateCounts(status="by definition"),
            ),
            measured("multiscale", "groups", size, 5e-4 * pixels, default=True, sequential_depth=depth),
        ]  # fmt: skip
    return found


def test_the_fits_recover_the_laws_of_time_and_of_depth():
    [tables] = tables_of(known_laws())
    found = {(item.label, item.sampler): item for item in tables.scalings}
    assert found["gated", "raster"].seconds.exponent == pytest.approx(2.0)
    assert found["gated", "cached"].seconds.exponent == pytest.approx(1.0)
    assert found["gated", "cached"].depth.nearer == "power"
    depth = found["multiscale", "groups"].depth
    assert (depth.nearer, depth.slope_per_doubling) == ("logarithmic", pytest.approx(3.0))
    assert str(depth).startswith("3 log2(pixels) - 5")


def test_sizes_below_sixteen_are_no_points_of_a_fit():
    [tables] = tables_of([*known_laws(), measured("gated", "cached", 8, 77.0)])
    assert {item.sizes for item in tables.scalings} == {(16, 32, 64)}


def test_the_advantage_is_over_cached_and_over_naive_side_by_side():
    [tables] = tables_of(known_laws(), baseline="gated")
    last = tables.advantages[-1]
    assert (last.measurement.label, last.measurement.height) == ("multiscale", 64)
    assert last.over_cached == pytest.approx(2.0)
    assert last.over_naive == pytest.approx(1e-4 * 4096**2 / (5e-4 * 4096))
    assert headline(tables) == (
        "At 64x64, batch 16, multiscale (groups) draws 2.00x as fast as gated (cached), and 819x as fast as its naive "
        "raster."
    )


def test_trained_models_are_compared_with_a_trained_baseline_and_their_bits_stand_beside():
    trained = {"weights": "trained", "run": "r", "bits_per_dim": 0.15, "likelihood_kind": "exact"}
    rows = [
        measured("gated", "cached", 28, 1.0, default=True),
        measured("gated", "cached", 28, 2.0, default=True, label="gated, trained", **trained),
        measured("multiscale", "groups", 28, 1.0, **trained | {"bits_per_dim": 0.17}),
    ]
    [tables] = tables_of(rows, baseline="gated")
    [advantage] = tables.advantages
    assert advantage.cached.label == "gated, trained"
    assert headline(tables).endswith("it needs 0.1700 bits a dimension, gated, trained 0.1500.")


def test_a_baseline_without_a_sampler_called_cached_stands_by_its_default():
    rows = [
        measured("nade", "raster", 8, 9.0),
        measured("nade", "incremental", 8, 4.0, default=True),
        measured("other", "groups", 8, 2.0),
    ]
    [tables] = tables_of(rows, baseline="nade")
    [advantage] = tables.advantages
    assert (advantage.over_cached, advantage.over_naive) == (2.0, 4.5)


def test_latency_is_that_of_a_single_image():
    rows = [measured("a", "s", 8, 0.3, batch_size=1), measured("a", "s", 8, 0.9), measured("a", "t", 8, 0.9)]
    [tables] = tables_of(rows)
    assert [tables.latency_of(item) for item in tables.measurements] == [0.3, 0.3, None]


def test_machines_never_meet():
    rows = [*known_laws(), measured("gated", "cached", 16, 1e-9, fingerprint="there")]
    here, there = tables_of(rows, baseline="gated")
    assert (here.fingerprint, there.fingerprint) == ("here", "there")
    assert there.advantages == ()
    assert all(item.cached.fingerprint == "here" for item in here.advantages)
    page = render_profile("x", [here, there], stem="x", command="c")["x.md"].decode()
    assert page.index("## machine here") < page.index("## machine there")


def test_what_failed_its_certificate_is_said_and_has_no_figure_anywhere():
    lost = measured(
        "gated", "compiled", 16, 1e-9, status="failed certificate", reason="7 entries are wrong",
        certificate=CertificateCounts(status="fails", entries=9, mismatches=7),
    )  # fmt: skip
    [tables] = tables_of([*known_laws(), lost], baseline="multiscale")
    assert all(item.measurement is not lost for item in tables.advantages)
    files = render_profile("x", [tables], stem="x", command="c")
    assert "- gated, compiled: failed certificate: 7 entries are wrong" in files["x.md"].decode()
    [row] = [line for line in csv.DictReader(io.StringIO(files["x.csv"].decode())) if line["sampler"] == "compiled"]
    assert (row["seconds"], row["certificate_mismatches"]) == ("", "7")
    assert "compiled" not in files["x.vl.json"].decode()


def plot_of(rows):
    return json.loads(vega_lite(draw_plot("x", tables_of(rows))))


def panels_of(plot):
    """The layers of every panel of the plot: the guides, what was measured, and the exponents; each with its values."""
    panels = [panel for machine in plot["vconcat"] for panel in machine["hconcat"]]
    for panel in panels:
        for layer in panel["layer"]:
            layer["values"] = plot["datasets"][layer["data"]["name"]]
    return panels


def test_an_extrapolated_figure_says_so_in_the_table_and_is_hollow_in_the_plot():
    [tables] = tables_of(known_laws())
    raster = next(item for item in tables.measurements if item.sampler == "raster")
    assert "extrapolated from 4 of 256 passes" in speed_cells(tables, raster)["seconds (quartiles)"]
    [panel] = panels_of(plot_of(known_laws()))
    _, measured_layer, _ = panel["layer"]
    assert {item["sampler"] for item in measured_layer["values"] if item["extrapolated"]} == {"raster"}
    hollow = measured_layer["layer"][-1]
    assert hollow["transform"] == [{"filter": "datum.extrapolated"}]
    assert hollow["encoding"]["fill"] == {"value": "#ffffff"}


def test_seconds_that_were_taken_on_a_loaded_machine_say_so():
    loaded, quiet = (measured("a", "cached", 16, 1.0, others_load=share) for share in (0.31, 0.02))
    [tables] = tables_of([loaded])
    assert speed_cells(tables, loaded)["seconds (quartiles)"].endswith("others used about 30% of the processors")
    assert "others used about 30% of the processors" in outcome_line(loaded)
    assert "others" not in speed_cells(tables, quiet)["seconds (quartiles)"] + outcome_line(quiet)


def test_the_plot_is_logarithmic_on_both_axes_and_shows_every_measurement_with_its_quartiles():
    [panel] = panels_of(plot_of(known_laws()))
    _, measured_layer, _ = panel["layer"]
    for line in measured_layer["layer"]:
        assert line["encoding"]["x"]["scale"]["type"] == "log"
    assert measured_layer["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"
    shown = {(item["model"], item["sampler"], item["size"]): item for item in measured_layer["values"]}
    assert len(shown) == 9
    cached = shown["gated", "cached", "32x32"]
    assert (cached["low"], cached["seconds"], cached["high"]) == pytest.approx((1.024, 1.024, 1.024))


def test_lines_end_with_their_exponents_none_on_another_one():
    [panel] = panels_of(plot_of(known_laws()))
    _, _, ends = panel["layer"]
    assert [item["exponent"] for item in ends["values"]] == ["1.00", "1.00", "2.00"]
    places = [item["seconds"] for item in ends["values"]]
    assert all(above > 1.2 * below for below, above in itertools.pairwise(places))


def test_every_panel_has_guides_of_slope_one_and_two():
    rows = [*known_laws(), measured("gated", "cached", 16, 0.1, batch_size=1)]
    panels = panels_of(plot_of(rows))
    assert [panel["title"]["text"] for panel in panels] == ["batch 1", "batch 16"]
    for panel in panels:
        ends = {}
        for item in panel["layer"][0]["values"]:
            ends.setdefault(item["slope"], []).append((math.log(item["pixels"]), math.log(item["seconds"])))
        slopes = {slope: (b[1] - a[1]) / (b[0] - a[0]) for slope, (a, b) in ends.items()}
        assert slopes == pytest.approx({1: 1.0, 2: 2.0})


def test_the_files_are_the_same_whatever_the_order_of_the_measurements():
    rows = known_laws()
    labels = ["gated", "multiscale"]
    one, two = (
        render_profile("x", tables_of(order, labels=labels, baseline="gated"), stem="x", command="c")
        for order in (rows, rows[::-1])
    )
    assert one == two


def test_files_that_are_not_what_the_measurements_give_are_named(tmp_path):
    files = render_profile("x", tables_of(known_laws()), stem="x", command="c")
    write_profile(files, tmp_path)
    assert check_profile(files, tmp_path) == []
    (tmp_path / "x.svg").write_text("<svg/>")
    (tmp_path / "x.csv").unlink()
    assert check_profile(files, tmp_path) == ["x.csv", "x.svg"]


def test_drawings_of_other_measurements_are_named(tmp_path):
    old = render_profile("x", tables_of(known_laws()), stem="x", command="c")
    write_profile(old, tmp_path)
    new = render_profile("x", tables_of(known_laws()[:-1]), stem="x", command="c")
    for name, content in new.items():
        (tmp_path / name).write_bytes(content)
    assert check_profile(new, tmp_path) == ["x.svg", "x.png"]


def test_json_holds_every_row_and_law():
    files = render_profile("x", tables_of(known_laws(), baseline="gated"), stem="x", command="c")
    [machine] = json.loads(files["x.json"])["machines"]
    assert len(machine["rows"]) == 9
    assert {item["sampler"]: round(item["seconds_exponent"], 6) for item in machine["growth"]} == {
        "cached": 1.0, "raster": 2.0, "groups": 1.0,
    }  # fmt: skip
    assert machine["advantages"][0]["over_cached"] == pytest.approx(2.0)


def test_a_mean_of_counts_keeps_its_decimal():
    assert (number(784.0), number(66.5)) == ("784", "66.5")
