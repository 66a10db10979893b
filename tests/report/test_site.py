"""The site of suites: from records alone, the same bytes, nothing of a record is run, and what was found is said."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from harness.boards.figures import Measured, ScoreMatrix
from harness.boards.leaderboard import Leaderboard
from harness.boards.pair_tests import PairTests, compare, compare_pairs, differences, rejected
from harness.interface.spec import RunSpec
from harness.records.archive import Archive, write_archive
from harness.records.record import Curve, Failure, FitRecord, RunRecord, ScoreRecord, identity_of
from harness.report.charts import write_picture
from harness.report.site.build import one_file, site_files, write_files
from harness.report.site.charts import Axis, forest, paretos
from harness.report.site.contest import Contest
from harness.report.site.curves import learning_curves, share_chart
from harness.report.site.suite import SuitePages
from harness.suites.suite import Suite
from harness.support.names import slug

NUM_IMAGES = 100
IMAGES = np.arange(NUM_IMAGES, dtype=np.int64)
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> \"'&amp; **x** [y](javascript:z) {{ 7*7 }} \x1b[3m\u202e =1"
)
SHOWN = HOSTILE.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e")


def score(metric="nll", value=1.0, **changes):
    return ScoreRecord(**{"metric": metric, "key": "k", "value": value, "unit": "nats", "kind": "exact", **changes})


class Lab:
    """A suite, its records and its folder; rows are given by label, kind of figure and mean."""

    def __init__(self, folder, rows, *, metrics=("nll",), seeds=(0,), title="A suite"):
        self.file = folder / "demo.toml"
        tables = [f'[[models]]\nname = "model{k}"\nlabel = {json.dumps(label)}' for k, (label, *_) in enumerate(rows)]
        head = f'title = {json.dumps(title)}\ndatasets = ["digits"]\nseeds = {[*seeds]}\nmetrics = {[*metrics]}\n'
        self.file.write_text("\n".join([f"{head}audit = false", *tables]), encoding="utf-8")
        self.suite, self.folder = Suite.read(self.file), self.file.with_suffix("")
        self.records, self.arrays = {}, {}
        for (label, kind, mean), row in zip(rows, self.suite.rows(), strict=True):
            for spec in row.configurations[0]:
                self.records[label, spec.seed] = record = make_record(spec)
                if mean is not None:
                    rng = np.random.default_rng([spec.seed, int(mean * 10)])
                    values = (mean + np.sin(IMAGES) + rng.normal(0, 0.01, NUM_IMAGES)).astype(np.float32).astype(float)
                    self.arrays[f"{record.run}/nll"] = values, IMAGES
                    record.scores["nll"] = score(
                        value=float(values.mean()), kind=kind, per_image=f"{record.run}/nll", num_images=NUM_IMAGES,
                        protocol={"split": "test"},
                    )  # fmt: skip

    def write(self):
        write_archive(Archive(tuple(self.records.values()), self.arrays), self.folder)
        return self

    def pages(self, **changes):
        board = Leaderboard(self.records.values(), self.suite, per_image=self.arrays)
        return SuitePages("demo", board, self.folder, **changes)

    def site(self):
        return dict(site_files([self.pages()]))

    def page(self):
        return self.write().site()["demo/index.html"].decode()


def make_record(spec: RunSpec, **changes):
    identity = identity_of(spec)
    fit = FitRecord(steps=100, epochs=2.0, seconds=10.0, checkpoint="last", weights_sha256="w")
    content = {
        "run": f"{spec.model}-digits-s{spec.seed}-{identity[:10]}", "key": identity, "identity": identity, "spec": spec,
        "hyperparameters": {"hidden": [5]}, "provider": "p 1", "code": "c", "dataset_digest": "d", "status": "done",
        "num_images": {"train": 10, "valid": 10, "test": 10}, "image_shape": (1, 8, 8, 2), "fit": fit, "scores": {},
        "environment": {"device_name": "a laptop", "torch": "2"},
    }  # fmt: skip
    return RunRecord(**{**content, **changes})


class Page(HTMLParser):
    """The tags and texts of a page, and what is wrong with its structure."""

    EMPTY = frozenset({"meta", "link", "img", "input", "br", "line", "circle", "path"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.texts += [" "] if tag in ("td", "dd") else []
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())

    def all(self, *names):
        return [attributes for tag, attributes in self.tags if tag in names]


THREE = (("Good", "exact", 80.0), ("Fair", "exact", 82.0), ("Bound", "upper bound", 81.0))


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path, THREE).write()


# --- what was found ---


def measured(mean, seeds=1, kind="exact", spread=0.3):
    rng = np.random.default_rng(int(mean * 100))
    values = mean + np.sin(IMAGES) + rng.normal(0, spread, (seeds, NUM_IMAGES))
    return Measured(values.mean(axis=1), ScoreMatrix(values, IMAGES), None, kind)


def test_differences_of_all_pairs_are_those_of_single_tests_with_intervals_that_hold_together():
    figures = [measured(80.0, 3), measured(80.3, 2), measured(81.0), measured(80.1, 3)]
    found = differences(figures)
    for a in range(4):
        for b in (b for b in range(4) if b != a):
            alone = compare(figures[a], figures[b])
            quantile = stats.t.ppf(1 - 0.05 / (2 * 6), alone.degrees_of_freedom)
            assert found.difference[a, b] == pytest.approx(alone.difference)
            assert found.half_width[a, b] == pytest.approx(quantile * alone.standard_error)


def test_adjusted_p_values_claim_what_the_ranks_claim():
    figures = [measured(80.0 + 0.2 * k * k, 2 + k % 2) for k in range(6)]
    found, ranked = differences(figures), PairTests.joined(rejected(lambda: compare_pairs(figures, alpha=0.05), 0.05))
    claimed = {tuple(sorted(pair)) for pair in zip(*np.nonzero(found.p_values <= 0.05), strict=True)}
    pairs = zip(ranked.lower, ranked.higher, strict=True)
    assert claimed == {tuple(sorted(pair)) for pair in pairs}
    assert 0 < len(claimed) < 15
    assert np.isnan(np.diag(found.p_values)).all()


def test_figures_that_cannot_be_compared_have_no_difference():
    bare = Measured(np.array([80.0]), None, None, "exact")
    found = differences([bare, bare])
    assert np.isnan(found.p_values).all()


def test_the_finding_says_which_is_best_by_how_much_and_which_may_be_better(lab):
    text = Page(lab.page()).text
    lead = re.search(
        r"Good has the lowest NLL, 80\.0\d* nats: better than the other exact row by at least (\S+) nats", text
    )
    assert 1.9 < float(lead[1]) < 2.0
    assert " nats (95 %, for all pairs at once). Bound has only a bound, which may hide a better model." in text
    assert "Its rank is 1–2 of 3." in text
    assert "another training might reverse the order" in text
    assert "harness run demo" in text


def test_rows_that_are_not_told_apart_are_named(tmp_path):
    lab = Lab(tmp_path, (("A", "exact", 80.0), ("B", "exact", 80.0), ("C", "exact", 90.0)))
    assert "better than 1 other row by at least" in (text := Page(lab.page()).text)
    assert ", but not told apart from B." in text


def test_the_lead_is_rounded_down(lab):
    board = lab.pages().leaderboard
    [table] = board.tables("likelihood", "digits")
    contest = Contest.of(table)
    pair = contest.pair(0, 2)
    assert float(contest.lead) <= float(pair.difference[1:]) - float(pair.half_width) + 0.005
    assert (pair.difference[0], pair.proven) == ("−", "better")
    assert contest.pair(1, 0).proven == ""  # a bound above an exact value is not proven worse


def test_where_more_is_better_the_best_is_the_highest(tmp_path):
    lab = Lab(tmp_path, (("Low", "exact", 1.0), ("High", "exact", 3.0)), metrics=("nll",))
    for record in lab.records.values():
        record.scores["nll"] = record.scores["nll"].model_copy(update={"higher_is_better": True, "board": "gain"})
        record.scores["nll"] = record.scores["nll"].model_copy(update={"metric": "gain", "header": "Gain"})
    lab.suite = lab.suite.model_copy(update={"metrics": ("gain",)})
    text = Page(lab.page()).text
    assert "High has the highest Gain, 3.00" in text
    assert "Higher is better." in text
    contest = Contest.of(lab.pages().leaderboard.tables("gain", "digits")[0])
    assert (contest.labels, contest.pair(0, 1).proven, contest.pair(0, 1).difference[0]) == (
        ("High", "Low"),
        "better",
        "+",
    )


@pytest.mark.parametrize(
    "rows", [[("a", "exact", None)], [("a", "exact", 1.0)], [("a", "upper bound", 1.0), ("b", "exact", 0.0)]]
)
def test_a_suite_of_few_rows_has_a_page(rows, tmp_path):
    lab = Lab(tmp_path, rows)
    for (label, _), record in lab.records.items():
        if "nll" not in record.scores:
            lab.records[label, 0] = record.model_copy(
                update={"status": "skipped", "reason": "no <likelihood>", "fit": None}
            )
    text = Page(lab.page()).text
    assert ("skipped (seeds 0): no <likelihood>" in text) == (rows[0][2] is None)
    assert ("the only row that is ranked" in text) == (len(rows) == 1 and rows[0][2] is not None)


# --- charts ---


def test_an_axis_has_its_ends_inside_of_the_box_and_round_ticks():
    axis = Axis.around([80.1, 98.4])
    assert (axis.at(80.1), axis.at(98.4), axis.at(500.0)) == (3.0, 97.0, 97.0)
    assert [text for _, text in axis.ticks(10)] == ["82", "84", "86", "88", "90", "92", "94", "96", "98"]
    assert [text for _, text in Axis.around([32.72, 32.91]).ticks(5)] == ["32.75", "32.80", "32.85", "32.90"]
    log = Axis.around([10.0, 1000.0], is_log=True)
    assert log.at(100.0) == 50.0
    assert [text for _, text in log.ticks(5)] == ["10", "20", "50", "100", "200", "500", "1 k"]


@pytest.mark.parametrize("values", [(0.0, 5e-324), (-1e-320, 0.0), (90.0, 90.00000000000001), (-1e100, 1e100)])
@pytest.mark.parametrize("is_log", [False, True])
def test_values_that_are_almost_one_have_an_axis(values, is_log):
    axis = Axis.around([abs(value) or 1e-323 for value in values] if is_log else values, is_log=is_log)
    assert axis.low < axis.high
    assert all(0 <= place <= 100 and len(text) < 150 for place, text in axis.ticks(5))


def test_a_row_that_is_far_worse_is_off_the_scale(tmp_path):
    rows = [*((f"row {k}", "exact", 80.0 + k) for k in range(5)), ("uniform", "exact", 500.0)]
    lab = Lab(tmp_path, rows)
    [table] = lab.pages().leaderboard.tables("likelihood", "digits")
    chart = forest(table)
    assert [chart.axis.holds(bar.value) for bar in chart.bars] == [True] * 5 + [False]
    assert lab.page().count("off the scale →") == 1


def test_a_stroke_stands_for_each_training_where_there_are_several(tmp_path):
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        page = Lab(folder, THREE, seeds=range(number)).page()
        assert page.count('class="seed"') == (0 if number == 1 else 3 * 2 + 1)  # and the key


def test_the_frontier_is_of_the_rows_that_no_other_beats_in_both(tmp_path):
    rows = (("best", "exact", 80.0), ("beaten", "exact", 82.0), ("cheap", "exact", 81.0))
    lab = Lab(tmp_path, rows, metrics=("nll", "fit-seconds"))
    for label, seconds in (("best", 100.0), ("beaten", 50.0), ("cheap", 10.0)):
        lab.records[label, 0].scores["fit-seconds"] = score("fit-seconds", seconds, stage="cost", unit="s")
    board = lab.pages().leaderboard
    [chart] = paretos(board, board.tables("likelihood", "digits")[0], "digits")
    assert [(point.row.label, point.number) for point in chart.points if point.is_frontier] == [
        ("cheap", 2),
        ("best", 1),
    ]
    assert [point.said for point in chart.points if point.is_frontier] == ["10.0 s", "100 s"]


def test_images_a_second_are_those_of_the_fastest_sampler_where_it_was_measured_and_the_caption_says_which(tmp_path):
    lab = Lab(tmp_path, THREE, metrics=("nll", "fastest-sampling", "sampling-throughput"))
    shared = {"stage": "speed", "unit": "images/s", "board": "throughput", "fingerprint": "f", "hardware": "h"}
    for number, (label, *_) in enumerate(THREE, 1):
        speeds = {"sampling-throughput": (number, "cached"), "fastest-sampling": (10 * number, "compiled")}
        for metric, (value, sampler) in speeds.items():
            if number > 1 or metric == "sampling-throughput":
                lab.records[label, 0].scores[f"{metric}@f"] = score(
                    metric, float(value), kind="estimate", protocol={"sampler": sampler}, **shared
                )
    board = lab.pages().leaderboard
    [chart] = paretos(board, board.tables("likelihood", "digits")[0], "digits")
    labels = [label for label, *_ in THREE]
    assert {point.row.label: point.said for point in chart.points} == {
        labels[0]: "1.00, cached", labels[1]: "20.0, compiled", labels[2]: "30.0, compiled"
    }  # fmt: skip
    assert "Each by the fastest sampler whose images are confirmed." in chart.drawn
    assert chart.drawn.endswith(f"By the default one, for want of that figure: {labels[0]}.")


# --- curves ---


def add_curves(lab, *, valid=(90.0, 81.0, 80.0), flops=None):
    curve = Curve(
        step=[10, 50, 100], epoch=[0.2, 1, 2], seconds=[1, 5, 10], loss=[95, 85, None], valid=valid or [None] * 3
    )
    best = {"valid_score": valid[-1], "valid_step": 100} if valid else {}
    for key, record in lab.records.items():
        fit = record.fit.model_copy(update={"curve": curve, **best})
        scores = {} if flops is None else {"flops-training": score("flops-training", flops, stage="cost", unit="FLOPs")}
        lab.records[key] = record.model_copy(update={"fit": fit, "scores": record.scores | scores})
    return lab


def test_kinds_of_likelihood_have_charts_of_their_own_and_every_pair_of_axes_a_panel(lab):
    charts = learning_curves(add_curves(lab, flops=1e6).pages().leaderboard.rows)
    assert {chart.title: [row.label for row in chart.rows] for chart in charts} == {
        "Exact likelihood": ["Good", "Fair"],
        "Bounds": ["Bound"],
    }
    pairs = [(up, across) for up in ("valid", "loss") for across in ("epoch", "seconds", "flops")]
    assert [(panel.up, panel.across) for panel in charts[0].panels] == pairs
    assert charts[1].panels[0].marks[0].path == "M124 30 500 876 970 970h0"
    assert charts[1].panels[2].x.ticks(2)[-1][1] == "1 M"
    lab.records.clear()
    assert learning_curves(lab.pages().leaderboard.rows) == []


def test_without_flops_or_validation_there_is_no_such_axis(lab):
    [chart, _] = learning_curves(add_curves(lab, valid=None).pages().leaderboard.rows)
    assert [(panel.up, panel.across) for panel in chart.panels] == [("loss", "epoch"), ("loss", "seconds")]


def test_numbers_of_lines_that_end_together_stand_apart(tmp_path):
    lab = add_curves(Lab(tmp_path, [(f"row {k}", "exact", 80.0) for k in range(9)]))
    [chart] = learning_curves(lab.pages().leaderboard.rows)
    heights = sorted(mark.y for mark in chart.panels[0].marks)
    assert min(after - before for before, after in itertools.pairwise(heights)) >= 3.8


def test_a_page_shows_curves_by_switches_that_need_no_script_and_gives_their_points(lab):
    add_curves(lab, flops=1e6).records["Bound", 0] = make_record(lab.records["Bound", 0].spec)
    site = lab.write().site()
    for name, number in (("demo/index.html", 6 + 1), ("demo/rows/Good-digits.html", 6)):
        page = Page(site[name].decode())
        assert len([it for it in page.all("svg") if it.get("class", "").startswith("panel")]) == number + (number > 6)
        radios = page.all("input")
        assert [it["class"] for it in radios if "checked" in it] == ["pick-valid", "pick-epoch"]
        assert len({it["name"] for it in radios}) == 2
    assert "or by other means than the harness's trainer: Bound." in Page(site["demo/index.html"].decode()).text
    lines = site["demo/curves.csv"].decode().splitlines()
    assert lines[:2] == [
        "label,dataset,seed,step,epoch,images,seconds,flops,loss,valid",
        "Good,digits,0,10,0.2,2.0,1.0,100000.0,95.0,90.0",
    ]
    assert len(lines) == 1 + 2 * 3


def test_shares_of_the_budget_are_drawn_with_the_spread_over_seeds(tmp_path):
    lab = add_curves(Lab(tmp_path, THREE[:1], seeds=(0, 1)))
    record = lab.records["Good", 1]
    curve = record.fit.curve.model_copy(update={"valid": (91.0, 81.0, 80.0)})
    lab.records["Good", 1] = record.model_copy(update={"fit": record.fit.model_copy(update={"curve": curve})})
    [table] = lab.pages().leaderboard.tables("equal-compute", "digits")
    [mark] = share_chart(table).panels[0].marks
    assert mark.path.count("V") == 2
    assert len(Page(lab.page()).all("input")) == 4


# --- the same bytes, and whether a folder holds them ---


def test_the_same_records_give_the_same_bytes(lab):
    site = lab.site()
    assert lab.site() == site
    lab.records = dict(reversed(lab.records.items()))
    assert lab.site() == site


def test_a_site_is_written_checked_and_names_what_was_touched(lab, tmp_path):
    folder = tmp_path / "site"
    number, new = write_files(site_files([lab.pages()]), folder, check=False, whole=True)
    assert number == len(new) == len([path for path in folder.rglob("*") if path.is_file()])
    assert write_files(site_files([lab.pages()]), folder, check=True, whole=True) == (number, [])
    (folder / "demo" / "records.jsonl").write_bytes(b"")
    (folder / "demo" / "rows" / "gone.html").write_bytes((folder / "index.html").read_bytes())
    (folder / "one.html").write_bytes(one_file(lab.pages(is_alone=True)))
    (folder / "demo" / "mine.html").write_text("<p>somebody else's</p>")
    touched = ["demo/records.jsonl", "demo/rows/gone.html"]
    assert write_files(site_files([lab.pages()]), folder, check=True, whole=True) == (number, touched)
    assert write_files(site_files([lab.pages()]), folder, check=False, whole=True) == (number, touched)
    assert write_files(site_files([lab.pages()]), folder, check=True, whole=True) == (number, [])
    assert (folder / "demo" / "mine.html").exists()
    assert (folder / "one.html").exists()


@pytest.mark.parametrize("column", ["epoch", "seconds", "loss", "valid"])
def test_a_site_is_not_that_of_a_curve_of_which_one_point_was_touched(lab, tmp_path, column):
    write_files(site_files([add_curves(lab).write().pages()]), tmp_path / "site", check=False, whole=True)
    record = lab.records["Good", 0]
    values = list(getattr(record.fit.curve, column))
    curve = record.fit.curve.model_copy(update={column: (values[0], values[1] + 0.5, values[2])})
    lab.records["Good", 0] = record.model_copy(update={"fit": record.fit.model_copy(update={"curve": curve})})
    _, touched = write_files(site_files([lab.write().pages()]), tmp_path / "site", check=True, whole=True)
    assert {"demo/curves.csv", "demo/records.jsonl", "demo/rows/Good-digits.html"} <= set(touched)


def test_two_suites_of_one_name_are_refused(lab):
    with pytest.raises(ValueError, match="two suites would have the folder 'demo'"):
        list(site_files([lab.pages(), lab.pages()]))


# --- what a page may do, and how it is read ---


def every_page(lab):
    return {name: Page(content.decode()) for name, content in lab.site().items() if name.endswith(".html")}


def test_a_page_asks_the_network_for_nothing_and_runs_its_own_script_alone(lab):
    for name, page in every_page(lab).items():
        [policy] = [it["content"] for it in page.all("meta") if it.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:;")
        root = "../" * name.count("/")
        assert [it["src"] for it in page.all("script")] == [f"{root}site.js"]
        assert not any(":" in it.get("href", "") for it in page.all("a"))
        assert not any(attribute.startswith("on") or attribute == "style" for _, it in page.tags for attribute in it)


def add_samples(lab):
    (lab.folder / "samples").mkdir()
    Image.new("L", (4, 4)).save(lab.folder / "samples" / "Good-digits.png")


def test_every_link_leads_to_a_file_or_a_place_that_is_there(lab):
    add_samples(lab)
    site = lab.site()
    for name, page in every_page(lab).items():
        ids = [it["id"] for _, it in page.tags if "id" in it]
        assert len(ids) == len(set(ids))
        targets = [it.get("href", it.get("src")) for it in page.all("a", "link", "img", "script")]
        assert "Good" not in name or page.all("img")[0]["alt"] == "Samples of Good, seed 0"
        for target in (target for target in targets if not target.startswith("data:")):
            if target.startswith("#"):
                assert target[1:] in ids
                continue
            parts = name.split("/")[:-1]
            for part in target.split("/"):
                parts = parts[:-1] if part == ".." else [*parts, part]
            assert "/".join(parts) in site, target


def test_one_file_allows_its_own_style_and_script_by_their_digests(lab):
    content = one_file(lab.pages(is_alone=True)).decode()
    for tag in ("style", "script"):
        [inside] = re.findall(rf"<{tag}>(.*?)</{tag}>", content, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;" in content
    page = Page(content)
    places = {it["id"] for _, it in page.tags if "id" in it}
    assert {it["href"][1:] for it in page.all("a")} <= places
    assert not [it for it in page.all("link", "img") if not it.get("href", it.get("src")).startswith("data:")]


def test_headings_are_in_order_tables_have_captions_and_pictures_have_words(tmp_path):
    lab = Lab(tmp_path, THREE, seeds=(0, 1), metrics=("nll", "fit-seconds"))
    for (_, seed), record in lab.records.items():
        record.scores["fit-seconds"] = score("fit-seconds", 5.0 + seed, stage="cost", unit="s")
    add_samples(lab.write())
    pages = every_page(lab)
    assert pages["demo/index.html"].all("img")
    for page in pages.values():
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        assert len(page.all("caption")) == len(page.all("table"))
        assert all(it.get("scope") in ("col", "row", "rowgroup") for it in page.all("th"))
        assert all(it["alt"] for it in page.all("img"))
        assert all({"tabindex", "aria-label"} <= it.keys() for it in page.all("div") if it.get("class") == "scroll")


def test_a_row_with_a_strip_has_its_grid_folded_and_the_strip_says_of_itself_what_it_shows(lab):
    add_samples(lab)
    Image.new("L", (4, 4)).save(lab.folder / "samples" / "Fair-digits.png")
    strip = Image.new("L", (4, 4))
    strip.info["Description"] = f"Größe {HOSTILE}"
    write_picture(strip, lab.folder / "figures" / "nearest" / "Good-digits", "mark")
    site = lab.site()
    text = site["demo/index.html"].decode()
    pictures = [it["src"] for it in Page(text).all("img")]
    assert pictures == ["figures/nearest/Good-digits.png", "samples/Fair-digits.png", "samples/Good-digits.png"]
    assert text.index(pictures[1]) < text.index("More samples, in grids") < text.index(pictures[2])
    told = f"Good, seed 0: Größe {' '.join(SHOWN.split())}"
    assert Page(text).text.count(told) == 1
    row = Page(site["demo/rows/Good-digits.html"].decode())
    assert told.removeprefix("Good, seed 0: ") in row.text
    assert row.all("img")[0]["alt"] == "Samples of Good, seed 0, above their nearest training images"


def test_a_picture_that_may_hold_a_script_is_no_file_of_its_own(lab):
    (lab.folder / "figures" / "odd").mkdir(parents=True)
    (lab.folder / "figures" / "odd" / "digits.svg").write_text("<svg><script>alert(1)</script></svg>")
    site = lab.site()
    assert not [name for name in site if name.endswith(".svg")]
    [image] = Page(site["demo/index.html"].decode()).all("img")
    assert image["src"].startswith("data:image/svg+xml;base64,")


def hostile_lab(folder):
    lab = Lab(folder, ((HOSTILE, "exact", 80.0), ("b", "exact", None)), metrics=("nll", "odd"), title=HOSTILE)
    record = lab.records[HOSTILE, 0]
    record.scores["odd"] = score(
        "odd", 1.0, header=HOSTILE, unit=HOSTILE, hardware=HOSTILE, protocol={HOSTILE: HOSTILE}
    )
    failure = Failure(stage=HOSTILE, type=HOSTILE, message=HOSTILE, traceback=HOSTILE, log=HOSTILE)
    changes = {"status": "failed", "fit": None, "failure": failure, "provider": HOSTILE, "split_protocol": HOSTILE,
               "hyperparameters": {HOSTILE: HOSTILE}, "environment": {"device_name": HOSTILE}}  # fmt: skip
    add_curves(lab).records["b", 0] = lab.records["b", 0].model_copy(update=changes)
    return lab.write()


@pytest.mark.parametrize("alone", [False, True])
def test_hostile_texts_are_shown_as_they_are(alone, tmp_path):
    lab = hostile_lab(tmp_path)
    pages = {"one": Page(one_file(lab.pages(is_alone=True)).decode())} if alone else every_page(lab)
    for page in pages.values():
        assert not page.all("img")
        assert len(page.all("script")) == 1
        assert not [name for _, it in page.tags for name in it if name.startswith("on") or name == "style"]
        targets = [it[name] for _, it in page.tags for name in ("href", "src") if name in it]
        assert not [target for target in targets if ":" in target and not target.startswith("data:,")]
    texts = " ".join(page.text for page in pages.values())
    assert texts.count(" ".join(SHOWN.split())) > 10
    assert "49" not in re.findall(r"\{\{ (\S+) \}\}", texts)
    assert not {"\x1b", "\u202e"} & set(texts)


def test_files_of_hostile_labels_stay_in_their_folder(tmp_path):
    lab = Lab(
        tmp_path,
        (("../../x", "exact", 1.0), ("a" * 500, "exact", 2.0), ("A" * 500, "exact", 3.0), ("\0/", "exact", 4.0)),
    )
    names = [name for name in lab.write().site() if "/rows/" in name]
    assert len({name.lower() for name in names}) == 4
    assert all(re.fullmatch(r"demo/rows/[\w@.-]{1,200}\.html", name) and slug(name[10:]) == name[10:] for name in names)


def test_datasets_and_rows_of_one_file_name_have_pages_and_places_of_their_own_and_long_labels_a_file(tmp_path):
    records = []
    for dataset, model in itertools.product(("a b", "a-b", "a-b@2", "d}\\input{x}"), ("made", "m" * 300)):
        record = make_record(RunSpec(dataset=dataset, model=model, seed=0, metrics=("nll",)))
        records.append(record.model_copy(update={"scores": {"nll": score()}}))
    (tmp_path / "samples").mkdir()
    files = list(site_files([SuitePages("demo", Leaderboard(records), tmp_path)]))
    site = dict(files)
    assert len(site) == len(files)
    places = [it["id"] for _, it in Page(site["demo/index.html"].decode()).tags if "id" in it]
    assert len(places) == len(set(places))
    assert "input{x}" not in site["demo/likelihood.tex"].decode().replace(r"input\{x\}", "")


# --- what stands on the pages ---


def test_a_failure_is_a_row_and_its_page_has_the_log(lab):
    failure = Failure(stage="fit", type="OSError", message="no room", log="step 7\nstep 8")
    changes = {"status": "failed", "fit": None, "failure": failure, "scores": {}}
    lab.records["Fair", 0] = lab.records["Fair", 0].model_copy(update=changes)
    site = lab.site()
    assert "Fair failed (seeds 0): fit: OSError: no room" in Page(site["demo/index.html"].decode()).text
    assert '<pre tabindex="0">step 7\nstep 8</pre>' in site["demo/rows/Fair-digits.html"].decode()


def test_a_metric_that_no_code_here_knows_has_its_board(tmp_path):
    lab = Lab(tmp_path, THREE, metrics=("nll", "ink"))
    lab.records["Good", 0].scores["ink"] = score(
        "ink", 0.25, board="drawing", header="Ink spilt", unit="drops", kind="estimate"
    )
    text = Page(lab.write().page()).text
    assert "drawing" in text
    assert "Ink spilt, drops ↓" in text


@pytest.mark.parametrize("where", ["columns(self, rows)", "notes(self, table)", "lead(self, rows)"])
def test_a_board_that_fails_is_said_and_takes_no_other_with_it(where, tmp_path, install_plugin):
    code = f"""
    import harness

    class Broken(harness.Board):
        def {where}:
            raise RuntimeError("a <b>bad</b> day")

    @harness.hookimpl
    def register_boards():
        return [harness.BoardEntry("drawing", "harness_broken:Broken")]
    """
    install_plugin("harness-broken", {"harness_broken.py": code}, entry_points={"broken": "harness_broken"})
    lab = Lab(tmp_path, THREE, metrics=("nll", "ink"))
    lab.records["Good", 0].scores["ink"] = score("ink", 0.25, board="drawing")
    site = lab.write().site()
    text = Page(site["demo/index.html"].decode()).text
    assert "a <b>bad</b> day" in text
    assert "Good has the lowest NLL" in text
    assert "demo/likelihood.csv" in site
    assert ("demo/drawing.csv" in site) == (not where.startswith("columns"))


def test_the_command_writes_a_site_and_its_check_fails_when_a_page_was_touched(
    lab, tmp_path, monkeypatch, command_line
):
    monkeypatch.chdir(tmp_path)
    done = command_line("report", "demo.toml")
    assert (done.code, done.out) == (0, f"site: {len(lab.site())} files, {len(lab.site())} of them new\n")
    assert command_line("report", "demo.toml", "--check").code == 0
    (tmp_path / "site" / "index.html").write_text("x")
    touched = command_line("report", "demo.toml", "--check")
    assert (touched.code, touched.err) == (1, "not what the records give: site/index.html\n")
    assert command_line("report", "demo.toml", "--one-file").out == "demo.html: 1 files, 1 of them new\n"
    assert command_line("report", "demo.toml", "--one-file", "--check").code == 0
    assert "no suite in leaderboards/ has records" in command_line("report").complaint


def test_a_row_s_page_prints_a_figure_as_its_board_does(tmp_path):
    lab = Lab(tmp_path, THREE[:1], metrics=("nll", "kid-pixels-n100"))
    lab.records["Good", 0].scores["kid-pixels-n100"] = score("kid-pixels-n100", 0.00415, unit="", kind="estimate")
    site = lab.write().site()
    for page in (site["demo/index.html"], site["demo/rows/Good-digits.html"]):
        assert "KID × 1,000" in (text := Page(page.decode()).text)
        assert "4.15" in text
