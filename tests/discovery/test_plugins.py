"""Discovery, isolation and look-up of plugins, on fake distributions of real files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from typer.testing import CliRunner

from harness.cli import app
from harness.discovery.loading import load_metric
from harness.discovery.manager import NameConflict, PluginManager, UnknownName
from harness.interface.entries import EntryError
from harness.support.guard import Escaped, survive
from harness.support.names import did_you_mean

GOOD = """
    from harness import ModelEntry, hookimpl

    class Kernel:
        pass

    @hookimpl
    def register_models():
        return [ModelEntry("zz-good", "zz_good:Kernel", summary="a healthy model")]
"""


def registering(body):
    """A module whose ``register_models`` has this body."""
    return f"""
    from harness import DatasetEntry, MetricEntry, ModelEntry, hookimpl

    class Thing:
        pass

    @hookimpl
    def register_models():
        {body}
"""


def info_of(manager, name):
    [info] = [info for info in manager.plugins if info.name == name]
    return info


def problem_of(manager, name):
    [problem] = info_of(manager, name).problems
    return problem


@pytest.fixture
def install_bad(install_plugin):
    """Installs a module as plugin ``aa-bad`` of ``harness-bad``, before and after which healthy ones are found."""

    def install(text, value="aa_bad"):
        install_plugin("harness-good", {"zz_good.py": GOOD}, entry_points={"zz-good": "zz_good"})
        install_plugin("harness-bad", {"aa_bad.py": text}, entry_points={"aa-bad": value})
        manager = PluginManager()
        assert info_of(manager, "zz-good").problems == []
        assert manager.load("model", "zz-good").__name__ == "Kernel"
        assert manager.find("dataset", "digits")[0].name == "digits"
        info = info_of(manager, "aa-bad")
        assert (info.distribution, info.version) == ("harness-bad", "0.1")
        return manager

    return install


def test_a_one_file_plugin_with_a_string_target_is_found_with_its_distribution_and_version(install_plugin):
    install_plugin("harness-good", {"zz_good.py": GOOD}, entry_points={"zz-good": "zz_good"}, version="1.2")
    manager = PluginManager()
    assert manager.load("model", "zz-good") is sys.modules["zz_good"].Kernel
    assert manager.provider("model", "zz-good").source == "harness-good 1.2"
    assert info_of(manager, "zz-good").problems == []


def test_a_class_object_is_a_target_as_well(install_plugin):
    text = registering('return [ModelEntry("thing", Thing)]')
    install_plugin("harness-thing", {"thing.py": text}, entry_points={"thing": "thing"})
    assert PluginManager().load("model", "thing") is sys.modules["thing"].Thing


def test_a_generator_is_an_answer_as_well(install_plugin):
    text = registering('yield ModelEntry("thing", Thing)')
    install_plugin("harness-thing", {"thing.py": text}, entry_points={"thing": "thing"})
    assert PluginManager().find("model", "thing")[0].name == "thing"


def test_a_string_target_is_not_imported_by_discovery(install_plugin):
    text = registering('return [ModelEntry("late", "late_target:Thing")]')
    files = {"late.py": text, "late_target.py": "class Thing:\n    pass\n"}
    install_plugin("harness-late", files, entry_points={"late": "late"})
    manager = PluginManager()
    assert "late_target" not in sys.modules
    assert manager.load("model", "late").__name__ == "Thing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('raise RuntimeError("no licence")', "import of 'aa_bad' failed: RuntimeError: no licence"),
        ("import sys; sys.exit(3)", "import of 'aa_bad' failed: it called sys.exit(3)"),
        ("import os; os._exit(0)", "import of 'aa_bad' failed: it called os._exit(0)"),
        ("raise KeyboardInterrupt", "import of 'aa_bad' failed: it raised KeyboardInterrupt"),
        (
            """
            class Mute(Exception):
                def __str__(self):
                    raise RuntimeError

            raise Mute
            """,
            "import of 'aa_bad' failed: Mute: <Mute whose str() raises>",
        ),
        ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
        ("def broken(:", "import of 'aa_bad' failed: SyntaxError"),
    ],
    ids=["raises", "exits", "ends at once", "interrupts", "cannot be told", "lacks a dependency", "does not parse"],
)
def test_a_plugin_that_fails_to_import_is_reported_with_its_traceback(install_bad, text, message):
    problem = problem_of(install_bad(text), "aa-bad")
    assert message in problem.message
    assert problem.traceback.startswith("Traceback")
    assert "aa_bad" in problem.traceback


@pytest.mark.parametrize("value", ["aa_bad:missing", "aa_nowhere", "not a module!!"])
def test_an_entry_point_that_leads_nowhere_is_reported_by_its_value(install_bad, value):
    assert f"import of {value!r} failed" in problem_of(install_bad("", value), "aa-bad").message


def test_a_misspelt_hook_is_reported_with_the_right_name(install_bad):
    text = registering('return [ModelEntry("unseen", Thing)]').replace("register_models", "register_model")
    problem = problem_of(install_bad(text), "aa-bad")
    assert problem.message.startswith("unknown hook 'register_model' (did you mean 'register_models'")


@pytest.mark.parametrize("name", ["hookspec", "pluggy", "Sequence"])
def test_a_hook_named_like_something_else_in_hookspecs_is_reported_as_well(install_bad, name):
    text = registering("return []").replace("def register_models", f"def {name}")
    assert f"unknown hook {name!r}" in problem_of(install_bad(text), "aa-bad").message


def test_a_plugin_with_one_misspelt_hook_registers_nothing(install_bad):
    text = registering('return [ModelEntry("half", Thing)]') + "\n    @hookimpl\n    def run_startd(spec): pass\n"
    manager = install_bad(text)
    assert "'run_started'" in problem_of(manager, "aa-bad").message
    with pytest.raises(UnknownName):
        manager.find("model", "half")


def test_a_hook_with_unknown_arguments_is_reported_by_their_name(install_bad):
    text = registering("return []").replace("register_models()", "register_models(config)")
    message = problem_of(install_bad(text), "aa-bad").message
    assert "register_models(config)" in message
    assert "{'config'}" in message


def test_a_plugin_without_any_hook_is_reported(install_bad):
    text = registering('return [ModelEntry("unmarked", Thing)]').replace("@hookimpl\n", "\n")
    assert problem_of(install_bad(text), "aa-bad").message == "'aa_bad' has no hook: is @harness.hookimpl missing?"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('raise OSError("no disk")', "register_models() failed: OSError: no disk"),
        ("import sys; sys.exit()", "register_models() failed: it called sys.exit(None)"),
        ("import os; os._exit(0)", "register_models() failed: it called os._exit(0)"),
        (
            "return [type('Mute', (), {'__repr__': lambda self: 1 / 0})()]",
            "register_models() returned <Mute whose repr() raises>, which is not a harness.ModelEntry",
        ),
        ('yield ModelEntry("early", Thing); raise OSError("late")', "register_models() failed: OSError: late"),
        ('return "kde"', "register_models() returned 'kde', not a list of model entries"),
        ("return {'kde': Thing}", "register_models() returned {'kde': <class 'aa_bad.Thing'>}, not a list of model"),
        ("return None", "register_models() returned None, not a list of model entries"),
        ("return [3]", "register_models() returned 3, which is not a harness.ModelEntry"),
        ('return [DatasetEntry("kde", Thing)]', "which is not a harness.ModelEntry"),
        ('return [ModelEntry("Bad Name", Thing)]', "register_models() failed: EntryError: model name 'Bad Name' is"),
    ],
    ids=[
        "raises",
        "exits",
        "ends at once",
        "cannot be shown",
        "half-way",
        "text",
        "mapping",
        "nothing",
        "integers",
        "other kind",
        "bad name",
    ],
)
def test_a_hook_that_answers_nonsense_is_reported(install_bad, body, message):
    assert message in problem_of(install_bad(registering(body)), "aa-bad").message


def test_what_is_right_in_an_answer_is_kept_beside_what_is_wrong(install_bad):
    manager = install_bad(registering('return [3, ModelEntry("kept", Thing)]'))
    assert manager.find("model", "kept")[0].name == "kept"


def test_an_unknown_name_is_answered_with_near_names_and_the_broken_plugins(install_bad):
    manager = install_bad("import nowhere_to_be_found")
    with pytest.raises(UnknownName) as caught:
        manager.find("model", "zz-goood")
    assert str(caught.value).startswith("unknown model 'zz-goood' (did you mean 'zz-good'")
    assert "broken plugins: aa-bad (see 'harness plugins')" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [("nowhere_at_all:Thing", "cannot import 'nowhere_at_all'"), ("aa_bad:Gone", "has no attribute 'Gone'")],
)
def test_a_target_that_does_not_exist_is_listed_and_fails_by_its_name_when_used(install_bad, target, message):
    manager = install_bad(registering(f'return [ModelEntry("gone", "{target}")]'))
    assert "gone" in [entry.name for entry in manager.entries("model")]
    with pytest.raises(EntryError, match=f"model 'gone': .*{message}"):
        manager.load("model", "gone")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere_at_all:Thing", "model 'gone': there is no module 'nowhere_at_all'"),
        ("aa_bad:Gone", "model 'gone': module 'aa_bad' has no attribute 'Gone'"),
        ("aa_bad.deeper:Thing", "model 'gone': there is no module 'aa_bad.deeper'"),
        (
            "harness.interface.figure:save_grids",
            "model 'gone': module 'harness.interface.figure' has no attribute 'save_grids'",
        ),
        ("harness.interface.figure:save_grid", None),
        ("harness.builtin.metrics.likelihood:IWAE", None),
    ],
)
def test_targets_are_checked_by_their_source(install_bad, monkeypatch, target, message):
    manager = install_bad(registering(f'return [ModelEntry("gone", "{target}")]'))
    for name in ("harness.interface.figure", "harness.builtin.metrics.likelihood"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    manager.check_targets()
    manager.check_targets()
    found = [problem.message for info in manager.plugins for problem in info.problems]
    assert found == ([] if message is None else [message])
    assert not {"harness.interface.figure", "harness.builtin.metrics.likelihood"} & sys.modules.keys()


@pytest.fixture
def conflicting(install_plugin):
    """Two distributions that register the model ``same``; the first registers ``other`` too."""
    first = registering('return [ModelEntry("same", Thing), ModelEntry("other", Thing)]')
    second = registering('return [ModelEntry("same", Thing)]')
    install_plugin("harness-one", {"one.py": first}, entry_points={"one": "one"})
    install_plugin("harness-two", {"two.py": second}, entry_points={"two": "two"})


def test_a_model_of_two_distributions_is_an_error_that_names_both(conflicting):
    with pytest.raises(NameConflict) as caught:
        PluginManager().find("model", "same")
    assert "harness-one 0.1 (plugin 'one') and harness-two 0.1 (plugin 'two')" in str(caught.value)


def test_a_model_of_two_distributions_is_reported_once_for_each_and_hides_nothing_else(conflicting):
    manager = PluginManager()
    assert problem_of(manager, "one") == problem_of(manager, "two")
    names = [entry.name for entry in manager.entries("model")]
    assert "same" not in names
    assert "other" in names
    assert manager.find("model", "other")[0].name == "other"


def test_blocking_one_of_two_distributions_settles_their_conflict(conflicting):
    manager = PluginManager(blocked=["two"])
    assert manager.provider("model", "same").distribution == "harness-one"
    assert info_of(manager, "one").problems == []


def test_a_third_distribution_of_one_name_is_named_in_one_message(conflicting, install_plugin):
    text = registering('return [ModelEntry("same", Thing)]')
    install_plugin("harness-three", {"three.py": text}, entry_points={"three": "three"})
    message = problem_of(PluginManager(), "one").message
    assert all(f"harness-{name} 0.1" in message for name in ("one", "two", "three"))


def test_a_plugin_that_registers_a_name_twice_is_reported_once(install_bad):
    manager = install_bad(registering('return [ModelEntry("same", Thing), ModelEntry("same", Thing)]'))
    assert "model 'same' is registered by" in problem_of(manager, "aa-bad").message


def test_one_name_for_a_model_and_a_dataset_is_no_conflict(install_plugin):
    text = registering('return [ModelEntry("both", Thing)]')
    text += '\n    @hookimpl\n    def register_datasets():\n        return [DatasetEntry("both", Thing)]\n'
    install_plugin("harness-both", {"both.py": text}, entry_points={"both": "both"})
    manager = PluginManager()
    assert (manager.find("model", "both")[0].kind, manager.find("dataset", "both")[0].kind) == ("model", "dataset")


def test_a_name_that_belongs_to_anothers_family_of_names_is_a_conflict(install_plugin):
    family = registering("return [ModelEntry('fam', Thing, pattern='fam-(?P<k>[0-9]+)', usage='fam-K')]")
    member = registering('return [ModelEntry("fam-5", Thing)]')
    install_plugin("harness-family", {"family.py": family}, entry_points={"family": "family"})
    install_plugin("harness-member", {"member.py": member}, entry_points={"member": "member"})
    manager = PluginManager()
    with pytest.raises(NameConflict, match=r"harness-family 0\.1 .* and harness-member 0\.1"):
        manager.find("model", "fam-5")
    assert problem_of(manager, "family") == problem_of(manager, "member")
    assert manager.find("model", "fam-6")[1] == {"k": "6"}
    names = [entry.display_name for entry in manager.entries("model")]
    assert "fam-K" in names
    assert "fam-5" not in names


def test_two_families_that_share_a_name_conflict_on_that_name_alone(install_plugin):
    for name, pattern in [("one", "a-[0-9]+"), ("two", "[a-z]-7")]:
        text = registering(f"return [ModelEntry('{name}', Thing, pattern='{pattern}')]")
        install_plugin(f"harness-{name}", {f"{name}.py": text}, entry_points={name: name})
    manager = PluginManager()
    assert manager.find("model", "a-6")[0].name == "one"
    assert manager.find("model", "b-7")[0].name == "two"
    with pytest.raises(NameConflict, match=r"model 'a-7' is registered by harness-one .* and harness-two"):
        manager.find("model", "a-7")


def test_the_second_of_two_entry_points_of_one_name_is_reported_and_the_first_works(install_plugin):
    for name in ("one", "two"):
        text = registering(f'return [ModelEntry("of-{name}", Thing)]')
        install_plugin(f"harness-{name}", {f"{name}.py": text}, entry_points={"twin": name})
    manager = PluginManager()
    first, second = [info for info in manager.plugins if info.name == "twin"]
    assert (first.problems, first.distribution) == ([], "harness-one")
    assert "plugin name 'twin' is taken by harness-one 0.1" in second.problems[0].message
    assert second.distribution == "harness-two"
    assert manager.find("model", "of-one")[0].name == "of-one"


def test_a_second_name_for_a_registered_object_leaves_the_first_registered(install_plugin):
    text = registering('return [ModelEntry("thing", Thing)]')
    install_plugin("harness-thing", {"thing.py": text}, entry_points={"thing": "thing", "thing-again": "thing"})
    manager = PluginManager()
    assert manager.find("model", "thing")[0].name == "thing"
    assert problem_of(manager, "thing-again").message == "'thing' is registered already, by plugin 'thing'"


def test_a_distribution_that_stands_twice_on_the_path_is_one_plugin(install_plugin, tmp_path, monkeypatch):
    install_plugin("harness-good", {"zz_good.py": GOOD}, entry_points={"zz-good": "zz_good"})
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    assert info_of(PluginManager(), "zz-good").problems == []


def test_an_unreadable_entry_points_file_is_reported_and_the_others_work(install_plugin):
    install_plugin("harness-good", {"zz_good.py": GOOD}, entry_points={"zz-good": "zz_good"})
    install_plugin("harness-bad", {}, entry_points="[harness]\nno equals sign\n")
    manager = PluginManager()
    assert "entry_points.txt cannot be read" in problem_of(manager, "harness-bad").message
    assert manager.find("model", "zz-good")[0].name == "zz-good"


def test_another_distributions_unreadable_entry_points_do_not_concern_us(install_plugin):
    install_plugin("harness-good", {"zz_good.py": GOOD}, entry_points={"zz-good": "zz_good"})
    install_plugin("something-else", {}, entry_points="[other]\nno equals sign\n")
    manager = PluginManager()
    assert [info.name for info in manager.plugins if info.problems] == []
    assert manager.find("model", "zz-good")[0].name == "zz-good"


def test_a_distribution_without_metadata_still_registers(install_plugin):
    site = install_plugin("harness-good", {"zz_good.py": GOOD}, entry_points={"zz-good": "zz_good"})
    (site / "harness_good-0.1.dist-info" / "METADATA").unlink()
    assert PluginManager().provider("model", "zz-good").source == "(unknown distribution)"


@pytest.mark.parametrize("way", ["argument", "variable", "option"])
def test_a_blocked_plugin_is_never_imported(install_plugin, monkeypatch, way):
    text = "from pathlib import Path\n    Path(__file__).with_name('imported').touch()"
    site = install_plugin("harness-bad", {"aa_bad.py": f"\n    {text}"}, entry_points={"aa-bad": "aa_bad"})
    if way == "option":
        done = CliRunner().invoke(app, ["-p", "no:aa-bad", "plugins"])
        assert done.exit_code == 0
        assert "blocked" in next(line for line in done.output.splitlines() if line.startswith("aa-bad"))
    else:
        if way == "variable":
            monkeypatch.setenv("HARNESS_DISABLE_PLUGINS", "other, aa-bad")
        manager = PluginManager(blocked=["aa-bad"] if way == "argument" else [])
        assert info_of(manager, "aa-bad").blocked
        with pytest.raises(UnknownName, match="blocked plugins: aa-bad"):
            manager.find("model", "aa")
    assert "aa_bad" not in sys.modules
    assert not (site / "imported").exists()


def test_a_plugin_option_of_another_form_is_one_line_that_says_the_right_one():
    done = CliRunner().invoke(app, ["-p", "nade", "plugins"])
    assert done.exit_code == 2
    assert done.output == "error: -p 'nade': write -p no:NAME to block the plugin NAME\n"


def test_every_observer_is_called_and_one_that_raises_is_reported(install_plugin):
    observer = """
        from harness import hookimpl
        heard = []

        @hookimpl
        def run_started(spec):
            heard.append(spec)
            {end}

        @hookimpl
        def run_finished(record):
            heard.append(record)
    """
    ends = {"ears-a": "pass", "ears-b": "raise OSError('offline')", "ears-c": "raise SystemExit(1)", "ears-d": "pass"}
    for name, end in ends.items():
        module = name.replace("-", "_")
        install_plugin(f"harness-{name}", {f"{module}.py": observer.format(end=end)}, entry_points={name: module})
    manager = PluginManager()
    messages = {problem.message for problem in manager.notify("run_started", spec="a spec")}
    assert messages == {
        "ears-b: run_started failed: OSError: offline",
        "ears-c: run_started failed: it called sys.exit(1)",
    }
    assert manager.notify("run_finished", record="a record") == []
    for name in ends:
        assert sys.modules[name.replace("-", "_")].heard == ["a spec", "a record"]


def test_packages_are_those_of_the_plugins_and_the_layers_that_they_require(install_plugin):
    text = registering('return [ModelEntry("thing", "thing_models.kernel:Thing")]')
    files = {"thing.py": text, "thing_models/__init__.py": ""}
    requires = ["genharness", "Harness_Stack>=0.1 ; python_version >= '3.8'", "numpy", "not-installed"]
    install_plugin("harness-thing", files, entry_points={"thing": "thing"}, requires=requires)
    install_plugin("harness-stack", {"harness_stack/__init__.py": ""}, requires=["genharness", "harness-base"])
    install_plugin("harness-base", {"harness_base/__init__.py": ""}, requires=["genharness"])
    packages = PluginManager().packages()
    assert {"thing", "thing_models", "harness_stack", "harness_base"} <= packages
    assert packages & {"harness", "numpy", "not_installed"} == set()


def test_the_command_plugins_names_distribution_and_reason_and_fails(install_plugin):
    install_plugin("harness-bad", {"aa_bad.py": 'raise OSError("no disk")'}, entry_points={"aa-bad": "aa_bad"})
    done = CliRunner().invoke(app, ["plugins"])
    assert done.exit_code == 1
    assert "\naa-bad (harness-bad 0.1): import of 'aa_bad' failed: OSError: no disk\n" in done.output
    assert "Traceback" not in done.output
    assert "Traceback" in CliRunner().invoke(app, ["plugins", "--tracebacks"]).output


def test_the_command_plugins_gives_the_same_as_json(install_plugin):
    install_plugin("harness-good", {"zz_good.py": GOOD}, entry_points={"zz-good": "zz_good"})
    install_plugin("harness-bad", {"aa_bad.py": 'raise OSError("no disk")'}, entry_points={"aa-bad": "aa_bad"})
    done = CliRunner().invoke(app, ["plugins", "--json"])
    assert done.exit_code == 1
    found = {item["name"]: item for item in json.loads(done.output)}
    assert found["zz-good"] == {
        "name": "zz-good",
        "distribution": "harness-good",
        "version": "0.1",
        "blocked": False,
        "registers": ["model zz-good"],
        "problems": [],
    }
    assert found["aa-bad"]["problems"][0]["message"].endswith("OSError: no disk")


def test_the_command_plugins_reports_a_conflict_for_both_distributions(conflicting):
    done = CliRunner().invoke(app, ["plugins"])
    assert done.exit_code == 1
    reason = "model 'same' is registered by harness-one 0.1 (plugin 'one') and harness-two 0.1 (plugin 'two')"
    assert f"\none (harness-one 0.1): {reason}\n" in done.output
    assert f"\ntwo (harness-two 0.1): {reason}\n" in done.output


def test_the_command_list_shows_what_works_and_names_what_is_broken(install_plugin):
    install_plugin("harness-good", {"zz_good.py": GOOD}, entry_points={"zz-good": "zz_good"})
    install_plugin("harness-bad", {"aa_bad.py": 'raise OSError("no disk")'}, entry_points={"aa-bad": "aa_bad"})
    done = CliRunner().invoke(app, ["list", "models"])
    assert done.exit_code == 0
    assert any(line.split()[:3] == ["zz-good", "a", "healthy"] for line in done.stdout.splitlines())
    assert "broken plugins: aa-bad (see 'harness plugins')" in done.stderr


def test_an_installed_plugin_is_found_by_child_processes(install_plugin):
    install_plugin("harness-good", {"zz_good.py": GOOD}, entry_points={"zz-good": "zz_good"})
    code = "from harness.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "list", "models", "--json"], capture_output=True, text=True)
    found = {item["name"]: item for item in json.loads(done.stdout)}
    assert found["zz-good"]["plugin"] == "harness-good 0.1"


@pytest.mark.parametrize(
    ("known", "hint"),
    [
        (["made", "nade", "iwae"], " (did you mean 'made' or 'nade'?)"),
        (["uniform", "gaussian"], " (there are: gaussian, uniform)"),
        ([f"x{n:02}" for n in range(22)], f" (there are: {', '.join(f'x{n:02}' for n in range(20))} and 2 others)"),
        ([], " (none is installed)"),
    ],
)
def test_a_hint_names_what_is_close_or_else_what_there_is(known, hint):
    assert did_you_mean("mades", known) == hint


def test_a_metric_on_a_board_that_cannot_be_a_files_name_is_refused_before_anything_is_trained(install_plugin):
    text = """
        import harness

        class Shade(harness.Metric):
            name, version, unit, board = "shade", "1", "levels", "light show"

            def evaluate(self, evaluation):
                return harness.Score(0.0)

        @harness.hookimpl
        def register_metrics():
            return [harness.MetricEntry("shade", Shade)]
    """
    install_plugin("harness-shade", {"harness_shade.py": text}, entry_points={"shade": "harness_shade"})
    with pytest.raises(ValueError, match="metric 'shade': board 'light show' is not made of lower-case words"):
        load_metric(PluginManager(), "shade")


@pytest.mark.parametrize("act", ["sys.exit(0)", "os._exit(0)"])
def test_a_loader_that_ends_the_process_is_a_mistake_that_names_it(install_plugin, command_line, tmp_path, act):
    code = f"""
    import os, sys, harness
    def load(folder):
        {act}
    @harness.hookimpl
    def register_datasets():
        return [harness.DatasetEntry("leaves", load)]
    """
    install_plugin("harness-leaves", {"harness_leaves.py": code}, entry_points={"leaves": "harness_leaves"})
    suite = tmp_path / "s.toml"
    suite.write_text(
        'title = "T"\ndatasets = ["leaves"]\nmetrics = ["nll"]\nseeds = [0]\n[[models]]\nname = "uniform"\n'
    )
    answer = command_line("--artifacts", tmp_path / "a", "run", suite)
    assert answer.complaint == f"error: dataset 'leaves': harness_leaves:load failed: it called {act}"


def test_code_of_a_plugin_that_ends_the_process_ends_no_command_in_silence(command_line, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.suites.suite.Suite.read", lambda path: sys.exit(0))
    assert command_line("--artifacts", tmp_path, "run", "any").complaint == "error: it called sys.exit(0)"


DEADLY = {"SIGSEGV": "ctypes.string_at(0)", "SIGKILL": "os.kill(os.getpid(), 9)", "SIGABRT": "os.abort()"}


@pytest.mark.parametrize("name", DEADLY)
def test_an_import_or_hook_that_crashes_is_that_plugins_failure_and_the_command_goes_on(
    install_plugin, command_line, name
):
    code = f"import ctypes, os, harness\n@harness.hookimpl\ndef register_models(): return []\n{DEADLY[name]}\n"
    install_plugin("harness-dies", {"aa_dies.py": code}, entry_points={"aa-dies": "aa_dies"})
    answer = command_line("plugins", "--json")
    [problem] = [item for info in answer.json for item in info["problems"] if info["name"] == "aa-dies"]
    assert problem["message"] == f"import of 'aa_dies' failed: it ends the process by {name}"
    assert command_line("list", "executors").code == 0


def test_a_target_whose_import_crashes_is_an_error_that_names_it(install_plugin, tmp_path):
    code = GOOD.replace("class Kernel", "import os\n    os.abort()\n\n    class Kernel").replace("zz_good:", "zz_core:")
    hooks = GOOD.replace("zz_good:", "zz_core:")
    install_plugin("harness-good", {"zz_good.py": hooks, "zz_core.py": code}, entry_points={"zz-good": "zz_good"})
    with pytest.raises(EntryError, match="cannot import 'zz_core': it ends the process by SIGABRT"):
        PluginManager().load("model", "zz-good")
    (tmp_path / "my_model.py").write_text("import os\nos.abort()\n")
    with pytest.raises(EntryError, match=r"my_model.py cannot be imported: it ends the process by SIGABRT"):
        PluginManager().at(tmp_path).load("model", "my_model.py:KDE")


def test_an_import_that_never_ends_is_given_up_and_what_it_started_ends_with_it(monkeypatch):
    monkeypatch.setattr("harness.support.guard._IMPORT_SECONDS", 0.5)
    with pytest.raises(Escaped, match=r"takes more than 0\.5 s"):
        survive(lambda: subprocess.run(["sleep", "1234567"], check=True))
    assert not marked("1234567")


def marked(mark):
    return [process for process in psutil.process_iter(["cmdline"]) if mark in (process.info["cmdline"] or [])]


def test_an_import_that_never_ends_ends_with_the_command_that_is_killed():
    code = "import os; from harness.support.guard import survive; survive(lambda: os.execvp('sleep', ['sleep', '{}']))"
    with subprocess.Popen([sys.executable, "-c", code.format("1234568")]) as command:
        assert eventually(lambda: marked("1234568"))
        command.kill()
    assert eventually(lambda: not marked("1234568"))


def eventually(holds, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def test_an_import_is_tried_where_nobody_is_told_of_the_ends_of_processes():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        survive(lambda: None)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_an_import_that_computes_is_tried_after_computations_on_several_threads(monkeypatch):
    monkeypatch.setattr("harness.support.guard._IMPORT_SECONDS", 20.0)
    before, big = torch.get_num_threads(), torch.ones(1_000_000)
    torch.set_num_threads(2)
    try:
        big.exp()
        survive(big.exp)
    finally:
        torch.set_num_threads(before)


def test_what_a_plugin_starts_at_import_neither_holds_a_command_nor_outlives_it(install_plugin):
    code = """
        import multiprocessing, subprocess, threading, time, harness
        threading.Thread(target=time.sleep, args=(1234,)).start()
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(1234,)).start()
        subprocess.Popen(["sleep", "1234569"], start_new_session=True)
        @harness.hookimpl
        def register_models(): return []
    """
    install_plugin("harness-starts", {"starts.py": code}, entry_points={"starts": "starts"})
    command = [sys.executable, "-m", "harness", "list", "executors"]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60, check=True).returncode == 0
    assert not marked("1234569")


def test_what_a_plugin_prints_at_import_is_no_part_of_a_commands_output(install_plugin, command_line):
    code = "import harness\nprint('hello')\n@harness.hookimpl\ndef register_models(): return []\n"
    install_plugin("harness-chatty", {"chatty.py": code}, entry_points={"chatty": "chatty"})
    answer = command_line("list", "executors", "--json")
    assert [item["name"] for item in answer.json] == ["local"]


def test_entry_points_that_are_no_text_are_reported_and_the_others_work(install_plugin):
    site = install_plugin("harness-bytes", {}, entry_points="")
    (site / "harness_bytes-0.1.dist-info" / "entry_points.txt").write_bytes(b"[harness]\n\xff = nothing\n")
    manager = PluginManager()
    assert problem_of(manager, "harness-bytes").message.startswith("entry_points.txt cannot be read: UnicodeDecode")
    assert manager.has("dataset", "digits")


@pytest.mark.parametrize("act", ["sys.exit(0)", "os._exit(0)"])
def test_an_entry_whose_name_ends_the_process_is_reported_and_the_others_work(install_plugin, act):
    code = f"""
    import os, sys, harness
    class Own(harness.ModelEntry):
        @property
        def full_name(self):
            {act}
    @harness.hookimpl
    def register_models():
        return [Own("own", "own:Own")]
    """
    install_plugin("harness-own", {"harness_own.py": code}, entry_points={"own": "harness_own"})
    manager = PluginManager()
    assert problem_of(manager, "own").message == f"register_models() failed: it called {act}"
    assert manager.has("dataset", "digits")
