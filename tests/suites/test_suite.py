"""Suites: parsing, what is refused and how, expansion into rows, and changes from the command line."""

from __future__ import annotations

import pytest

from harness.suites.suite import Suite, SuiteError

EXAMPLE = """
title = "MNIST, static binarization"
datasets = ["mnist-static"]
seeds = [0, 1, 2]
metrics = ["nll", "iwae-5000", "fid", "sampling-throughput"]
budget = "20 epochs"                   # or "10000 steps", "60 minutes"; a model may say its own

[[models]]
name = "made"                          # the plugin's name for it
label = "MADE, 2 hidden layers"        # the row's name; the default is made from name and hyperparameters
published = "made-2hl-32-masks"        # the row of published.toml to stand beside
[models.hyperparameters]
hidden = [500, 500]
[models.grid]                          # optional: every combination, the best on validation is the row
learning_rate = [1e-3, 3e-4]
"""


def suite(**changes):
    content = {"title": "A", "datasets": ["digits"], "models": [{"name": "made"}], **changes}
    return Suite.parse(content, name="a", source="a.toml")


def refusal(**changes):
    with pytest.raises(SuiteError) as caught:
        suite(**changes)
    return str(caught.value)


def models(*names, **common):
    return [{"name": name, **common} for name in names]


@pytest.fixture
def example(tmp_path):
    (tmp_path / "mnist-static.toml").write_text(EXAMPLE)
    return Suite.read(tmp_path / "mnist-static.toml")


def test_the_documented_example_expands_to_one_row_of_two_configurations_with_three_seeds(example):
    [row] = example.rows()
    assert (row.label, row.dataset, row.model, row.published) == (
        "MADE, 2 hidden layers",
        "mnist-static",
        "made",
        "made-2hl-32-masks",
    )
    assert [[spec.seed for spec in runs] for runs in row.configurations] == [[0, 1, 2], [0, 1, 2]]
    assert [runs[0].hyperparameters for runs in row.configurations] == [
        {"hidden": [500, 500], "learning_rate": 1e-3},
        {"hidden": [500, 500], "learning_rate": 3e-4},
    ]
    spec = row.configurations[0][0]
    assert spec.metrics == ("nll", "iwae-5000", "fid", "sampling-throughput", "audit")
    assert (spec.budget, spec.precision, spec.threads, spec.checkpoint) == ("20 epochs", "float32", 1, None)


def test_a_suite_is_named_by_its_file(example):
    assert example.name == "mnist-static"


def test_a_grid_is_expanded_in_the_order_of_the_file_the_last_name_fastest():
    grid = {"b": [1, 2], "a": ["x", "y", "z"]}
    [row] = suite(models=[{"name": "made", "hyperparameters": {"c": 0}, "grid": grid}]).rows()
    found = [runs[0].hyperparameters for runs in row.configurations]
    assert found == [{"c": 0, "b": b, "a": a} for b in (1, 2) for a in ("x", "y", "z")]


def test_rows_come_dataset_by_dataset_in_the_order_of_the_file():
    rows = suite(datasets=["d2", "d1"], models=models("m2", "m1")).rows()
    assert [(row.dataset, row.model) for row in rows] == [("d2", "m2"), ("d2", "m1"), ("d1", "m2"), ("d1", "m1")]


def test_a_model_may_be_for_some_datasets_only():
    content = [{"name": "m1", "datasets": ["d2"]}, {"name": "m2"}]
    rows = suite(datasets=["d1", "d2"], models=content).rows()
    assert [(row.dataset, row.model) for row in rows] == [("d1", "m2"), ("d2", "m1"), ("d2", "m2")]


def test_a_row_may_be_spared_some_of_the_metrics():
    content = [{"name": "m1", "without": ["iwae-5000"]}, {"name": "m2"}]
    rows = suite(metrics=["nll", "iwae-5000"], audit=False, models=content).rows()
    assert [row.configurations[0][0].metrics for row in rows] == [("nll",), ("nll", "iwae-5000")]


def test_a_models_budget_goes_before_the_suites():
    content = [{"name": "m1", "budget": "5 steps"}, {"name": "m2"}]
    assert [row.configurations[0][0].budget for row in suite(budget="1 epoch", models=content).rows()] == [
        "5 steps",
        "1 epochs",
    ]


def test_a_row_without_label_is_named_by_model_and_hyperparameters():
    content = [{"name": "made"}, {"name": "made", "hyperparameters": {"masks": 2, "hidden": [5]}}]
    assert [row.label for row in suite(models=content).rows()] == ["made", "made (hidden=[5], masks=2)"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": ["digits"]}, "a.toml: unknown key 'dataset' (did you mean 'datasets'"),
        (
            {"models": models("made", hyperparameter={})},
            "unknown key 'models.0.hyperparameter' (did you mean 'hyperpar",
        ),
        ({"name": "other"}, "a.toml: unknown key 'name'"),
        ({"checkpoint": "weights.safetensors"}, "a.toml: unknown key 'checkpoint'"),
        ({"title": 3}, "a.toml: title has to be text, in quotation marks, not 3"),
        ({"title": " "}, "a.toml: title: it must not be empty, not ' '"),
        ({"datasets": "digits"}, "a.toml: datasets has to be a list, in brackets, not 'digits'"),
        ({"datasets": []}, "a.toml: datasets has to hold at least 1, not []"),
        ({"metrics": []}, "a.toml: metrics has to hold at least 1, not []"),
        ({"seeds": ["a"]}, "a.toml: seeds.0 has to be a whole number, not 'a'"),
        ({"seeds": ["0"]}, "a.toml: seeds.0 has to be a whole number, not '0'"),
        ({"seeds": [True]}, "a.toml: seeds.0 has to be a whole number, not True"),
        ({"seeds": [-1]}, "a.toml: seeds.0 has to be at least 0, not -1"),
        ({"seeds": [2**31]}, "a.toml: seeds.0 has to be below 2147483648, not 2147483648"),
        ({"threads": "2"}, "a.toml: threads has to be a whole number, not '2'"),
        ({"audit": "yes"}, "a.toml: audit has to be true or false, not 'yes'"),
        ({"seeds": [1, 1]}, "a.toml: seeds: 1 stands twice"),
        ({"metrics": ["nll", "nll"]}, "a.toml: metrics: 'nll' stands twice"),
        ({"threads": 0}, "a.toml: threads has to be at least 1, not 0"),
        (
            {"precision": "float16"},
            "a.toml: precision has to be 'float32', 'bfloat16' or 'float64', not 'float16'",
        ),
        ({"budget": "20"}, "a.toml: budget: budget '20' is not of the form '20 epochs', '10000 steps' or '60 minutes'"),
        ({"budget": 20}, "a.toml: budget has to be text, in quotation marks, not 20"),
        ({"models": []}, "a.toml: models has to hold at least 1, not []"),
        ({"models": [{}]}, "a.toml: models.0.name is missing"),
        ({"models": ["made"]}, "a.toml: models.0 has to be a table, not 'made'"),
        ({"models": models("made", label="")}, "a.toml: models.0.label: it must not be empty, not ''"),
        (
            {"models": models("made", grid={"rate": [1e-3, 0.001]})},
            "a.toml: models.0: 0.001 stands twice in the grid of 'rate'; name each value once",
        ),
        ({"models": models("made", budget="0 epochs")}, "a.toml: models.0.budget: budget '0 epochs' must be positive"),
        ({"models": models("made", grid={"a": 1})}, "a.toml: models.0.grid.a has to be a list, in brackets, not 1"),
        (
            {"models": models("made", grid={"a": []})},
            "a.toml: models.0.grid.a has to hold at least 1, not []",
        ),
        (
            {"models": models("made", datasets=["digit"])},
            "'made' names the dataset 'digit', the suite does not (did you",
        ),
        ({"metrics": ["nll"], "models": models("made", without=["nl"])}, "'made' is without 'nl', the suite is"),
        ({"metrics": ["nll"], "models": models("made", without=["nll"])}, "'made' is without every metric of"),
    ],
)
def test_a_wrong_entry_is_refused_by_file_key_and_value(changes, message):
    assert message in refusal(**changes)


def test_a_hyperparameter_with_a_value_and_a_grid_is_refused():
    message = refusal(models=models("made", hyperparameters={"a": 1}, grid={"a": [2]}))
    assert "models.0: 'a' stands in hyperparameters and in grid" in message


def test_a_key_that_is_missing_is_named():
    with pytest.raises(SuiteError, match=r"a\.toml: title is missing$"):
        Suite.parse({"datasets": ["digits"], "models": models("made")}, name="a", source="a.toml")


def test_two_rows_of_one_label_are_refused_by_the_label():
    content = [{"name": "m1", "label": "same"}, {"name": "m2", "label": "same"}]
    assert refusal(models=content) == "a.toml: two rows are labelled 'same'; give one of them a label of its own"


@pytest.mark.parametrize("name", ["..", "a b", "a.b", "-a", "ä", ".hidden"])
def test_a_file_name_that_could_leave_its_folder_is_refused(tmp_path, name):
    (tmp_path / f"{name}.toml").write_text(EXAMPLE)
    with pytest.raises(SuiteError, match="may hold only letters, digits, hyphens and underscores"):
        Suite.read(tmp_path / f"{name}.toml")


def test_a_suite_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SuiteError, match=r"^no suite at .*nothing\.toml$"):
        Suite.read(tmp_path / "nothing.toml")


@pytest.mark.parametrize("content", [b"title = ", b"\xff\xfe", b"[[models]\n"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(SuiteError, match=r"a\.toml: cannot be read as TOML: "):
        Suite.read(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[500, 500]", [500, 500]),
        ("1e-3", 1e-3),
        ("5", 5),
        (".001", 0.001),
        ("-1.", -1.0),
        ("1.e-3", 0.001),
        ("1.2.3", "1.2.3"),
        (".", "."),
        ("true", True),
        ("adam", "adam"),
        ('"adam"', "adam"),
        (" [ 1 ] ", [1]),
        ("a = b", "a = b"),
    ],
)
def test_a_hyperparameter_is_set_with_a_value_as_in_toml_or_a_bare_word(text, value):
    [row] = suite().override([f"made.x={text}"]).rows()
    assert row.configurations[0][0].hyperparameters == {"x": value}


def test_setting_a_hyperparameter_takes_the_place_of_its_grid():
    [row] = suite(models=models("made", grid={"a": [1, 2], "b": [3, 4]})).override(["made.a=9"]).rows()
    assert [runs[0].hyperparameters for runs in row.configurations] == [{"a": 9, "b": 3}, {"a": 9, "b": 4}]


def test_a_setting_by_model_name_changes_all_its_rows_one_by_label_that_row():
    content = [{"name": "made", "label": "A 1.5"}, {"name": "made", "label": "B"}]
    both = suite(models=content).override(["made.x=1"])
    assert [model.hyperparameters for model in both.models] == [{"x": 1}, {"x": 1}]
    one = suite(models=content).override(["A 1.5.x=1"])
    assert [model.hyperparameters for model in one.models] == [{"x": 1}, {}]


def test_a_row_is_set_by_its_default_label_although_that_holds_equals_signs():
    content = [{"name": "made", "hyperparameters": {"hidden": [5]}}, {"name": "made"}]
    changed = suite(models=content).override(["made (hidden=[5]).x=1"])
    assert [model.hyperparameters for model in changed.models] == [{"hidden": [5], "x": 1}, {}]


@pytest.mark.parametrize("setting", ["budget=2 epochs", 'budget="2 epochs"', "budget = 2 epochs"])
def test_the_budget_of_the_suite_is_set(setting):
    assert suite(budget="20 epochs").override([setting]).budget == "2 epochs"


def test_the_budget_of_a_model_is_set():
    assert suite().override(["made.budget=30 steps"]).models[0].budget == "30 steps"


def test_several_settings_apply_in_order():
    changed = suite().override(["made.x=1", "seeds=[3, 4]", "made.x=2"])
    assert (changed.models[0].hyperparameters, changed.seeds) == ({"x": 2}, (3, 4))


def test_settings_keep_name_and_selection():
    changed = suite(datasets=["d1", "d2"]).select(["d2"], [7]).override(["made.x=1"])
    assert (changed.name, changed.datasets, changed.seeds) == ("a", ("d2",), (7,))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("made.x", "--set 'made.x': write MODEL.HYPERPARAMETER=VALUE or KEY=VALUE"),
        ("=3", "--set '=3': write MODEL.HYPERPARAMETER=VALUE or KEY=VALUE"),
        ("made.=3", "--set 'made.=3': write MODEL.HYPERPARAMETER=VALUE or KEY=VALUE"),
        ("mad.x=1", "--set 'mad.x=1': no model 'mad' in the suite (did you mean 'made'?)"),
        ("budgt=1", "--set 'budgt=1': the suite has no key 'budgt' (did you mean 'budget' or 'audit'?)"),
        ("models=[]", "--set 'models=[]': the suite has no key 'models'"),
        ("checkpoint=x", "--set 'checkpoint=x': the suite has no key 'checkpoint'"),
        ("budget=3", "--set 'budget=3': budget has to be text, in quotation marks, not 3"),
        ("seeds=0", "--set 'seeds=0': seeds has to be a list, in brackets, not 0"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_by_its_text(setting, message):
    with pytest.raises(SuiteError) as caught:
        suite().override([setting])
    assert str(caught.value).startswith(message)


def labelled():
    return suite(datasets=["d1", "d2"], models=[{"name": "m1", "label": "A, B"}, {"name": "m1"}, {"name": "m2"}])


@pytest.mark.parametrize(
    ("only", "rows"),
    [
        ([], [("d1", "A, B"), ("d1", "m1"), ("d1", "m2"), ("d2", "A, B"), ("d2", "m1"), ("d2", "m2")]),
        (["m2"], [("d1", "m2"), ("d2", "m2")]),
        (["m1", "d2"], [("d2", "A, B"), ("d2", "m1")]),
        (["A, B", "d1"], [("d1", "A, B")]),
    ],
)
def test_selecting_names_models_labels_or_datasets(only, rows):
    assert [(row.dataset, row.label) for row in labelled().select(only).rows()] == rows


def test_selecting_what_the_suite_does_not_have_is_refused():
    with pytest.raises(SuiteError, match=r"--only 'm3': no such model, label or dataset in the suite \(did you mean"):
        labelled().select(["m3"])


def test_other_seeds_take_the_place_of_the_suites_each_once():
    assert suite(seeds=[0, 1]).select([], [5, 3, 5]).seeds == (5, 3)


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_out_of_range_is_refused_by_its_value(seed):
    with pytest.raises(SuiteError, match=rf"seed {seed} is not in \[0, 2\*\*31\)"):
        suite().select([], [seed])


def test_scoring_a_checkpoint_takes_one_row_and_one_seed(tmp_path):
    scored = labelled().select(["m2", "d1"], [4, 5]).scoring(tmp_path / "x" / ".." / "w.safetensors")
    [row] = scored.rows()
    [[spec]] = row.configurations
    assert (spec.seed, spec.checkpoint) == (4, str(tmp_path / "w.safetensors"))


def test_a_setting_after_a_checkpoint_keeps_it(tmp_path):
    scored = suite().scoring(tmp_path / "w.safetensors").override(["made.x=1"])
    assert scored.rows()[0].configurations[0][0].checkpoint == str(tmp_path / "w.safetensors")


def test_a_checkpoint_for_several_rows_is_refused_by_their_names(tmp_path):
    with pytest.raises(SuiteError, match=r"one row, this is 6 \(A, B on d1, m1 on d1, m2 on d1, A, B on d2\)"):
        labelled().scoring(tmp_path / "w.safetensors")


def test_a_checkpoint_for_a_grid_is_refused_by_its_size(tmp_path):
    gridded = suite(models=models("made", grid={"a": [1, 2]}))
    with pytest.raises(
        SuiteError, match=r"one configuration, 'made' has a grid of 2: choose one of its values by --set"
    ):
        gridded.scoring(tmp_path / "w.safetensors")
    assert gridded.override(["made.a=1"]).scoring(tmp_path / "w.safetensors").checkpoint == str(
        (tmp_path / "w.safetensors").resolve()
    )
