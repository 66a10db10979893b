"""Two rows side by side: what is subtracted, what it rests on, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from harness.boards.comparison import NotComparable, NotFound, Source, compare_rows, find_pair
from harness.boards.figures import Measured, ScoreMatrix
from harness.boards.pair_tests import compare
from harness.boards.row import BoardRow
from harness.boards.rows import rows_of
from harness.cli import app
from harness.interface.spec import RunSpec
from harness.records.archive import Archive, write_archive
from harness.records.record import RunRecord, ScoreRecord, identity_of
from harness.support.names import digest_of

IMAGES = np.arange(100, 140, dtype=np.int64)


def score(metric="nll", value=1.0, **changes):
    defaults = {"metric": metric, "key": "k", "value": value, "unit": "nats", "kind": "exact"}
    return ScoreRecord(**{**defaults, "protocol": {"split": "test"}, **changes})


def record(model, seed=0, scores=(), dataset="digits", **changes):
    spec = RunSpec(model=model, dataset=dataset, metrics=[item.metric for item in scores], seed=seed)
    key = digest_of([model, seed, dataset])
    content = {
        "run": f"{model}-{dataset}-s{seed}-{key[:10]}", "key": key, "identity": identity_of(spec), "spec": spec,
        "hyperparameters": {}, "provider": "p", "code": digest_of("c"), "dataset_digest": digest_of(dataset),
        "status": "done", "image_shape": (1, 2, 2, 2), "scores": {item.metric: item for item in scores},
    }  # fmt: skip
    return RunRecord(**{**content, **changes})


def row_of(model, records, per_image=None):
    metrics = tuple(dict.fromkeys(name for item in records for name in item.scores))
    dataset, seeds = records[0].spec.dataset, tuple(range(len(records)))
    return BoardRow(model, dataset, model, seeds, records, metrics, per_image=per_image or {})


def side(model, *scores_of_seeds, **changes):
    """A row whose scores have no values per image."""
    records = tuple(record(model, seed, scores, **changes) for seed, scores in enumerate(scores_of_seeds))
    return row_of(model, records)


def imaged(model, values, images=IMAGES, metric="nll", **changes):
    """A row with scores per image: values (S, N)."""
    per_image, records = {}, []
    for seed, row in enumerate(np.asarray(values, dtype=np.float32).astype(np.float64)):
        name = f"{model}-{seed}/{metric}"
        per_image[name] = (row, images)
        made = score(metric, float(row.mean()), per_image=name, num_images=len(row), **changes)
        records.append(record(model, seed, [made]))
    return row_of(model, tuple(records), per_image)


def only(a, b, *metrics):
    [difference], _ = compare_rows(a, b, metrics)
    return difference


def normal(seed, shape=(1, 40), loc=80.0):
    return np.random.default_rng(seed).normal(loc, 3, shape)


def test_images_are_paired_by_content_whatever_their_order():
    values, order = normal(0), np.random.default_rng(1).permutation(40)
    shifted = values + 0.5 + 0.01 * normal(2, loc=0)
    found = only(imaged("a", values), imaged("b", shifted[:, order], IMAGES[order]))
    difference = (shifted.astype(np.float32).astype(float) - values.astype(np.float32).astype(float))[0]
    error = difference.std(ddof=1) / math.sqrt(40)
    margin = stats.t.ppf(0.975, 39) * error
    assert found.difference == pytest.approx(difference.mean(), rel=1e-12)
    assert found.interval == pytest.approx((difference.mean() - margin, difference.mean() + margin), rel=1e-9)
    assert found.p_value == pytest.approx(stats.ttest_1samp(difference, 0).pvalue, rel=1e-6)


def test_only_the_images_in_common_are_compared():
    found = only(imaged("a", normal(0)[:, :30], IMAGES[:30]), imaged("b", normal(1)[:, 10:], IMAGES[10:]))
    assert found.num_images == 20
    assert found.rests_on == "20 images in common, 1 seed each: the interval does not cover training"


def test_the_test_is_the_one_of_the_boards():
    a, b = normal(0, (3, 40)), normal(1, (5, 40), 82)
    matrices = [ScoreMatrix(values.astype(np.float32).astype(float), IMAGES) for values in (a, b)]
    figures = [Measured(item.values.mean(axis=1), item, None, "exact") for item in matrices]
    board, found = compare(figures[1], figures[0]), only(imaged("a", a), imaged("b", b))
    assert (found.difference, found.interval, found.p_value) == (board.difference, board.interval, board.p_value)
    assert (found.basis, found.seeds) == ("seeds x images", (3, 5))
    assert found.rests_on.endswith(
        "3 seeds of A and 5 of B: the interval covers training and the choice of test images"
    )


def test_swapping_the_two_mirrors_the_difference_and_keeps_the_p_value():
    a, b = imaged("a", normal(0, (2, 40))), imaged("b", normal(1, (3, 40), 81))
    one, other = only(a, b), only(b, a)
    assert other.difference == pytest.approx(-one.difference, rel=1e-12)
    assert other.interval == pytest.approx((-one.interval[1], -one.interval[0]), rel=1e-12)
    assert other.p_value == pytest.approx(one.p_value, rel=1e-9)


def test_images_that_are_not_shared_are_refused():
    with pytest.raises(NotComparable, match="0 images in common"):
        compare_rows(imaged("a", normal(0)), imaged("b", normal(1), IMAGES + 1000))


def fid(value, error=None, **protocol):
    return score(
        "fid-lenet", value, unit="", kind="estimate", standard_error=error, protocol={"samples": "10000", **protocol}
    )


def test_figures_without_scores_per_image_are_compared_by_their_seeds():
    a, b = side("a", [fid(1.0)], [fid(1.2)], [fid(1.1)]), side("b", [fid(2.0)], [fid(2.3)], [fid(1.9)])
    found = only(a, b)
    welch = stats.ttest_ind([2.0, 2.3, 1.9], [1.0, 1.2, 1.1], equal_var=False)
    assert (found.p_value, found.basis, found.num_images) == (pytest.approx(welch.pvalue, rel=1e-9), "seeds", None)
    assert found.conclusion == "A is better"
    assert "not the choice of test images" in found.rests_on


def test_one_seed_is_compared_by_the_resampling_errors_in_quadrature():
    found = only(side("a", [fid(5.0, 0.3)]), side("b", [fid(4.0, 0.4)]))
    assert found.standard_error == pytest.approx(0.5)
    assert found.interval == pytest.approx((-1 - 1.959964 * 0.5, -1 + 1.959964 * 0.5), rel=1e-6)
    assert found.p_value == pytest.approx(0.0455, abs=1e-4)
    assert (found.basis, found.better) == ("resampling", "B")
    assert "does not cover training" in found.rests_on


def test_more_seeds_do_not_narrow_the_resampling_error_that_they_share():
    found = only(side("a", [fid(5.0, 0.3)], [fid(5.0, 0.3)]), side("b", [fid(4.0, 0.4)]))
    assert found.standard_error == pytest.approx(0.5)


def test_one_seed_without_an_error_says_nothing_and_is_refused():
    with pytest.raises(NotComparable, match=r"no standard error for A: nothing tells the spread"):
        compare_rows(side("a", [fid(5.0)]), side("b", [fid(4.0, 0.4)]))


HIGH, LOW = normal(0, loc=90), normal(0, loc=80)


@pytest.mark.parametrize(
    ("kind_a", "kind_b", "low", "better", "says"),
    [
        ("exact", "exact", "A", "A", "A is better"),
        ("exact", "exact", "B", "B", "B is better"),
        ("upper bound", "exact", "A", "A", "A's bound lies below B's exact value: A is better"),
        ("exact", "upper bound", "B", "B", "B's bound lies below A's exact value: B is better"),
        ("upper bound", "exact", "B", None, "nothing follows: A's bound lies above B's exact value"),
        ("exact", "upper bound", "A", None, "nothing follows: B's bound lies above A's exact value"),
        ("upper bound", "upper bound", "A", "A", "A is better, by the bounds"),
        ("estimate", "exact", "A", None, "nothing follows: an estimate and an exact value have no order"),
        ("lower bound", "exact", "A", None, "nothing follows: a lower bound and an exact value have no order"),
    ],
)
def test_kinds_say_what_follows(kind_a, kind_b, low, better, says):
    a, b = (LOW, HIGH) if low == "A" else (HIGH, LOW)
    found = only(imaged("a", a, kind=kind_a), imaged("b", b, kind=kind_b))
    assert found.better == better
    assert found.conclusion.startswith(says)


def test_where_up_is_better_the_higher_wins_and_a_lower_bound_promises():
    up = {"higher_is_better": True}
    assert only(imaged("a", HIGH, **up), imaged("b", LOW, **up)).better == "A"
    found = only(imaged("a", HIGH, kind="lower bound", **up), imaged("b", LOW, **up))
    assert found.conclusion == "A's bound lies above B's exact value: A is better"


def test_figures_that_do_not_differ_are_not_told_apart():
    found = only(imaged("a", normal(0)), imaged("b", normal(1)))
    assert (found.better, found.conclusion) == (None, "A and B cannot be told apart")
    assert only(imaged("a", LOW), imaged("b", LOW)).p_value == 1


def test_a_bound_meets_an_exact_value_as_likelihood():
    exact, bound = imaged("a", HIGH), imaged("b", LOW, metric="iwae-50", kind="upper bound")
    found = only(exact, bound)
    assert (found.metric, found.metrics) == ("likelihood", ("nll", "iwae-50"))
    assert found.conclusion == "B's bound lies below A's exact value: B is better"


def test_bounds_of_different_k_meet_as_likelihood_alone():
    a = imaged("a", LOW, metric="iwae-50", kind="upper bound", protocol={"K": "50", "split": "test"})
    b = imaged("b", HIGH, metric="iwae-5", kind="upper bound", protocol={"K": "5", "split": "test"})
    assert only(a, b).metric == "likelihood"
    with pytest.raises(NotComparable, match="B has no 'iwae-50': it has iwae-5"):
        compare_rows(a, b, ["iwae-50"])


def test_other_protocols_are_refused_by_the_keys_that_differ():
    a, b = side("a", [fid(1, 0.1, resize="none", device="cpu")]), side("b", [fid(1, 0.1, features="x", device="cuda")])
    with pytest.raises(NotComparable) as refused:
        compare_rows(a, b)
    assert str(refused.value) == (
        "fid-lenet: measured by different protocols: features is not said for A and 'x' for B; "
        "resize is 'none' for A and not said for B"
    )


def test_seeds_of_one_row_under_two_protocols_are_refused():
    mixed = side("a", [fid(1, 0.1, resize="none")], [fid(1, 0.1, resize="bilinear")])
    with pytest.raises(NotComparable, match="the seeds of A were measured by different protocols: resize is"):
        compare_rows(mixed, side("b", [fid(1, 0.1)]))


def test_what_cannot_be_compared_does_not_hide_what_can():
    def both(samples):
        return [score("nll", 1.0, standard_error=0.1), fid(1.0, 0.1) if samples else fid(1.0, 0.1, resize="none")]

    differences, refused = compare_rows(side("a", both(True)), side("b", both(False)))
    assert [difference.metric for difference in differences] == ["nll"]
    assert list(refused) == ["fid-lenet"]


def test_other_data_are_refused():
    with pytest.raises(NotComparable, match="A is scored on 'digits', B on 'mnist'"):
        compare_rows(side("a", [fid(1, 1)]), side("b", [fid(1, 1)], dataset="mnist"))
    with pytest.raises(NotComparable, match="different contents of 'digits'"):
        compare_rows(side("a", [fid(1, 1)]), side("b", [fid(1, 1)], dataset_digest=digest_of("other")))


def test_scores_on_the_validation_split_are_not_compared():
    validated = record("a").model_copy(update={"scores": {"valid--nll": score()}})
    row = row_of("a", (validated,))
    with pytest.raises(NotComparable, match="no quality metric is shared on 'digits': A has none; B has nll"):
        compare_rows(row, side("b", [score()]))


def test_an_audit_is_no_figure_to_compare():
    audit = score("audit", 0.0, protocol={"standing": "passed"})
    one, two = (side(model, [score("nll", 1.0 + seed, standard_error=0.1), audit]) for seed, model in enumerate("ab"))
    assert [difference.metric for difference in compare_rows(one, two)[0]] == ["nll"]


def source(name, *models, dataset="digits"):
    records = tuple(record(model, seed, [score()], dataset) for model in models for seed in (0, 1))
    return Source(name, tuple(rows_of(records)), records)


def found_labels(pairs):
    return [(a.row.label, b.row.label, a.row.dataset) for a, b in pairs]


def test_a_name_is_a_row_a_run_or_the_beginning_of_a_run():
    here = source("here", "made", "nade")
    run = here.records[0].run
    for name in (run, run[:-3]):
        assert found_labels(find_pair(name, "nade", [here], [here])) == [(run, "nade", "digits")]
    assert found_labels(find_pair("made", "nade", [here], [here])) == [("made", "nade", "digits")]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mad", "'mad' may be any of"),
        ("made-digits-s", "'made-digits-s' may be any of 2 runs: 'made-digits-s0"),
        ("maed", r"no run, row or model 'maed' in here \(did you mean 'made'"),
        ("", "a name is empty"),
    ],
)
def test_a_name_that_is_none_or_several_is_refused_with_what_there_is(name, says):
    here = source("here", "made", "nade")
    with pytest.raises(NotFound, match=says):
        find_pair(name, "nade", [here], [here])


def test_a_name_in_two_suites_is_the_one_beside_the_other_name():
    both = [source("one", "made", "nade"), source("two", "made", "vae", dataset="mnist")]
    assert found_labels(find_pair("made", "vae", both, both)) == [("made", "vae", "mnist")]
    with pytest.raises(NotComparable, match="'nade' is scored on 'digits', 'vae' on 'mnist'"):
        find_pair("nade", "vae", both, both)


def test_a_pair_in_two_suites_has_to_be_chosen():
    both = [source("one", "made", "nade"), source("two", "made", "nade", dataset="mnist")]
    with pytest.raises(NotFound, match="'made' is in one and in two: choose with --suite or --dataset"):
        find_pair("made", "nade", both, both)
    assert found_labels(find_pair("made", "nade", both, both, dataset="mnist")) == [("made", "nade", "mnist")]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with a suite of two models, and its archive."""
    models = "".join(f'[[models]]\nname = "{name}"\n' for name in ("made", "nade"))
    text = f'title = "T"\ndatasets = ["digits"]\nseeds = [0]\nmetrics = ["nll"]\n{models}'
    (tmp_path / "leaderboards").mkdir()
    (tmp_path / "leaderboards" / "tiny.toml").write_text(text)
    per_image, records = {}, []
    for number, model in enumerate(("made", "nade")):
        made = record(model, 0, [score()])
        reference, values = f"{made.run}/nll", normal(number, loc=80 + 5 * number)[0]
        per_image[reference] = (values, IMAGES)
        kept = score("nll", float(values.mean()), per_image=reference, num_images=40)
        records.append(made.model_copy(update={"scores": {"nll": kept}}))
    write_archive(Archive(tuple(records), per_image), tmp_path / "leaderboards" / "tiny")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_compares_rows_of_a_committed_suite(lab):
    answer = CliRunner().invoke(app, ["compare", "made", "nade"])
    assert answer.exit_code == 0, answer
    assert "nll: A is better. 40 images in common, 1 seed each: the interval does not cover training." in answer.output


def test_json_has_the_figures_in_full_precision(lab):
    [found] = json.loads(CliRunner().invoke(app, ["compare", "made", "nade", "--json"]).output)
    [difference] = found["differences"]
    values = [normal(number, loc=80 + 5 * number)[0].astype(np.float32).astype(float) for number in (0, 1)]
    assert difference["difference"] == pytest.approx((values[1] - values[0]).mean(), rel=1e-12)
    assert (found["dataset"], found["a"]["label"], found["b"]["label"]) == ("digits", "made", "nade")


def test_a_row_of_another_archive_is_named_by_its_path(lab):
    for place in ("leaderboards/tiny", "leaderboards/tiny/records.jsonl"):
        answer = CliRunner().invoke(app, ["compare", f"{place}:made", "nade", "--suite", "tiny"])
        assert answer.exit_code == 0, answer
        assert f"A  made ({place})" in answer.output


def test_runs_of_the_store_are_compared_by_their_images(tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    from harness.records.store import Artifacts

    monkeypatch.chdir(tmp_path)
    artifacts, runs = Artifacts(tmp_path / "lab"), []
    for number, model in enumerate(("made", "nade")):
        made, values = record(model), normal(number, loc=80 + 5 * number)[0]
        file = artifacts.folder(made.run).per_image_file("nll")
        file.parent.mkdir(parents=True)
        save_file({"per_image": values, "images": IMAGES}, file)
        kept = score("nll", float(values.mean()), per_image=f"{made.run}/nll", num_images=40)
        artifacts.store.put(made.model_copy(update={"scores": {"nll": kept}}))
        runs.append(made.run)
    for names in (runs, [run[:-4] for run in runs], ["made", "nade"]):
        answer = CliRunner().invoke(app, ["--artifacts", str(tmp_path / "lab"), "compare", *names])
        assert answer.exit_code == 0, answer
        assert "nll: A is better. 40 images in common, 1 seed each" in answer.output
