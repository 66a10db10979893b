"""The kit for plugin authors: what its tests say of right, wrong and oddly declared models, datasets and metrics."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch

pytest_plugins = ["harness.testing"]

WRONG = '''
    import torch
    import harness

    class Coins(harness.Autoregressive):
        """Independent pixels."""

        def __init__(self, spec: harness.ImageSpec, *, scale: float = 1.0, hidden: tuple[int, ...] = (3,)) -> None:
            super().__init__(spec)
            self.scale = scale
            self.table = torch.nn.Parameter(torch.zeros(spec.levels, *spec.shape))

        def conditional_logits(self, images, ordering=0):
            return self.table.expand(len(images), *self.table.shape)

        def log_prob(self, images):
            return super().log_prob(images) * self.scale

        def fit(self, data, trainer):
            optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
            trainer.track(optimizer=optimizer)
            for batch in trainer.batches(data.train, batch_size=80):
                loss = -super().log_prob(batch.images).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    class Forgetful(Coins):
        """The same, whose optimizer is not saved."""

        def fit(self, data, trainer):
            optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
            for batch in trainer.batches(data.train, batch_size=80):
                loss = -self.log_prob(batch.images).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    class Unready(Coins):
        def __init__(self, spec, hidden=3):
            super().__init__(spec)

    class Clumsy(Coins):
        def __init__(self, spec, *, hidden: int = 3):
            super().__init__(spec)
            raise RuntimeError("sizes do not match")
'''


def run(folder, tests, *arguments, models=WRONG):
    """Runs the tests of a file in a new process, and returns its exit status and output."""
    (folder / "coins.py").write_text(textwrap.dedent(models))
    head = "from harness.testing import *\nfrom coins import *\n"
    (folder / "test_it.py").write_text(head + textwrap.dedent(tests))
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-W", "error", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


MODELS = """
    class TestCoins(ModelConformance):
        model = Coins
        expected_failures = {"dependence": "pixels are independent: that is the model"}

    class TestHalved(ModelConformance):
        model = Coins
        hyperparameters = {"scale": 0.5}
        seed = 7

    class TestPasses(ModelConformance):
        model = Coins
        expected_failures = {"contract": "it is odd"}

    class TestDoesNotApply(ModelConformance):
        model = Coins
        expected_failures = {"bounds": "it is odd"}

    class TestForgetful(ModelConformance):
        model = Forgetful

    class TestUnready(ModelConformance):
        model = Unready

    class TestClumsy(ModelConformance):
        model = Clumsy

    class TestMisspelt(ModelConformance):
        model = "unifrom"
"""
QUICKER = """
    import harness.auditing.engine
    import harness.auditing.estimates

    harness.auditing.engine.OPERATIONS /= 10
    harness.auditing.estimates.MOST_SAMPLES = harness.auditing.estimates.FEWEST_SAMPLES = 2000
"""
CHOSEN = """
    TestCoins and not sampling and not full
    or TestHalved and normalisation
    or TestPasses and contract
    or TestDoesNotApply and bounds
    or TestForgetful and resumes
    or (TestUnready or TestClumsy) and (documented or hyperparameters or constructs)
    or TestMisspelt and registered
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """What the suites of all models say, in one process."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "conftest.py").write_text(textwrap.dedent(QUICKER))
    code, output = run(folder, MODELS, "-k", " ".join(CHOSEN.split()))
    assert code == 1
    return output


def failed(output):
    """The tests that failed, by class."""
    found = {}
    for line in output.splitlines():
        if line.startswith("FAILED"):
            _, _, name = line.split()[1].partition("::")
            found.setdefault(name.partition("::")[0], []).append(name.partition("[")[2].rstrip("]"))
    return found


def test_a_right_model_passes_what_applies_and_skips_the_rest_with_a_reason(output):
    assert "TestCoins" not in failed(output)
    assert "PASSED test_it.py::TestCoins::test_audit[normalisation]" in output
    assert "PASSED test_it.py::TestCoins::test_conforms[resumes]" in output
    assert "XFAIL test_it.py::TestCoins::test_audit[dependence] - pixels are independent: that is the model" in output
    assert "bounds: the model has no bound" in output
    assert "given as a class, which no installed plugin registers" in output


def test_a_failure_shows_the_verdict_in_words_and_the_command_that_reproduces_it(output):
    assert failed(output)["TestHalved"] == ["normalisation"]
    assert "normalisation: the probabilities of all images sum to" in output
    assert "  where      " in output
    assert "measured   sum of p over all images, minus 1" in output
    assert "seed       7" in output
    assert "again      harness audit coins:Coins --checks normalisation --seed 7 --set 'scale=0.5'" in output


@pytest.mark.parametrize(
    ("suite", "says"),
    [
        ("TestPasses", "contract was expected to fail (it is odd), but passes. Take it out"),
        ("TestDoesNotApply", "bounds was expected to fail (it is odd), but does not apply: bounds: the model has no"),
    ],
)
def test_an_expected_failure_is_held_to_its_word(output, suite, says):
    assert suite in failed(output)
    assert says in output


def test_what_is_not_kept_over_an_interruption_is_found(output):
    assert failed(output)["TestForgetful"] == ["resumes"]
    assert "stopped after 3 of 7 steps and resumed ends with another table: optimizers" in output


def test_constructor_and_docstring_are_looked_at(output):
    assert {"documented", "hyperparameters"} <= set(failed(output)["TestUnready"])
    assert "constructs" in failed(output)["TestClumsy"]
    assert "Unready has no docstring" in output
    assert "constructor argument 'hidden' must be keyword-only" in output
    assert "the constructor raises RuntimeError: sizes do not match. Raise harness.Unsupported(reason)" in output


def test_a_name_that_no_plugin_registers_is_said_with_the_nearest(output):
    assert failed(output)["TestMisspelt"] == ["registered"]
    assert "unknown model 'unifrom' (did you mean 'uniform'?)" in output


def test_a_suite_that_cannot_be_used_is_an_error_at_collection_in_one_line(tmp_path):
    tests = """
        class TestNothing(ModelConformance): pass

        class TestNoReason(ModelConformance):
            model = Coins
            expected_failures = {"dependence": " "}

        class TestNoSuchCheck(ModelConformance):
            model = Coins
            expected_failures = {"depandence": "it is odd"}
    """
    code, output = run(tmp_path, tests)
    assert code == 2
    assert 'TestNothing does not say what it tests: set model = "name"' in output
    assert "TestNoReason.expected_failures: 'dependence' needs a reason, in words, not ' '" in output
    assert "there is no test 'depandence' (did you mean 'dependence'?)" in output
    assert "Traceback" not in output


DATASETS = """
    import torch
    import harness

    SPEC = harness.ImageSpec(1, 4, 4, 4, num_classes=2)

    def split(seed, size=30):
        random = torch.Generator().manual_seed(seed) if seed is not None else None
        images = torch.randint(4, (size, 1, 4, 4), dtype=torch.uint8, generator=random)
        return harness.Split(images, torch.arange(size) % 2)

    def right(folder):
        return harness.Dataset("right", SPEC, split(1), split(2), split(3), "draws")

    def unseeded(folder):
        return harness.Dataset("unseeded", SPEC, split(1), split(2), split(None), "draws")

    def shared(folder):
        return harness.Dataset("shared", SPEC, split(1), split(2), split(1, 12), "draws")

    def mislabelled(folder):
        test = harness.Split(split(3).images, torch.arange(30) % 3)
        return harness.Dataset("mislabelled", SPEC, split(1), split(2), test, "draws")

    class Mean(harness.Metric):
        name, unit = "mean", "levels"
        def evaluate(self, evaluation):
            values = evaluation.per_image(lambda images: images.flatten(1).double().mean(1), purpose="mean")[0]
            return harness.Score(float(values.mean()), None, "estimate", values)

    class Noisy(Mean):
        name = "noisy"
        def evaluate(self, evaluation):
            return harness.Score(float(torch.rand(())), None, "estimate")

    class Halved(Mean):
        name = "halved"
        def evaluate(self, evaluation):
            score = super().evaluate(evaluation)
            return harness.Score(score.value, None, "estimate", score.per_image[::2])

    class Mute(Mean):
        name = "mute"
        unit = None

    @harness.hookimpl
    def register_datasets():
        return [harness.DatasetEntry(f.__name__, f, "for tests") for f in (right, unseeded, shared, mislabelled)]

    @harness.hookimpl
    def register_metrics():
        return [harness.MetricEntry(m.name, m, "for tests") for m in (Mean, Noisy, Halved, Mute)]
"""


def test_datasets_and_metrics_are_told_what_is_wrong_with_them(install_plugin, tmp_path):
    install_plugin("harness-things", {"harness_things.py": DATASETS}, entry_points={"things": "harness_things"})
    kinds = {"dataset": ("right", "unseeded", "shared", "mislabelled"), "metric": ("mean", "noisy", "halved", "mute")}
    tests = [
        f'class Test_{name}({kind.capitalize()}Conformance): {kind} = "{name}"'
        for kind, names in kinds.items()
        for name in names
    ]
    _, output = run(tmp_path, "\n".join(tests))
    assert failed(output) == {
        "Test_unseeded": ["stable"],
        "Test_shared": ["disjoint"],
        "Test_mislabelled": ["in-range"],
        "Test_noisy": ["deterministic", "harmless"],
        "Test_halved": ["scores"],
        "Test_mute": ["registered"],
    }
    for says in (
        "loaded twice, test differ: seed what is random",
        "12 of 12 images of test are in train as well",
        "test has labels from 0 to 2, the spec says num_classes=2",
        "draw by evaluation.samples",
        "has per_image (30,), not one value an image, (60,)",
        "unit None is no str: say what its value counts",
    ):
        assert says in output


def test_a_whole_suite_runs_in_a_temporary_folder(harness_lab):
    records = harness_lab.run(
        'datasets = ["digits-binary"]\nmetrics = ["nll"]\n[[models]]\nname = "uniform"\n'
        '[[models]]\nname = "independent-pixels"\n'
    )
    assert {record.spec.model: record.status for record in records} == {"uniform": "done", "independent-pixels": "done"}
    table = harness_lab.board().table("likelihood", "digits-binary")
    assert table["label"].tolist() == ["independent-pixels", "uniform"]
    assert harness_lab.record({"datasets": ["digits-binary"], "metrics": ["nll"], "models": [{"name": "uniform"}]})


def test_the_tiny_dataset_is_labelled_and_the_same_every_time(harness_tiny_dataset):
    from harness.testing.tiny import tiny_dataset

    assert tiny_dataset(harness_tiny_dataset.spec).digest() == harness_tiny_dataset.digest()
    same = harness_tiny_dataset.train.labels[:, None] == harness_tiny_dataset.train.labels[None, :]
    images = harness_tiny_dataset.train.images.flatten(1).double()
    distance = torch.cdist(images, images, p=1)
    assert distance[same].mean() < 0.5 * distance[~same].mean()


def test_loading_the_pytest_plugin_imports_no_torch():
    code = "import harness.testing, sys; print(sorted({'torch', 'numpy', 'scipy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_another_s_run_of_pytest_is_left_as_it_is(tmp_path):
    (tmp_path / "test_theirs.py").write_text("def test_it(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "harness.testing", "--strict-markers"]
    done = subprocess.run([*command, "-n", "2"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout
    assert "warning" not in done.stdout
