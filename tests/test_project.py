"""What the project says of itself is true: links lead somewhere, versions agree, the reference is complete."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest

import harness
import harness.testing

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("harness/*/*.md"),
        *ROOT.glob("plugins/*/README.md"),
        *ROOT.glob("leaderboards/*/*.md"),
    ]
)
BLOCK = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)
CODE = re.compile(rf"{BLOCK.pattern}|`[^`\n]+`", flags=BLOCK.flags)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|src=\"([^\"]+)\"")


def anchors(text):
    """The names that a code host gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_to_what_is_there(page):
    text = page.read_text(encoding="utf-8")
    broken = []
    for match in LINK.finditer(CODE.sub("", text)):
        link = match[1] or match[2]
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / unquote(path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert not broken


def test_the_changelog_and_the_citation_have_the_version_of_the_package():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = re.findall(r"^## (\d\S*) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    citation = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    assert [changelog[0], *citation] == [version, version]


def public_names():
    """The names on the pages of the reference, as docs/site.py makes them."""
    spec = importlib.util.spec_from_file_location("site_of_the_documentation", ROOT / "docs" / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [name for group in module.public_names().values() for name in group]


def test_the_reference_has_every_public_name_once():
    public = [f"harness.{name}" for name in harness.__all__]
    public += [f"harness.testing.{name}" for name in harness.testing.__all__]
    assert sorted(public_names()) == sorted(public)


def test_the_architecture_names_every_room_and_modules_that_are_there():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = dict(re.findall(r"^\| `(\w+)/` \|.*\|(.*)\|$", text, flags=re.MULTILINE))
    folders = {path.parent.name for path in ROOT.glob("harness/*/__init__.py")}
    named = {f"{room}/{module}.py" for room, modules in rooms.items() for module in re.findall(r"`(\w+)`", modules)}
    assert set(rooms) == folders
    assert [name for name in sorted(named) if not (ROOT / "harness" / name).exists()] == []


def test_the_top_of_the_core_is_a_few_files_and_rooms_that_say_what_they_are_for():
    entries = [path for path in (ROOT / "harness").iterdir() if path.name != "__pycache__"]
    rooms = [path for path in entries if path.is_dir()]
    assert len(entries) <= 20
    assert len(entries) - len(rooms) <= 8
    for room in rooms:
        assert ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))), room


def test_every_folder_with_code_is_a_package_that_the_import_contract_sees():
    folders = {path.parent for path in (ROOT / "harness").rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []
