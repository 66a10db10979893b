"""The hook specifications: each documented, each exercised by something built in or an observer."""

from __future__ import annotations

import inspect

import pluggy
import pytest

from harness.discovery.manager import PluginManager
from harness.interface import hooks as hookspecs

OBSERVERS = {"run_started": ["spec"], "run_finished": ["record"]}


def specifications():
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return sorted(vars(manager.hook))


@pytest.mark.parametrize("name", specifications())
def test_every_hook_is_documented_in_a_sentence(name):
    documentation = inspect.getdoc(getattr(hookspecs, name))
    assert documentation is not None
    assert documentation.startswith(("Returns the ", "Called in the coordinating process "))
    assert documentation.endswith(".")


@pytest.mark.parametrize("name", specifications())
def test_every_hook_is_answered_by_an_installed_plugin_or_is_an_observer(name, install_plugin):
    if name in OBSERVERS:
        assert list(inspect.signature(getattr(hookspecs, name)).parameters) == OBSERVERS[name]
        return
    kind = name.removeprefix("register_").removesuffix("s")
    more = ', model="uniform"' if kind == "sampler" else ""
    text = f"""
        from harness import {kind.capitalize()}Entry, hookimpl

        @hookimpl
        def {name}():
            return [{kind.capitalize()}Entry("from-a-test", "a_plugin:Target"{more})]
    """
    install_plugin("harness-a", {"a_plugin.py": text}, entry_points={"a": "a_plugin"})
    found = [entry for entry in PluginManager().entries(kind) if entry.name.endswith("from-a-test")]
    assert [entry.kind for entry in found] == [kind]


BY_PLUGINS_ALONE = {"register_models", "register_samplers"}


@pytest.mark.parametrize("name", sorted(set(specifications()) - set(OBSERVERS) - BY_PLUGINS_ALONE))
def test_what_is_built_in_goes_through_the_same_hooks(name):
    manager = PluginManager(entry_points=[])
    assert manager.entries(name.removeprefix("register_").removesuffix("s"))


def test_the_core_contains_no_model():
    assert PluginManager(entry_points=[]).entries("model") == []


def test_everything_built_in_is_sound_and_says_what_it_is():
    manager = PluginManager(entry_points=[])
    assert [problem for info in manager.plugins for problem in info.problems] == []
    for info in manager.plugins:
        for entry in info.entries:
            assert entry.summary
            assert callable(entry.load())
