"""What is on the documentation site beside docs/: README, boards, the plugins' READMEs, and the reference.

Pages keep the places that they have in the repository, so that a link between two of them works on the site and in the
repository alike. The reference is made from the list of public names in ``harness/__init__.py``: a comment there begins
a page. mkdocs calls the functions whose names begin with ``on_``.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
TAKEN = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/site.css",
    "docs/**/*.md",
    "harness/auditing/checks.md",
    "docs/**/*.svg",
    "docs/**/*.png",
    "leaderboards/*/*.md",
    "leaderboards/**/*.svg",
    "leaderboards/**/*.png",
    "plugins/*/README.md",
    "plugins/*/pictures/*.png",
    "plugins/*/pictures/*.svg",
]


def public_names() -> dict[str, list[str]]:
    """Returns the public names of ``harness`` and of ``harness.testing``, in groups, each under its heading."""
    text = (ROOT / "harness" / "__init__.py").read_text(encoding="utf-8")
    lines = text.splitlines()
    block = next(node for node in ast.parse(text).body if isinstance(node, ast.If))
    groups: dict[str, list[str]] = {}
    last = block.lineno
    for node in block.body:
        for line in lines[last : node.lineno]:
            if line.strip().startswith("#"):
                heading = line.strip(" #")
                groups[heading[0].upper() + heading[1:]] = []
        last = node.lineno
        if isinstance(node, ast.ImportFrom):
            groups[list(groups)[-1]] += [f"harness.{alias.name}" for alias in node.names]
    testing = ast.parse((ROOT / "harness" / "testing" / "__init__.py").read_text(encoding="utf-8"))
    [names] = [
        node.value
        for node in testing.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    groups["Tests of a plugin"] = [f"harness.testing.{name}" for name in ast.literal_eval(names)]
    return groups


def reference() -> dict[str, str]:
    """Returns the path of each page of the reference, with its Markdown."""
    pages = {}
    for heading, names in public_names().items():
        name = "-".join(heading.lower().replace(",", "").replace(":", "").replace("'", "").split())
        pages[f"docs/reference/{name}.md"] = "\n\n".join([f"# {heading}", *(f"::: {name}" for name in names)])
    return pages


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts boards, plugins and reference into the navigation."""
    suites = sorted(
        {path.parent for name in ("records", "measurements") for path in ROOT.glob(f"leaderboards/*/{name}.jsonl")},
        key=lambda suite: (suite.name != "first", suite.name),
    )
    entries = {
        "Boards": [{suite.name: [{path.stem: _name(path)} for path in sorted(suite.glob("*.md"))]} for suite in suites],
        "Models": [{path.parent.name: _name(path)} for path in sorted(ROOT.glob("plugins/*/README.md"))],
        "Reference": list(reference()),
    }
    assert config.nav is not None
    for part in config.nav:
        if isinstance(part, dict) and (heading := next(iter(part))) in entries:
            part[heading] = entries[heading]
    return config


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Takes pages and pictures from the whole repository, in place of docs/ alone."""
    from mkdocs.structure.files import File

    theme = [file for file in files if file.src_dir != config.docs_dir]
    found = sorted({_name(path) for pattern in TAKEN for path in ROOT.glob(pattern)})
    taken = (File(name, str(ROOT), config.site_dir, config.use_directory_urls) for name in found)
    made = (File.generated(config, name, content=text) for name, text in reference().items())
    return type(files)([*theme, *taken, *made])
