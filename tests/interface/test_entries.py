"""Entries: names, families of names, and targets that are loaded when they are used."""

from __future__ import annotations

import collections
import sys

import pytest

from harness.interface.entries import DatasetEntry, Entry, EntryError, ExecutorEntry, MetricEntry, ModelEntry


class Thing:
    pass


@pytest.mark.parametrize("name", ["made", "mnist-static", "iwae-5000", "8bit", "a-b-c"])
def test_words_joined_by_single_hyphens_are_names(name):
    assert ModelEntry(name, Thing).name == name


@pytest.mark.parametrize("name", ["", "Made", "made_1", "-made", "made-", "a--b", "a b", "mädé", "made\n", None, 3])
def test_any_other_name_is_refused_by_kind_and_value(name):
    with pytest.raises(EntryError) as caught:
        ModelEntry(name, Thing)
    assert f"model name {name!r} is not made of lower-case letters" in str(caught.value)


@pytest.mark.parametrize("target", ["", "module", "module:", ":Name", "module:Name:More", "1module:Name", "a b:Name"])
def test_a_target_of_another_form_is_refused_by_name_and_value(target):
    with pytest.raises(EntryError) as caught:
        MetricEntry("nll", target)
    assert f"metric 'nll': target {target!r} " in str(caught.value)
    assert "of the form 'package.module:Attribute'" in str(caught.value)


def test_a_target_that_cannot_be_called_is_refused():
    with pytest.raises(EntryError, match="dataset 'digits': target 3 is neither"):
        DatasetEntry("digits", 3)


@pytest.mark.parametrize("field", ["summary", "paper", "pattern", "usage"])
def test_a_text_that_is_none_is_refused_by_its_field(field):
    with pytest.raises(EntryError, match=rf"model 'made': {field} \['x'\] is not a string"):
        ModelEntry("made", Thing, **{field: ["x"]})


def test_a_pattern_that_does_not_compile_is_refused():
    with pytest.raises(EntryError, match=r"metric 'iwae': pattern 'iwae-\(' *: .*unterminated"):
        MetricEntry("iwae", Thing, pattern="iwae-(")


def test_a_string_target_is_imported_when_it_is_loaded_and_not_before(tmp_path, monkeypatch):
    (tmp_path / "late_module_for_entries.py").write_text("class Late:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = ModelEntry("late", "late_module_for_entries:Late")
    assert (entry.module, entry.attribute) == ("late_module_for_entries", "Late")
    assert "late_module_for_entries" not in sys.modules
    try:
        assert entry.load() is sys.modules["late_module_for_entries"].Late
    finally:
        sys.modules.pop("late_module_for_entries", None)


def test_an_object_target_is_loaded_as_it_is():
    entry = ModelEntry("thing", Thing)
    assert entry.load() is Thing
    assert (entry.module, entry.attribute) == (__name__, "Thing")


def test_a_module_that_is_absent_is_named_with_the_entry():
    with pytest.raises(EntryError, match="model 'made': cannot import 'no_such_module_here': ModuleNotFoundError"):
        ModelEntry("made", "no_such_module_here:MADE").load()


@pytest.mark.parametrize("statement", ["raise RuntimeError('broken')", "raise SystemExit(3)", "1 +"])
def test_a_module_that_fails_at_import_is_named_with_its_error(tmp_path, monkeypatch, statement):
    (tmp_path / "broken_module_for_entries.py").write_text(statement)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        EntryError,
        match=r"executor 'x': cannot import 'broken_module_for_entries': (RuntimeError|it called sys.exit|SyntaxError)",
    ):
        ExecutorEntry("x", "broken_module_for_entries:X").load()


def test_an_attribute_that_is_absent_is_named_with_its_module():
    with pytest.raises(EntryError, match="model 'made': module 'collections' has no attribute 'Missing'"):
        ModelEntry("made", "collections:Missing").load()
    assert ModelEntry("made", "collections:Counter").load() is collections.Counter


def test_an_entry_without_a_pattern_matches_its_name_alone():
    entry = MetricEntry("nll", Thing)
    assert entry.match("nll") == {}
    assert entry.match("nll-2") is None
    assert entry.display_name == "nll"


def test_a_family_of_names_passes_the_named_groups_on():
    entry = MetricEntry("iwae", Thing, pattern=r"iwae-(?P<k>\d+)(?:-(?P<order>alpha))?", usage="iwae-K")
    assert entry.match("iwae-5000") == {"k": "5000"}
    assert entry.match("iwae-5-alpha") == {"k": "5", "order": "alpha"}
    assert entry.display_name == "iwae-K"


@pytest.mark.parametrize("name", ["iwae", "iwae-", "iwae-5x", "my-iwae-5", "iwae-5\n"])
def test_a_family_matches_whole_names_only(name):
    assert MetricEntry("iwae", Thing, pattern=r"iwae-(?P<k>\d+)").match(name) is None


def test_every_kind_of_entry_says_which_it_is():
    kinds = {cls.kind for cls in (DatasetEntry, ModelEntry, MetricEntry, ExecutorEntry)}
    assert kinds == {"dataset", "model", "metric", "executor"}
    assert all(issubclass(cls, Entry) for cls in (DatasetEntry, ModelEntry, MetricEntry, ExecutorEntry))
