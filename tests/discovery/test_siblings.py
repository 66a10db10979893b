"""A figure depends on every module of the distributions that its model comes from, however they are installed."""

from __future__ import annotations

import sys

import pytest

from harness.discovery.loading import model_code
from harness.discovery.manager import PluginManager

PLUGIN = """
import harness
@harness.hookimpl
def register_models():
    return [harness.ModelEntry("flat", "flat_model:Flat")]
"""
MODEL = "from {module} import SHIFT\nclass Flat:\n    shift = SHIFT\n"


def code_of(name="flat", folder=None):
    plugins = PluginManager()
    return model_code(plugins if folder is None else plugins.at(folder), name)


def edited(file, old="0.0", new="50.0"):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def as_pip_does(site, distribution, *files):
    """Writes down which files are a distribution's: then those beside them are not."""
    info = site / f"{distribution.replace('-', '_')}-0.1.dist-info"
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


@pytest.mark.parametrize("how", ["installed", "editable"])
def test_a_second_top_level_module_of_the_distribution_counts(install_plugin, how):
    files = {
        "flat_model.py": MODEL.format(module="flat_layers") + PLUGIN,
        "flat_layers.py": "SHIFT = 0.0\n",
        "flat_unused.py": "SHIFT = 0.0\n",
    }
    site = install_plugin("harness-flat", files, entry_points={"flat": "flat_model"})
    if how == "installed":
        as_pip_does(site, "harness-flat", *files)
    before = code_of()
    edited(site / "flat_unused.py")
    assert code_of() == before
    edited(site / "flat_layers.py")
    assert code_of() != before


@pytest.mark.parametrize("how", ["it registers plugins", "it requires the harness"])
def test_a_module_of_a_distribution_that_is_required_counts(install_plugin, how):
    files = {"flat_model.py": MODEL.format(module="stack_of_layers") + PLUGIN}
    site = install_plugin(
        "harness-flat", files, entry_points={"flat": "flat_model"}, requires=["genharness", "Harness.Stack"]
    )
    registers = how == "it registers plugins"
    install_plugin(
        "harness-stack",
        {"stack_of_layers.py": "SHIFT = 0.0\n", "stack_plugin.py": "import harness\n"},
        entry_points={"stack": "stack_plugin"} if registers else (),
        requires=[] if registers else ["genharness"],
    )
    as_pip_does(site, "harness-flat", *files)
    as_pip_does(site, "harness-stack", "stack_of_layers.py", "stack_plugin.py")
    before = code_of()
    edited(site / "stack_of_layers.py")
    assert code_of() != before


def test_what_another_distribution_installed_beside_it_does_not_count(install_plugin):
    files = {"flat_model.py": MODEL.format(module="numbers_of_others") + PLUGIN}
    site = install_plugin("harness-flat", files, entry_points={"flat": "flat_model"})
    install_plugin("numbers-of-others", {"numbers_of_others.py": "SHIFT = 0.0\n"}, requires=[])
    as_pip_does(site, "harness-flat", *files)
    as_pip_does(site, "numbers-of-others", "numbers_of_others.py")
    before = code_of()
    edited(site / "numbers_of_others.py")
    assert code_of() == before


def test_a_module_beside_one_that_a_suite_names_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_flat.py").write_text(MODEL.format(module="beside_layers"))
    (tmp_path / "beside_layers.py").write_text("SHIFT = 0.0\n")
    before = code_of("beside_flat:Flat", tmp_path)
    edited(tmp_path / "beside_layers.py")
    assert code_of("beside_flat:Flat", tmp_path) != before


def test_what_is_followed_does_not_depend_on_what_is_imported(install_plugin):
    install_plugin("harness-broken", {"flat_broken.py": "raise OSError\n"}, entry_points={"broken": "flat_broken"})
    assert "flat_broken" in PluginManager().packages()
    assert PluginManager(blocked=["broken"]).packages() == PluginManager().packages()
