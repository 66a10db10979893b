"""Images that somebody else made, scored and on a board as what they are; and samples of a model, as files."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

METRICS = '["fid-pixels-n60", "kid-pixels-n60", "nll", "parameters-sampling"]'


@pytest.fixture(scope="module")
def place(make_lab):
    """A trained model, a folder of its samples, and a board with a row of them."""
    lab = make_lab()
    lab.suite(["independent-pixels"], name="model", metrics=METRICS, dataset="digits")
    lab.done("run", lab.root / "model.toml")
    run = lab.record("independent-pixels").run
    lab.done("sample", run, "-n", "60", "-o", f"{lab.root}/out/")
    lab.done("sample", run, "-n", "60", "-o", lab.root / "out.npz")
    rows = ["independent-pixels", 'name = "samples:out"\nlabel = "Theirs"']
    lab.suite(rows, name="board", seeds="[0, 1]", metrics=METRICS, dataset="digits", audit=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.builtin.metrics.audit._audit", None)
        lab.done("run", lab.root / "board.toml", "--only", "Theirs")
    return lab


def score(place, path, *arguments, metrics="fid-pixels-n60"):
    answer = place.harness("score", f"samples:{path}", "--like", "digits", "--metrics", metrics, *arguments)
    return json.loads(answer.out)


@pytest.mark.parametrize("name", ["out", "out.npz"])
def test_samples_as_files_have_the_figure_of_the_model_that_drew_them(place, name):
    expected = place.record("independent-pixels").scores["fid-pixels-n60"]
    record = score(place, place.root / name, "--json")
    assert record["scores"]["fid-pixels-n60"]["value"] == pytest.approx(expected.value, rel=1e-9)
    assert record["scores"]["fid-pixels-n60"]["standard_error"] > 0


def test_what_is_scored_is_printed_with_its_error_and_protocol(place):
    asked = f"samples:{place.root}/out as theirs"  # what was called otherwise before
    answer = place.done("score", asked, "--like", "digits", "--metrics", "fid-pixels-n60,nll")
    first, _, _, fid, nll, *below = answer.out.splitlines()
    assert first.startswith("samples:theirs, like digits: 60 images from a file, SHA-256 ")
    assert (" ± " in fid, nll.split()) == (True, ["nll", "skipped", "nats"])
    assert max(map(len, answer.out.splitlines())) <= 80
    text = " ".join(" ".join(below).split())
    assert "reference: test, 360 images" in text
    assert "nll: samples from a file have no exact likelihood: fid and kid measure its samples" in text


def test_a_row_of_samples_is_one_run_that_says_what_it_is(place):
    [record] = [item for item in place.records() if item.spec.model == "samples:out" and len(item.scores) > 2]
    assert (record.spec.seed, record.spec.budget, record.fit.steps) == (0, None, 0)
    assert record.fit.checkpoint == f"60 images from a file, SHA-256 {record.code[:16]}"
    assert record.num_images["samples:out"] == 60
    assert {name: score.status for name, score in record.scores.items()} == {
        "fid-pixels-n60": "done", "kid-pixels-n60": "done", "nll": "skipped", "parameters-sampling": "skipped",
    }  # fmt: skip


def test_the_row_stands_on_the_board_of_sample_quality_and_its_export_has_no_path(place, tmp_path):
    place.done("export", place.root / "board.toml", "-o", tmp_path, "--no-samples")
    records = (tmp_path / "records.jsonl").read_text()
    assert str(place.root) not in records
    assert '"model":"samples:out"' in records.replace(" ", "")
    board = place.done("leaderboard", place.root / "board.toml", "--board", "sample-quality").out
    [row] = [line for line in board.splitlines() if "| Theirs" in line]
    assert row.startswith("| 1")
    assert "60 images from a file" in row


@pytest.fixture
def copied(place):
    """A copy of the folder of samples."""
    yield shutil.copytree(place.root / "out", place.root / "copy")
    shutil.rmtree(place.root / "copy")


def planned(place, name):
    rows = [f'name = "samples:{name} as out"\nlabel = "Theirs"']
    suite = place.suite(rows, name="moved", metrics=METRICS, dataset="digits")
    return [(item["run"], item["state"]) for item in place.done("run", suite, "--dry-run", "--json").json]


def test_moved_samples_are_the_same_run_and_changed_ones_another(place, copied):
    [(run, state)] = planned(place, "out")
    assert state == "hit"
    assert planned(place, "./copy") == planned(place, copied) == [(run, "hit")]
    Image.fromarray(np.asarray(Image.open(copied / "000000.png")).T).save(copied / "000000.png")
    [(other, state)] = planned(place, "copy")
    assert (other != run, state) == (True, "missing")


def test_images_of_the_training_set_are_said(place, tmp_path):
    from harness.builtin.datasets.seeded import digits

    np.savez(tmp_path / "copied.npz", images=digits(None).train.images[:100].numpy(), levels=17)
    answer = place.done("score", f"samples:{tmp_path}/copied.npz", "--like", "digits", "--metrics", "fid-pixels-n100")
    assert "warning: 100 of 100 samples:copied.npz images are also in train." in answer.err


def test_a_trained_run_can_be_drawn_from_when_the_files_are_gone(place, copied):
    shutil.move(copied, place.root / "gone")
    (place.root / "copy").mkdir()
    found = score(place, place.root / "gone", "--json")
    shutil.rmtree(place.root / "gone")
    place.done("sample", found["run"], "-n", "9", "-o", f"{place.root}/again.npz")
    assert np.load(place.root / "again.npz")["arr_0"].shape == (9, 8, 8, 1)


def test_statistics_of_a_reference_of_ones_own_are_beside_the_suite(place):
    features = np.random.default_rng(0).random((500, 64))
    np.savez(place.root / "mine.npz", mu=features.mean(0), sigma=np.cov(features.T), n=500)
    rows = ['name = "samples:out"']
    suite = place.suite(rows, name="reference", metrics='["fid-pixels-n60-to-mine"]', dataset="digits")
    [record] = place.done("run", suite, "--json").json
    found = record["scores"]["fid-pixels-n60-to-mine"]
    assert found["protocol"]["reference"].startswith("mine, 500 images, SHA-256 ")
    assert found["value"] > 1


def test_a_status_takes_samples_that_are_gone_to_be_those_of_the_last_records(place):
    shutil.move(place.root / "out", place.root / "away")
    answer = place.done("status", place.root / "board.toml", "--json")
    shutil.move(place.root / "away", place.root / "out")
    assert {item["row"]: item["state"] for item in answer.json}["Theirs"] == "hit"
    assert "samples:out cannot be loaded, and is taken to be that of the last records" in answer.err


def test_no_speed_is_measured_of_samples_from_a_file(place):
    [run] = {item.run for item in place.records() if item.spec.model == "samples:out" and len(item.scores) > 2}
    answer = place.harness("profile", "generation", run)
    assert (answer.code, "samples:out are samples from a file, and nothing draws them" in answer.err) == (2, True)


def test_a_score_is_of_the_reference_that_there_is_now(place, monkeypatch):
    monkeypatch.chdir(place.root)
    found = []
    for spread in (1, 2):
        np.savez("now.npz", mu=np.zeros(64), sigma=spread * np.eye(64))
        found.append(score(place, "out", "--json", metrics="fid-pixels-n60-to-now")["scores"]["fid-pixels-n60-to-now"])
    assert found[0]["value"] != found[1]["value"]
    assert found[0]["protocol"]["reference"] != found[1]["protocol"]["reference"]
