"""Tables and plots of a profile, made of measurements that are written down."""

import csv
import io
import itertools
import json
import math

import pytest

from harness.profiling.comparison import headline, number, who_overtakes
from harness.profiling.files import check_profile, outcome_line, render_profile, speed_cells, write_profile
from harness.profiling.overtaking import overtakings
from harness.profiling.plot import apart, draw_plot
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


def test_an_exponent_whose_interval_says_nothing_is_left_out_and_the_depth_stays():
    costs = zip((16, 32, 64), (1.0, 9.0, 8.0), strict=True)
    rows = [measured("gated", "cached", size, it, sequential_depth=size**2) for size, it in costs]
    [tables] = tables_of(rows)
    [law] = tables.scalings
    assert (law.seconds, str(law.depth)) == (None, "pixels^1.00 [1.00, 1.00], within 0 %")
    page = render_profile("x", [tables], stem="x", command="c")["x.md"].decode()
    assert "interval is not narrower than 1, which says nothing" in page


def test_sizes_below_sixteen_are_no_points_of_a_fit():
    [tables] = tables_of([*known_laws(), measured("gated", "cached", 8, 77.0)])
    assert {item.sizes for item in tables.scalings} == {(16, 32, 64)}


def test_the_headline_is_over_the_fastest_certified_sampler_whichever_that_is():
    compiled = measured("gated", "compiled", 64, 1.0)
    uncertified = measured("vae", "default", 64, 0.1, certificate=CertificateCounts(status="does not apply"))
    [tables] = tables_of([*known_laws(), compiled, uncertified], baseline="gated")
    [advantage] = [
        it for it in tables.advantages if (it.measurement.label, it.measurement.height) == ("multiscale", 64)
    ]
    assert advantage.fastest is compiled
    assert advantage.over(advantage.fastest).median == pytest.approx(1 / 2.048)
    assert advantage.over(advantage.cached).median == pytest.approx(2.0)
    assert advantage.over(advantage.naive).median == pytest.approx(1e-4 * 4096**2 / (5e-4 * 4096))
    [tables] = tables_of([*known_laws(), compiled], baseline="gated")
    assert headline(tables) == (
        "At 64x64, batch 16, multiscale (groups) is slower than the fastest certified sampler of all other models, "
        "gated (compiled): it draws 0.488x as fast; what that costs in likelihood is not known, since the two are not "
        "trained. It draws 2.00x as fast as gated (cached), and 819x as fast as gated (raster)."
    )


def test_ratios_are_taken_round_by_round():
    rounds = {"slow": (4.0, 40.0, 6.0), "quick": (1.0, 10.0, 2.0)}  # a disturbance in the second round is in both
    rows = [measured(name, "s", 8, 0.0, default=True).model_copy(update={"seconds": it}) for name, it in rounds.items()]
    [tables] = tables_of(rows, baseline="slow")
    [advantage] = tables.advantages
    over = advantage.over(advantage.fastest)
    assert (over.low, over.median, over.high) == (3.5, 4.0, 4.0)
    assert "is faster than the fastest certified" in headline(tables)
    assert "it draws 4.00x (3.50x – 4.00x) as fast" in headline(tables)


def test_trained_models_are_compared_with_trained_ones_and_their_bits_stand_beside():
    trained = {"weights": "trained", "run": "r", "bits_per_dim": 0.15, "likelihood_kind": "exact"}
    rows = [
        measured("gated", "cached", 28, 1.0, default=True),
        measured("gated", "cached", 28, 2.0, default=True, label="gated, trained", **trained),
        measured("multiscale", "groups", 28, 1.0, **trained | {"bits_per_dim": 0.17}),
    ]
    [tables] = tables_of(rows, baseline="gated")
    [advantage] = tables.advantages
    assert advantage.fastest.label == advantage.cached.label == "gated, trained"
    assert "it needs 0.1700 bits a dimension, gated, trained 0.1500." in headline(tables)


def raced(ours, theirs, **settings):
    """Seconds at 8x8, 16x16 and so on: of a challenger, and of a baseline that has a slower sampler too."""
    sizes = [8 * 2**number for number in range(len(ours))]
    rows = [measured("new", "groups", size, it) for size, it in zip(sizes, ours, strict=True)]
    rows = [item.model_copy(update=settings) for item in rows]
    rows += [measured("old", "compiled", size, it) for size, it in zip(sizes, theirs, strict=True)]
    rows += [measured("old", "cached", size, 100.0, default=True) for size in sizes]
    [tables] = tables_of(rows, baseline="old")
    return tables


def test_where_a_model_overtakes_is_interpolated_in_logarithms():
    tables = raced([4.0, 8.0, 16.0], [1.0, 4.0, 64.0])  # the ratio is 1/4, 1/2, 4: level a third of the way
    [found] = overtakings(tables)
    pixels, seconds = found.point
    assert pixels == pytest.approx(256 * 4 ** (1 / 3))
    assert seconds == pytest.approx(8.0 * 2 ** (1 / 3))
    assert who_overtakes(tables) == (
        "At batch 16, new (groups) overtakes old (compiled) at 20.2x20.2 (20.2x20.2 to 20.2x20.2), between 16x16 and "
        "32x32; what that costs in likelihood is not known, since the two are not trained."
    )


@pytest.mark.parametrize(
    ("ours", "words"), [([0.5] * 3, "all of these"), ([2.0] * 3, "none of these"), ([0.5, 2.0, 2.0], "8x8 alone")]
)
def test_a_model_that_overtakes_between_no_two_sizes_says_so(ours, words):
    [found] = overtakings(raced(ours, [1.0] * 3))
    assert (found.words, found.point) == (words, None)


def test_what_the_quartiles_leave_open_is_said():
    [found] = overtakings(raced([1.5, 1.5], [0.5, 2.0], seconds=(1.0, 1.5, 4.0)))
    assert found.words == "13.9x13.9 (12.4x12.4 to not proven)"


def test_a_baseline_without_a_sampler_called_cached_stands_by_its_default():
    rows = [
        measured("nade", "raster", 8, 9.0),
        measured("nade", "incremental", 8, 4.0, default=True),
        measured("other", "groups", 8, 2.0),
    ]
    [tables] = tables_of(rows, baseline="nade")
    [advantage] = tables.advantages
    assert [advantage.over(it).median for it in (advantage.cached, advantage.naive)] == [2.0, 4.5]


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


def plot_of(rows, **settings):
    return json.loads(vega_lite(draw_plot("x", tables_of(rows, **settings))))


def panels_of(plot):
    """The layers of every panel: the guides, what was measured, the names, and a ring; each with its values."""
    panels = [panel for machine in plot["vconcat"] for panel in machine["vconcat"]]
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


def test_lines_are_named_where_they_end_with_their_exponents_and_nothing_has_a_legend():
    plot = plot_of(known_laws())
    [panel] = panels_of(plot)
    _, _, ends = panel["layer"]
    names = [item["name"] for item in ends["values"] if item["is_name"]]
    assert names == ["multiscale, groups, b = 1.00", "gated, cached, b = 1.00", "gated, raster, b = 2.00"]
    places = [item["seconds"] for item in ends["values"] if item["is_name"]]
    assert all(above > 1.2 * below for below, above in itertools.pairwise(places))
    assert '"legend": {' not in json.dumps(panel)


def test_names_are_pushed_apart_from_the_middle_of_a_heap_and_stay_inside():
    assert apart([5.0, 5.0, 5.0], 0.0, 10.0, 1.0) == pytest.approx([4.0, 5.0, 6.0])
    assert apart([0.0, 0.0, 9.0], 0.0, 10.0, 1.0) == pytest.approx([0.5, 1.5, 9.0])
    assert apart([10.0] * 3, 0.0, 10.0, 1.0) == pytest.approx([7.5, 8.5, 9.5])


def test_a_ring_marks_where_a_model_overtakes_and_trained_models_have_panels_of_their_own():
    trained = {"weights": "trained", "run": "r", "bits_per_dim": 0.15, "likelihood_kind": "exact"}
    rows = [*raced([4.0, 8.0, 16.0], [1.0, 4.0, 64.0]).measurements, measured("mnist", "cached", 28, 1.0, **trained)]
    first, second = panels_of(plot_of(rows, baseline="old"))
    rings = [layer["values"] for layer in first["layer"] if "says" in layer["values"][0]]
    assert {ring["says"] for values in rings for ring in values} == {"new\novertakes at\n20.2x20.2"}
    assert second["title"]["text"] == "batch 16, trained"
    assert [item["name"] for item in second["layer"][-1]["values"]] == ["mnist, cached, 0.1500 bits"] * 2


def test_every_panel_has_guides_of_slope_one_and_two():
    rows = [*known_laws(), *(measured("gated", "cached", size, 0.1 * size, batch_size=1) for size in (16, 32))]
    panels = panels_of(plot_of(rows))
    assert [panel["title"]["text"] for panel in panels] == [
        "batch 1, weights as initialised", "batch 16, weights as initialised"
    ]  # fmt: skip
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
