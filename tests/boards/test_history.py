"""Versions of a suite side by side: what was planted is named with its interval, nothing else is; bisect finds it."""

from __future__ import annotations

import json
import subprocess
import tomllib

import numpy as np
import pytest

from harness.boards.comparison import Source
from harness.boards.history import follow
from harness.cli.bisecting import _Trial
from harness.records.archive import Archive, write_archive
from harness.records.record import Failure, RunRecord, ScoreRecord, identity_of
from harness.report.history import chart_of
from harness.suites.suite import Suite
from harness.support.names import digest_of

TEXT = """title = "Two"
datasets = ["digits"]
seeds = [0, 1, 2, 3, 4]
metrics = ["nll", "sampling-throughput", "flops-sampling"]
[[models]]
name = "made"
[[models]]
name = "nade"
"""
SUITE = Suite.parse(tomllib.loads(TEXT), name="two", source="two.toml")
IMAGES = np.arange(200, dtype=np.int64)
DIFFICULTY = np.random.default_rng(3).normal(90, 8, len(IMAGES))
KEY = digest_of("score")
COUNTED = ScoreRecord(metric="flops-sampling", key=KEY, kind="exact", stage="cost", unit="FLOPs", value=1e6)


def version(nll=1.0, speed=1.0, *, anew=0, seeds=5, machine="f", failure=None, **protocol):
    """An archive in which MADE's NLL and speed are these shares of what they were; ``anew`` is another training."""
    records, arrays = [], {}
    for spec in (spec for row in SUITE.rows() for spec in row.configurations[0][:seeds]):
        run, is_made = f"{spec.model}-s{spec.seed}", spec.model == "made"
        random = np.random.default_rng([spec.seed, is_made, anew if is_made else 0])
        values = ((DIFFICULTY + random.normal(0, 0.2)) * (nll if is_made else 1)).astype(np.float32).astype(np.float64)
        rate = 1000 * (speed if is_made else 1) * random.normal(1, 0.02)
        scores = [
            ScoreRecord(
                metric="nll", key=KEY, kind="exact", unit="nats", value=values.mean(), per_image=f"{run}/nll"
            ),
            ScoreRecord(
                metric="sampling-throughput", key=KEY, kind="estimate", stage="speed", unit="images/s", value=rate,
                higher_is_better=True, standard_error=rate / 500, fingerprint=machine, hardware="CPU",
                details={"batch_64_q25": rate * 0.99, "batch_64_median": rate, "batch_64_q75": rate * 1.01},
                protocol={"batch size": "64", **protocol},
            ),
        ]  # fmt: skip
        found = {it.metric + f"@{machine}" * (it.stage == "speed"): it for it in (*scores, COUNTED)}
        outcome = {"status": "done", "scores": found}
        if failure is not None and (spec.model, spec.seed) == ("made", 1):
            outcome = {"status": "failed", "failure": failure}
        else:
            arrays[f"{run}/nll"] = values, IMAGES
        fixed = {
            "hyperparameters": {},
            "provider": "p",
            "code": digest_of("c"),
            "dataset_digest": digest_of("d"),
            "run": run,
            "key": digest_of(run),
        }
        records.append(RunRecord(identity=identity_of(spec), spec=spec, image_shape=(1, 8, 8, 17), **fixed, **outcome))
    return Archive(tuple(records), arrays)


def history_of(*archives):
    return follow([Source.of(f"v{number}", archive, SUITE) for number, archive in enumerate(archives)])


def moved(history):
    return [(step.name.label, step.name.metric, *step.versions, step.moved) for step in history.moved]


def test_a_planted_regression_of_one_percent_and_one_of_twenty_are_named_and_nothing_else():
    history = history_of(version(), version(1.01, 0.8, anew=1), version(1.01, 0.8, anew=2))

    assert sorted(moved(history)) == [
        ("made", "nll", "v0", "v1", "worse"), ("made", "sampling-throughput", "v0", "v1", "worse")
    ]  # fmt: skip
    for step, true in zip(sorted(history.moved, key=lambda it: it.name.metric), (0.9, -200), strict=True):
        difference, low, high = step.change
        assert low < true < high
        assert low < difference < high
        assert not low < 0 < high


def test_identical_versions_name_nothing_and_test_nothing():
    history = history_of(version(), version(), version())
    assert (history.steps, history.not_told, history.broken) == ((), (), ())
    assert history.unchanged == 2 * 2 * 3


@pytest.mark.parametrize(("number", "most"), [(20, 4), pytest.param(400, 30, marks=pytest.mark.thorough)])
def test_trainings_and_measurements_made_anew_move_nothing_more_often_than_five_percent(number, most):
    found = [history_of(version(anew=2 * it), version(anew=2 * it + 1)) for it in range(number)]
    assert sum(bool(history.moved) for history in found) <= most  # at 5 %, there are more with a chance below 1 %
    assert all(len(history.steps) == 2 for history in found)


def test_a_regression_below_the_noise_is_not_named():
    assert not history_of(version(), version(1.001, 0.99, anew=1)).moved


def test_what_got_better_is_named_so_and_is_not_worse():
    assert {step[-1] for step in moved(history_of(version(), version(0.98, 1.3, anew=1)))} == {"better"}


def test_speeds_of_two_machines_are_not_compared_and_it_says_so():
    history = history_of(version(), version(speed=0.5, machine="g"))
    assert not history.moved
    assert [text for text in history.not_told if text.startswith("sampling-throughput of made on digits, v0 and v1: ")]


def test_a_figure_is_compared_with_the_last_version_that_measured_it_the_same_way():
    history = history_of(version(), version(machine="g"), version(speed=0.8, anew=1))
    assert ("made", "sampling-throughput", "v0", "v2", "worse") in moved(history)


@pytest.mark.parametrize(
    ("load", "is_named"), [({}, True), ({"load": "others used about 50 % of the processors"}, False)]
)
def test_a_speed_of_one_run_is_told_by_the_spread_of_its_blocks_and_not_where_others_were_at_work(load, is_named):
    history = history_of(version(seeds=1), version(speed=0.8, seeds=1, **load))
    assert [step.name.metric for step in history.moved] == ["sampling-throughput"] * is_named
    assert len(history.not_told) == (not is_named)
    assert not history_of(version(seeds=1), version(speed=0.98, seeds=1)).moved  # ten of its standard errors


def test_what_fails_now_and_did_not_before_is_said():
    failure = Failure(stage="fit", type="ValueError", message="no")
    history = history_of(version(), version(failure=failure), version(failure=failure))
    assert history.broken == ("v1: made on digits: failed (seeds 1): fit: ValueError: no",)


class Repository:
    """A git repository with the suite; a commit writes its archive, and what it would be if it were run."""

    def __init__(self, folder, command_line):
        self.folder, self.suite, self.command_line, self.told = folder, folder / "boards/two.toml", command_line, {}
        self.git("init", "-q", "-b", "main")
        self.suite.parent.mkdir()
        self.suite.write_text(TEXT)

    def git(self, *arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", self.folder, *who, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, subject, **told):
        (self.folder / "code.json").write_text(json.dumps(told))
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "--short=10", "HEAD")

    def export(self, subject, *shares, **changes):
        write_archive(version(*shares, **changes), self.suite.with_suffix(""))
        return self.commit(subject)

    def harness(self, command, *arguments):
        return self.command_line("--artifacts", self.folder.parent / "store", command, self.suite, *arguments)


@pytest.fixture
def repository(tmp_path, command_line):
    (tmp_path / "repository").mkdir()
    return Repository(tmp_path / "repository", command_line)


def test_history_of_commits_prints_what_moved_and_its_status_says_so_where_it_is_asked(repository):
    commits = [
        repository.export("first"),
        repository.export("planted", 1.01, 0.8, anew=1),
        repository.export("last", 1.01, 0.8, anew=2),
    ]
    said = repository.harness("history")
    rows = [line.split() for line in said.out.splitlines() if "worse" in line]
    assert said.code == 0
    assert [row[:6] for row in rows] == [
        ["made,", "digits", "nll", "nats", *commits[:2]],
        ["made,", "digits", "sampling-throughput", "images/s", *commits[:2]],
    ]
    assert "2 figures moved" in said.out

    assert repository.harness("history", "--check").code == 1
    assert repository.harness("history", "--check", "--revisions", *commits[1:]).code == 0
    assert repository.harness("history", "--check", "--revisions", *reversed(commits[:2])).code == 0  # it got better


def test_the_chart_has_what_moved_over_all_versions():
    history = history_of(version(), version(1.01, anew=1), version(1.01, anew=1))
    drawn = chart_of("Two", history, ["v0", "v1", "v2"]).to_dict()
    [rows] = drawn["datasets"].values() if "datasets" in drawn else [drawn["data"]["values"]]
    assert [(row["figure"], row["version"]) for row in rows] == [
        ("made, digits  nll nats", name) for name in ("v0", "v1", "v2")
    ]
    assert all(row["low"] < row["value"] < row["high"] for row in rows)


def test_history_of_an_archive_is_beside_the_suite_s_own_and_so_is_that_of_one_revision(repository):
    repository.export("first")
    write_archive(version(), repository.folder.parent / "base")
    write_archive(version(1.02, anew=1), repository.suite.with_suffix(""))
    for versions in (["--archive", repository.folder.parent / "base"], ["--revisions", "main"], []):
        said = repository.harness("history", "--check", *versions)
        assert (said.code, "now" in said.out) == (1, True), said


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--revisions", "nowhere", "main"], "'nowhere'"),
        (["--revisions", "^main", "main"], "no revision '^main'"),
        (["--revisions", "main..main", "main"], "no revision 'main..main'"),
        (["--revisions=--output=x"], "no revision '--output=x'"),
        (["-n", "1"], "two versions are needed"),
    ],
)
def test_a_wrong_revision_and_too_few_versions_are_one_line(repository, arguments, what):
    repository.export("first")
    assert what in repository.harness("history", *arguments).complaint


def test_records_that_cannot_be_read_are_named_by_their_commit(repository):
    repository.export("first")
    (repository.suite.with_suffix("") / "records.jsonl").write_text("{")
    broken = repository.commit("broken")
    said = repository.harness("history", "--revisions", "main~1", "main").complaint
    assert f"{broken} broken: {repository.suite.with_suffix('')}/records.jsonl:1: not JSON" in said


def test_what_a_record_says_stays_on_its_line(repository):
    repository.export("first")
    repository.export("second", sampler="x\n0 figures moved\x1b[2J")
    said = repository.harness("history").out
    assert r"then x 0 figures moved\x1b[2J" in said
    assert sum(line.startswith("0 figures moved") for line in said.splitlines()) == 1


def test_a_subject_is_no_commit_whatever_ends_a_line_in_it_and_the_working_folder_may_be_any(repository, monkeypatch):
    repository.export("first\x0c--output=x y\u2028HEAD z")
    repository.export("second", 1.01, anew=1)
    monkeypatch.chdir(repository.suite.parent)
    said = repository.command_line("history", repository.suite.name)
    assert (said.code, said.err) == (0, "")
    assert [line.partition("  ")[2] for line in said.out.splitlines()[:2]] == [
        r"first\x0c--output=x y\u2028HEAD z", "second"
    ]  # fmt: skip


@pytest.fixture
def trials(repository, monkeypatch):
    """Commits are not run: what ``code.json`` says of one is what came out; which were asked is kept."""
    asked = []

    def run(self, folder, *more):
        told = json.loads((folder / "code.json").read_text())
        asked.append(told.pop("number"))
        if message := told.pop("broken", None):
            raise ValueError(message) if message != "Ctrl-C" else KeyboardInterrupt
        records = [record for record in version(**told).records if record.spec.model == "made"]
        scores = [
            {
                name: it.model_copy(update={"per_image": None})
                for name, it in record.scores.items()
                if it.metric == self.metric
            }
            for record in records
        ]
        return {it.run: it.model_copy(update={"scores": of}) for it, of in zip(records, scores, strict=True)}

    monkeypatch.setattr(_Trial, "_run", run)
    return asked


def test_bisect_skips_what_cannot_be_run_and_says_what_is_left(repository, trials):
    told = [{"nll": 1.0}, {"broken": "no such module"}, {"nll": 1.0, "anew": 1}, {"broken": "no"}, {"nll": 1.01}]
    commits = [repository.commit(f"number {it}", number=it, **what) for it, what in enumerate(told)]
    done = repository.harness("bisect", "made", "nll", "--good", commits[0])
    assert (done.code, trials) == (1, [0, 4, 2, 3])
    assert done.out.endswith(f"all but the last were skipped:\n  {commits[3]}  number 3\n  {commits[4]}  number 4\n")
    assert f"skipped: {commits[3]}  number 3: no\n" in done.err
    assert repository.git("worktree", "list").count("\n") == 0


def test_bisect_of_what_did_not_get_worse_says_so(repository, trials):
    for number in range(2):
        repository.commit("one", number=number, anew=number)
    done = repository.harness("bisect", "made", "nll", "--good", "HEAD~1")
    assert done.code == 1
    assert "not proven worse" in done.err


def test_bisect_names_one_commit_with_its_interval(repository, trials):
    commits = [
        repository.commit(f"number {it}", number=it, speed=0.8 if it > 2 else 1.0, anew=it // 2) for it in range(6)
    ]
    done = repository.harness("bisect", "made", "sampling-throughput", "--good", commits[0], "--bad", "main")
    assert done.code == 0, done
    assert done.out.endswith(f"the first is\n  {commits[3]}  number 3\n")
    assert "95 % [-" in done.out


def test_ctrl_c_leaves_no_worktree(repository, trials):
    repository.commit("good", number=0)
    repository.commit("bad", number=1, broken="Ctrl-C")
    assert repository.harness("bisect", "made", "nll", "--good", "HEAD~1").code == 130
    assert repository.git("worktree", "list").count("\n") == 0


def test_bisect_needs_a_way_from_good_to_bad_and_a_metric_of_the_suite(repository):
    commits = [repository.commit("one"), repository.commit("two")]
    assert (
        "is not before" in repository.harness("bisect", "made", "nll", "--good", commits[1], "--bad", "main").complaint
    )
    assert "did you mean 'nll'" in repository.harness("bisect", "made", "nl", "--good", commits[0]).complaint


COINS = """
import torch
import harness

class Coins(harness.ExactLikelihood):
    def __init__(self, spec):
        super().__init__(spec)
        self.logit = torch.nn.Parameter(torch.zeros(spec.shape))

    def fit(self, data, trainer):
        chance = data.train.images.float().mean(0) * 0.98 + 0.01
        with torch.no_grad():
            self.logit.copy_(SCALE * torch.logit(chance) + 0.02 * torch.randn(()))

    def log_prob(self, images):
        ones = images.to(self.logit.dtype)
        return (ones * self.logit - torch.nn.functional.softplus(self.logit)).flatten(1).sum(1)

    def sample(self, num_samples):
        return torch.bernoulli(torch.sigmoid(self.logit).expand(num_samples, *self.spec.shape)).to(torch.uint8)
"""
CODES = ["SCALE = 1.0", "SCALE = 1.0  # the same", "SCALE = 1 / 1", "SCALE = 0.8", "SCALE = 0.80"]


@pytest.mark.thorough
def test_bisect_runs_commits_with_their_own_code_and_the_store_has_what_moved(repository):
    repository.suite.write_text(
        'title = "Coins"\ndatasets = ["digits-binary"]\nseeds = [0, 1, 2]\nmetrics = ["nll"]\n'
        '[[models]]\nname = "coins.py:Coins"\nlabel = "coins"\n'
    )
    commits = []
    for number, code in enumerate(CODES):
        (repository.suite.parent / "coins.py").write_text(f"{code}\n{COINS}")
        commits.append(repository.commit(f"number {number}"))
    done = repository.harness("bisect", "coins", "nll", "--good", commits[0])
    assert done.code == 0, done
    assert done.out.endswith(f"the first is\n  {commits[3]}  number 3\n")
    assert repository.git("worktree", "list").count("\n") == 0
    runs = list((repository.folder.parent / "store/runs").iterdir())
    assert len(runs) == 3 * 3  # a comment is no code, and 0.80 is 0.8: three codes, three seeds
    said = repository.harness("history", "--from-store", "--check")
    assert said.code == 1
    assert "worse" in said.out
