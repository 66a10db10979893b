"""Audits on the boards: who is ranked, what is said of who is not; and the gap to the entropy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.boards.audits import audit_of, audit_of_score
from harness.boards.leaderboard import Leaderboard
from harness.records.record import Failure, FitRecord, RunRecord, ScoreRecord, identity_of
from harness.report.files import render_boards
from harness.suites.suite import Suite

WRONG = {
    "check": "normalisation", "verdict": "fail", "where": "3x3, 2 levels, random weights",
    "quantity": "sum of p over all images, minus 1", "statistic": 0.5, "threshold": 1e-9,
    "smallest_defect": "1e-09 of mass", "meaning": "the probabilities of all images sum to 1.5, not to 1",
}  # fmt: skip
RIGHT = {"check": "normalisation", "verdict": "pass"}
CONTRACT = {"check": "contract", "verdict": "pass"}
MET = ("nll", "iwae-5", "iwae-50", "fid-pixels")


def suite(*names: str, seeds: tuple[int, ...] = (0,), **more: Any) -> Suite:
    tables = [{"name": name} if isinstance(name, str) else name for name in names]
    content = {
        "title": "T", "datasets": ["digits"], "seeds": list(seeds), "metrics": list(MET), "models": tables, **more
    }  # fmt: skip
    return Suite.parse(content, name="t", source="t")


def audited(*checks: dict[str, Any], standing: str = "") -> ScoreRecord:
    failed = [check for check in checks if check["verdict"] == "fail"]
    standing = standing or ("failed" if failed else "passed")
    protocol = {"standing": standing, "version": "1", "seed": "0", "checks": json.dumps(checks)}
    return ScoreRecord(metric="audit", key="k", value=float(len(failed)), kind="exact", protocol=protocol)


def records(
    of: Suite,
    figures: dict[str, float],
    audits: dict[str, ScoreRecord | None],
    *,
    metric: str = "nll",
    codes: dict[int, str] | None = None,
) -> list[RunRecord]:
    found = []
    for row in of.rows():
        for spec in row.configurations[0]:
            kind = "exact" if metric == "nll" else "upper bound" if metric.startswith("iwae") else "estimate"
            value = figures[row.label] + 0.01 * spec.seed
            score = ScoreRecord(metric=metric, key="k", value=value, standard_error=0.01, kind=kind, unit="nats")
            scores = {metric: score}
            if (audit := audits.get(row.label)) is not None:
                scores["audit"] = audit
            fit = FitRecord(steps=1, epochs=1.0, seconds=1.0, checkpoint="last", weights_sha256="w")
            found.append(
                RunRecord(
                    run=f"{row.model}-s{spec.seed}", key="k", identity=identity_of(spec), spec=spec, hyperparameters={},
                    provider="p", code=(codes or {}).get(spec.seed, "c"), dataset_digest="d", status="done", fit=fit,
                    num_images={"test": 100}, image_shape=(1, 8, 8, 17), scores=scores,
                )
            )  # fmt: skip
    return found


def line(text: str, label: str) -> str:
    return next(found for found in text.splitlines() if found.startswith("|") and f"| {label} " in found)


SEEDS = (0, 1, 2)


@pytest.fixture(params=["nll", "iwae-50"])
def boards(request):
    """Three models of three seeds, of which the one that scores best fails its audit; and the board without it."""
    metric = request.param
    figures = {"good": 80.0, "better": 60.0, "cheat": 10.0}
    audits = {"good": audited(CONTRACT, RIGHT), "better": audited(CONTRACT, RIGHT), "cheat": audited(CONTRACT, WRONG)}
    three, two = suite("good", "better", "cheat", seeds=SEEDS), suite("good", "better", seeds=SEEDS)
    board = "likelihood" if metric == "nll" else "bounds"
    with_cheat = Leaderboard(records(three, figures, audits, metric=metric), three)
    return board, with_cheat, Leaderboard(records(two, figures, audits, metric=metric), two)


def test_a_model_that_fails_its_audit_is_listed_last_without_a_rank_and_changes_no_other(boards):
    board, found, without = boards
    table, others = found.table(board, "digits"), without.table(board, "digits")
    assert list(table.label) == ["better", "good", "cheat"]
    assert table.iloc[2][["rank_best", "rank_worst"]].isna().all()
    columns = ["label", "rank_best", "rank_worst", "tests_rest_on"]
    assert table.iloc[:2][columns].equals(others[columns])
    assert list(table["audit"]) == ["passed", "passed", "failed"]
    assert table.audit_failed.isna().tolist() == [True, True, False]
    assert table.audit_failed[2] == "normalisation"


def test_the_failure_stands_below_the_table_in_words(boards):
    board, found, _ = boards
    text = render_boards(found)[f"{board}.md"].decode()
    cells = [cell.strip() for cell in line(text, "cheat").split("|")]
    assert cells[1] == "–"
    assert "✗ normalisation" in cells
    assert "✓" in [cell.strip() for cell in line(text, "good").split("|")]
    said = (
        "- cheat: ✗ normalisation (3x3, 2 levels, random weights): "
        "the probabilities of all images sum to 1.5, not to 1. "
        "sum of p over all images, minus 1: 0.5 > 1e-09; smallest defect seen: 1e-09 of mass."
    )
    assert said in text
    assert "- Audit of better; good: passed contract, normalisation." in text
    assert "- Audit of cheat: passed contract." in text


@pytest.mark.parametrize(
    ("standing", "cell"),
    [("passed", "✓"), ("not enumerated", "not enumerated"), ("no likelihood", "no likelihood"), (None, "not audited")],
)
def test_whatever_did_not_fail_is_ranked_and_the_column_says_what_is_known(standing, cell):
    of = suite("a", "b")
    score = None if standing is None else audited(CONTRACT, standing=standing)
    board = Leaderboard(records(of, {"a": 1.0, "b": 2.0}, {"a": score}), of)
    assert line(render_boards(board)["likelihood.md"].decode(), "a").count(f" {cell} ") == 1
    assert board.table("likelihood", "digits").rank_best.tolist() == [1, 2]


def test_a_board_of_records_without_audits_says_so():
    of = suite("a", "b")
    board = Leaderboard(records(of, {"a": 1.0, "b": 2.0}, {}), of)
    assert board.table("likelihood", "digits")["audit"].tolist() == ["not audited"] * 2
    assert "Audit of" not in render_boards(board)["likelihood.md"].decode()


def test_references_are_not_audited_and_have_no_column():
    of = suite("a", {"name": "floor", "role": "reference"})
    assert [row.configurations[0][0].metrics[-1] for row in of.rows()] == ["audit", "fid-pixels"]
    board = Leaderboard(records(of, {"a": 1.0, "floor": 2.0}, {"a": audited(RIGHT)}), of)
    text = render_boards(board)["likelihood.md"].decode()
    assert "| Audit" in text.split("### Floors and ceilings")[0]
    assert "| Audit" not in text.split("### Floors and ceilings")[1]


def test_the_worst_audit_of_several_codes_counts():
    of = suite("a", seeds=(0, 1))
    first, second = records(of, {"a": 1.0}, {"a": audited(RIGHT)}, codes={0: "old", 1: "new"})
    second.scores["audit"] = audited(WRONG)
    assert audit_of([first, second]).standing == audit_of([second, first]).standing == "failed"


def test_an_audit_covers_other_seeds_of_the_same_code_and_no_other_code():
    of = suite("a", seeds=(0, 1))
    for codes, standing in (({0: "c", 1: "c"}, "passed"), ({0: "old", 1: "new"}, "not audited")):
        first, second = records(of, {"a": 1.0}, {"a": audited(RIGHT)}, codes=codes)
        del second.scores["audit"]
        assert audit_of([first, second]).standing == standing


def test_an_audit_that_ended_the_process_is_no_audit_and_says_why():
    of = suite("a")
    crashed = ScoreRecord(
        metric="audit", key="k", status="killed", failure=Failure(stage="audit", type="Died", message="SIGSEGV")
    )
    board = Leaderboard(records(of, {"a": 1.0}, {"a": crashed}), of)
    text = render_boards(board)["likelihood.md"].decode()
    assert "- a: not audited, the audit is killed: SIGSEGV." in text
    assert board.table("likelihood", "digits").rank_best.tolist() == [1]


def test_what_cannot_be_read_is_no_audit():
    score = audited(RIGHT)
    broken = score.model_copy(update={"protocol": {**score.protocol, "checks": "[{]"}})
    unknown = score.model_copy(update={"protocol": {"standing": "fine"}})
    assert audit_of_score(broken).standing == audit_of_score(unknown).standing == "not audited"


def test_a_declared_dependence_is_a_note_under_the_table():
    note = "28x28, 2 levels: by its own declaration, a conditional sees 50.0% of its past"
    of = suite("a")
    score = audited({"check": "dependence", "verdict": "pass", "notes": [note]})
    text = render_boards(Leaderboard(records(of, {"a": 1.0}, {"a": score}), of))["likelihood.md"].decode()
    assert f"- a: dependence: {note}." in text


def test_sample_quality_is_ranked_with_a_wrong_likelihood_and_not_with_wrong_samples():
    figures = {"a": 3.0, "b": 2.0, "c": 1.0}
    bad = {"check": "reproducible", "verdict": "fail", "meaning": "the same seed gives other samples"}
    audits = {"a": audited(CONTRACT, RIGHT), "b": audited(CONTRACT, WRONG), "c": audited(CONTRACT, bad)}
    of = suite("a", "b", "c")
    table = Leaderboard(records(of, figures, audits, metric="fid-pixels"), of).table("sample-quality", "digits")
    assert table.set_index("label").rank_best.isna().to_dict() == {"b": False, "a": False, "c": True}
    assert table.label.tolist()[-1] == "c"
    assert table.set_index("label").audit_failed.to_dict()["b"] == "normalisation"


def test_the_same_records_give_the_same_bytes_in_any_order():
    of = suite("a", "b", seeds=SEEDS)
    kept = records(of, {"a": 1.0, "b": 2.0}, {"a": audited(WRONG), "b": audited(RIGHT)})
    again = [RunRecord.model_validate_json(record.model_dump_json()) for record in reversed(kept)]
    assert render_boards(Leaderboard(kept, of)) == render_boards(Leaderboard(again, of))


def test_audit_false_leaves_the_metrics_as_they_are_and_audit_among_them_stands_once():
    assert suite("a", audit=False).rows()[0].configurations[0][0].metrics == MET
    named = suite("a").model_copy(update={"metrics": ("audit", "nll")})
    assert named.rows()[0].configurations[0][0].metrics == ("audit", "nll")


# --- the gap to the entropy ---


def gaps(of: Suite, values: dict[str, tuple[float, str]]) -> Leaderboard:
    found = records(of, dict.fromkeys(values, 20.0), {})
    for record in found:
        value, kind = values[record.spec.model]
        record.scores["entropy-gap"] = ScoreRecord(
            metric="entropy-gap", key="k", value=value + 0.1 * record.spec.seed, standard_error=0.01, kind=kind,
            unit="nats", details={"true_nll": 19.25, "entropy": 19.5},
        )  # fmt: skip
    return Leaderboard(found, of)


def test_the_gap_to_the_entropy_has_a_column_where_it_was_measured():
    board = gaps(suite("a", "b"), {"a": (0.5, "exact"), "b": (0.75, "upper bound")})
    text = render_boards(board)["likelihood.md"].decode()
    assert "Entropy: 19.500 nats an image, exact; the true distribution scores the test images at 19.250 nats." in text
    assert " 0.500 (0.010) " in line(text, "a")
    assert " ≤ 0.750 (0.010) " in line(text, "b")
    table = board.table("likelihood", "digits").set_index("label")
    assert table.entropy_gap.to_dict() == {"a": 0.5, "b": 0.75}
    assert table.entropy_gap_kind.to_dict() == {"a": "exact", "b": "upper bound"}
    of = suite("a")
    assert "Gap" not in render_boards(Leaderboard(records(of, {"a": 1.0}, {}), of))["likelihood.md"].decode()


def test_an_exact_gap_below_zero_beyond_its_error_is_called_impossible():
    values = {"a": (-0.05, "exact"), "b": (-0.03, "exact"), "c": (-0.05, "upper bound")}
    text = render_boards(gaps(suite("a", "b", "c"), values))["likelihood.md"].decode()
    assert ["✗ below the entropy" in line(text, label) for label in values] == [True, False, False]
    assert "is impossible for a right likelihood: a." in text
