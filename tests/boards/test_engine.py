"""The default engine: a board that no plugin registers, made of what the records say of their metrics."""

from __future__ import annotations

import importlib.metadata

import pytest
from pydantic import ValidationError

import harness
from harness.boards.leaderboard import Leaderboard
from harness.discovery.manager import PluginManager, plugin_manager
from harness.interface.spec import RunSpec
from harness.records.record import FitRecord, RunRecord, ScoreRecord, identity_of
from harness.report.files import render_board, write_boards
from harness.report.markdown import GENERATED

FIT = FitRecord(steps=1, epochs=1.0, seconds=1.0, checkpoint="last", weights_sha256="w")


def score(value, metric="ink", **changes):
    fields = {"board": "pens", "header": "Ink", "unit": "levels", "kind": "estimate", "standard_error": 0.01}
    return ScoreRecord(**{"metric": metric, "key": "k", "value": value, **fields, **changes})


def record(model, *scores, seed=0):
    spec = RunSpec(model=model, dataset="digits", metrics=tuple({item.metric for item in scores}), seed=seed)
    names = {f"{item.metric}@{item.fingerprint}" if item.fingerprint else item.metric: item for item in scores}
    return RunRecord(
        run=f"{model}-s{seed}", key="k", identity=identity_of(spec), spec=spec, hyperparameters={}, provider="p",
        code="c", dataset_digest="d", status="done", fit=FIT, scores=names, image_shape=(1, 8, 8, 2),
    )  # fmt: skip


def ranks(board, name):
    table = board.table(name, "digits")
    return {row.label: (row.rank_best, row.rank_worst) for row in table.itertuples()}


def test_a_board_that_nobody_registers_ranks_by_its_first_column():
    board = Leaderboard([record("a", score(2.0)), record("b", score(1.0)), record("c", score(1.005))])
    assert board.boards == ("pens",)
    table = board.table("pens", "digits")
    assert list(table.label) == ["b", "c", "a"]
    assert ranks(board, "pens") == {"b": (1, 2), "c": (1, 2), "a": (3, 3)}
    assert set(table.tests_rest_on) == {"resampling"}
    assert set(table.ranked_by) == {"ink"}


def test_header_unit_and_direction_are_the_records():
    board = Leaderboard(
        [record("a", score(2.0, higher_is_better=True)), record("b", score(1.0, higher_is_better=True))]
    )
    assert list(board.table("pens", "digits").label) == ["a", "b"]
    assert "| Ink, levels ↑ |" in render_board(board, "pens", "markdown")


def test_where_up_is_better_a_lower_bound_above_an_exact_value_is_better_and_no_other():
    up = {"higher_is_better": True}
    for bound, expected in ((3.0, {"bound": (1, 1), "exact": (2, 2)}), (1.0, {"bound": (1, 2), "exact": (1, 2)})):
        board = Leaderboard(
            [record("bound", score(bound, kind="lower bound", **up)), record("exact", score(2.0, kind="exact", **up))]
        )
        assert ranks(board, "pens") == expected
        assert f"≥ {bound:.3f}" in render_board(board, "pens", "markdown")


def test_seeds_are_the_replicates_where_there_are_several():
    records = [
        record(model, score(mean + 0.01 * seed), seed=seed)
        for model, mean in (("a", 1), ("b", 2))
        for seed in (0, 1, 2)
    ]
    board = Leaderboard(records)
    assert ranks(board, "pens") == {"a": (1, 1), "b": (2, 2)}
    assert set(board.table("pens", "digits").tests_rest_on) == {"seeds"}


def test_figures_of_two_protocols_never_share_a_column():
    board = Leaderboard([record("a", score(1.0, protocol={"n": "10"})), record("b", score(2.0, protocol={"n": "20"}))])
    table = board.table("pens", "digits").set_index("label")
    assert table.ink.dropna().to_dict() == {"a": 1.0}
    assert table.ink__2.dropna().to_dict() == {"b": 2.0}
    [head] = [line for line in render_board(board, "pens", "markdown").splitlines() if line.startswith("| Rank")]
    assert "Ink, n 10, levels ↓" in head
    assert "Ink, n 20, levels ↓" in head


def test_speeds_of_two_machines_never_share_a_column():
    speeds = [score(value, stage="speed", fingerprint=name, hardware=name) for name, value in (("x", 1.0), ("y", 2.0))]
    table = Leaderboard([record("a", *speeds)]).table("pens", "digits")
    assert [table[name][0] for name in ("ink", "ink__2")] == [1.0, 2.0]


def test_a_metric_that_says_no_board_stands_on_the_other_one():
    board = Leaderboard([record("a", ScoreRecord(metric="weight-of-paper", key="k", value=1.0))])
    assert board.boards == ("other",)
    assert "Weight of paper" in render_board(board, "other", "markdown")


def test_a_metric_may_stand_on_a_board_that_is_there():
    board = Leaderboard([record("a", score(1.0, board="sample-quality"))])
    assert board.boards == ("sample-quality",)
    assert board.table("sample-quality", "digits").ink.to_list() == [1.0]


def test_an_unknown_board_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="no board 'pencils': the boards are pens"):
        Leaderboard([record("a", score(1.0))]).table("pencils", "digits")


@pytest.mark.parametrize("name", ["../pens", "Pens", "pens/x", "-"])
def test_a_board_is_no_path(name):
    with pytest.raises(ValidationError, match=r"board"):
        score(1.0, board=name)


NEWER = {"ais", "bdmc-gap", "kl", "marginal-kl", "reconstruction-mse", "reconstruction-nats"}  # than such records
EXAMPLES = {"iwae": "iwae-500", "bits-per-dim-iwae": "bits-per-dim-iwae-500", "fid": "fid-lenet-n2000", "kid": "kid"}


@pytest.mark.parametrize("entry", plugin_manager().entries("metric"), ids=lambda entry: entry.name)
def test_a_record_of_before_metrics_said_their_board_reads_as_one_of_today(entry):
    if not entry.module.startswith("harness.") or entry.name in NEWER:
        pytest.skip("the metric has no older records")
    name = EXAMPLES.get(entry.name, entry.name)
    metric = entry.load()(**entry.match(name))
    older = ScoreRecord.model_validate_json(f'{{"metric": "{name}", "key": "k"}}')
    assert older.board == metric.board
    assert older.header == (metric.header or older.header)


def test_rows_are_sorted_by_the_figure_that_they_show():
    figures = {"loose": (126.0, "upper bound"), "exact": (91.5, "exact"), "tight": (80.0, "upper bound")}
    records = [
        record(name, ScoreRecord(metric="nll", key="k", value=value, kind=kind, unit="nats", standard_error=0.1))
        for name, (value, kind) in figures.items()
    ]
    board = Leaderboard(records)
    assert list(board.table("likelihood", "digits").label) == ["tight", "exact", "loose"]
    assert ranks(board, "likelihood") == {"tight": (1, 1), "exact": (2, 3), "loose": (2, 3)}


def test_costs_have_a_board_of_their_own_and_no_ranks():
    figures = {
        "parameters-training": (1234.0, "parameters"),
        "flops-sampling": (5e9, "FLOPs"),
        "fit-seconds": (90.0, "s"),
    }
    costs = [
        ScoreRecord(metric=name, key="k", value=value, unit=unit, kind="exact", stage="cost", hardware="a laptop")
        for name, (value, unit) in figures.items()
    ]
    board = Leaderboard([record("a", *costs)])
    text = render_board(board, "cost", "markdown")
    [line] = [line for line in text.splitlines() if line.startswith("| a ")]
    assert [cell.strip() for cell in line.split("|")[2:5]] == ["90.0 s", "5.00 G", "1,234"]
    assert "Seconds of training are those of: a laptop." in text
    assert board.table("cost", "digits").rank_best.isna().all()


def test_operations_that_were_not_all_counted_are_at_least_so_many_on_both_boards_of_costs():
    flops = {"key": "k", "unit": "FLOPs", "kind": "lower bound", "stage": "cost"}
    speed = {"key": "k", "unit": "images/s", "kind": "estimate", "stage": "speed", "fingerprint": "f", "hardware": "h"}
    board = Leaderboard(
        [
            record(
                "a",
                ScoreRecord(metric="flops-sampling", value=5e9, protocol={"not counted": "aten.mv"}, **flops),
                ScoreRecord(metric="sampling-throughput", value=9.0, **speed),
            )
        ]
    )
    cost, throughput = (render_board(board, name, "markdown") for name in ("cost", "throughput"))
    for text in (cost, throughput):
        assert "≥ 5.00 G" in text
        assert "FLOPs are at least so many, for want of a rule for an operation: a (aten.mv)." in text


def test_a_speed_that_was_measured_beside_other_programs_is_marked_and_the_note_says_how_much_they_used():
    def measured(name, **protocol):
        fields = {"unit": "images/s", "kind": "estimate", "stage": "speed", "fingerprint": "f", "hardware": "h"}
        return record(name, ScoreRecord(metric="sampling-throughput", key="k", value=9.0, protocol=protocol, **fields))

    records = [measured("busy", load="others used about 40% of the processors"), measured("quiet")]
    text = render_board(Leaderboard(records), "throughput", "markdown")
    assert text.count("9.00 loaded") == 1
    assert "Loaded: not alone, other programs ran while these were measured: busy (others used about 40%" in text
    alone = render_board(Leaderboard(records[1:]), "throughput", "markdown")
    assert not any(words in alone for words in ("9.00 loaded", "Loaded: "))


def test_every_sampler_stands_below_the_throughput_board_and_one_that_is_not_confirmed_has_no_speed():
    speed = {"key": "k", "unit": "images/s", "kind": "estimate", "stage": "speed", "fingerprint": "f", "hardware": "h"}
    protocol = {"sampler": "compiled", "sampler cached": "holds: 64 entries", "sampler compiled": "holds: 9 entries"}
    protocol |= {"sampler wrong": "not confirmed: 7 of 9 entries", "batch size": "4"}
    details = {"cached images/s": 48.35, "cached batch size": 256.0, "compiled images/s": 4500.1}
    details |= {"compiled batch size": 4.0, "batch_4_q25": 4400.0, "batch_4_q75": 4600.0}
    facts = {"board": "throughput", "header": "Fastest sampler", **speed}
    fastest = ScoreRecord(metric="fastest-sampling", value=4500.1, protocol=protocol, details=details, **facts)
    text = render_board(Leaderboard([record("a", fastest)]), "throughput", "markdown")
    assert "| 4,500 (4,400–4,600) compiled |" in " ".join(text.split())
    _, below = text.split("# Every sampler, h (f)")
    cells = [[cell.strip() for cell in line.split("|")[2:7]] for line in below.splitlines() if line.startswith("| a ")]
    assert cells == [
        ["compiled", "4,500", "4", "holds: 9 entries", "1x"],
        ["cached", "48.4", "256", "holds: 64 entries", "0.0107x"],
        ["wrong", "–", "–", "not confirmed: 7 of 9 entries", "–"],
    ]


@pytest.mark.parametrize(
    ("batch_size", "shown"), [("48.35", "48.4"), ("5e+04", "50,000"), ("256", "256"), ("all", "all"), ("inf", "inf")]
)
def test_a_batch_size_is_printed_as_a_person_reads_it(batch_size, shown):
    speed = {"key": "k", "unit": "images/s", "kind": "estimate", "stage": "speed", "fingerprint": "f", "hardware": "h"}
    speeds = ScoreRecord(metric="training-throughput", value=9.0, protocol={"batch size": batch_size}, **speed)
    board = Leaderboard([record("a", speeds)])
    assert f"batch size={shown}." in render_board(board, "throughput", "markdown")
    assert f"batch size={shown}" in render_board(board, "throughput", "csv")


def test_what_a_plugin_measures_in_nats_on_the_likelihood_board_is_a_column_of_its_own_and_never_the_likelihood():
    nll = {"board": "likelihood", "header": "NLL", "unit": "nats", "kind": "exact"}
    own = {**nll, "header": "Worst image"}
    records = [
        record(model, score(worst, "a-worst-image", **own), score(mean, "nll", **nll))
        for model, worst, mean in (("a", 1.0, 80.0), ("b", 2.0, 70.0))
    ]
    table = Leaderboard(records).table("likelihood", "digits").set_index("label")
    assert table.nll_nats.to_dict() == {"b": 70.0, "a": 80.0}
    assert table.a_worst_image.to_dict() == {"b": 2.0, "a": 1.0}
    assert set(table.ranked_by) == {"nll_nats"}


class Broken(harness.Board):
    """A board whose columns raise."""

    def columns(self, rows):
        raise RuntimeError("two\nlines")


class WithPens:
    """A plugin that registers the board ``pens``."""

    @staticmethod
    @harness.hookimpl
    def register_boards():
        return [harness.BoardEntry("pens", f"{__name__}:Broken", summary="broken")]


@pytest.fixture
def manager_with():
    def make(*names):
        points = [importlib.metadata.EntryPoint(name, f"{__name__}:{name}", "harness") for name in names]
        return PluginManager(points)

    return make


def test_a_broken_board_is_one_line_that_names_its_plugin_and_the_other_boards_are_written(tmp_path, manager_with):
    records = [record("a", score(1.0), score(2.0, "paper", board="papers"))]
    (tmp_path / "pens.md").write_text(f"{GENERATED}\n", encoding="utf-8")
    board = Leaderboard(records, plugins=manager_with("WithPens"))
    with pytest.raises(ValueError, match=r"^board 'pens' of .*: RuntimeError: two lines$"):
        write_boards(board, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["papers.csv", "papers.md", "pens.md"]
    with pytest.raises(ValueError, match=r"board 'pens' of .*: RuntimeError"):
        board.table("pens", "digits")
    assert board.table("papers", "digits").paper.tolist() == [2.0]


class AlsoWithPens(WithPens):
    """Another one."""


def test_a_board_that_two_plugins_register_is_an_error_that_names_both(manager_with):
    board = Leaderboard([record("a", score(1.0))], plugins=manager_with("WithPens", "AlsoWithPens"))
    with pytest.raises(ValueError, match=r"board 'pens' is registered by .*AlsoWithPens.* and .*WithPens"):
        board.table("pens", "digits")
