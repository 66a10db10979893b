"""The files of a site: made one after the other, and written into a folder, or compared with what lies there."""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.boards.audits import in_words
from harness.interface.board import Cell
from harness.report import pages
from harness.report.grid import grid_of
from harness.report.latex import escape
from harness.report.site.charts import forest, paretos
from harness.report.site.curves import learning_curves, share_chart
from harness.report.site.suite import SuitePages
from harness.support import numbers
from harness.support.names import printable

_TEMPLATES = Path(__file__).parent / "templates"
_STATIC = ("style.css", "site.js")
_MARK = b'<meta name="generator" content="genharness report">'


def site_files(suites: Iterable[SuitePages], *, live: str = "") -> Iterator[tuple[str, bytes]]:
    """Yields path and content of every file of a site, suite by suite; the same records give the same bytes.

    Pages that are served have the stamp ``live``, by which they find out that they are no longer up to date.
    """
    yield from ((name, _static(name).encode()) for name in _STATIC)
    made = list[SuitePages]()
    for suite in suites:
        if suite.id.lower() in [other.id.lower() for other in made]:
            raise ValueError(f"two suites would have the folder {suite.id!r}: build a site of each")
        yield f"{suite.id}/index.html", _rendered("suite.html", "../", live, suite=suite)
        for row in suite.leaderboard.rows:
            yield f"{suite.id}/{suite.page_of(row)}", _rendered("row.html", "../../", live, suite=suite, row=row)
        yield from ((f"{suite.id}/{name}", download.read()) for name, download in suite.downloads.items())
        yield f"{suite.id}/cited.bib", _rendered("cited.bib", "", suite=suite)
        yield from ((f"{suite.id}/{path}", content) for path, content in sorted(suite.pictures.items()))
        made.append(suite)
    yield "index.html", _rendered("index.html", "", live, suites=made)


def one_file(suite: SuitePages) -> bytes:
    """Returns the pages of a suite, which is alone, as one that needs nothing beside it."""
    return _rendered("suite.html", "", suite=suite)


def write_files(files: Iterable[tuple[str, bytes]], folder: Path, *, check: bool, whole: bool) -> tuple[int, list[str]]:
    """Writes what differs, or with ``check`` nothing; returns how many files there are, and the names of what differs.

    In a ``whole`` site pages of what is not there differ too, and are removed. What is cut off is written again.
    """
    names, differing = set[str](), list[str]()
    for name, content in files:
        names.add(name)
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            differing.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    for path in sorted([*folder.glob("*/index.html"), *folder.glob("*/rows/*.html")]) if whole else ():
        if (name := path.relative_to(folder).as_posix()) not in names and _MARK in path.read_bytes():
            differing.append(name)
            if not check:
                path.unlink()
    return len(names), differing


def _rendered(template: str, root: str, live: str = "", **values: Any) -> bytes:
    is_alone = "suite" in values and values["suite"].is_alone
    page = _environment().get_template(template)
    allowed = policy(is_alone=is_alone, is_live=live != "")
    return page.render(root=root, is_alone=is_alone, live=live, policy=allowed, **values).encode()


@cache
def _static(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def policy(*, is_alone: bool, is_live: bool) -> str:
    """Returns what a page may do: show images, and use its own style and script, those of one file by their digests.

    A page that is served may ask where it comes from whether it is up to date.
    """
    digests = [base64.b64encode(hashlib.sha256(_static(name).encode()).digest()).decode() for name in _STATIC]
    style, script = (f"'sha256-{digest}'" if is_alone else "'self'" for digest in digests)
    own = f"style-src {style}; script-src {script}; img-src 'self' data:" + "; connect-src 'self'" * is_live
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=_shown,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {name: getattr(numbers, name) for name in ("count", "seconds", "short", "significant")}
    made.filters |= {
        "number": _number,
        "latex": escape,
        "sha256": lambda it: hashlib.sha256(it).hexdigest(),
    }
    made.globals |= {name: getattr(pages, name) for name in ("data_of", "sizes_of")}
    made.globals |= {"curves_of": learning_curves, "shares_of": share_chart}
    made.globals |= {"forest_of": forest, "paretos": paretos, "grid_of": grid_of, "in_words": in_words}
    made.globals["inline"] = lambda name: Markup(_static(name))
    return made


def _shown(value: Any) -> Any:
    """What a template prints: texts without control characters; the template's own parts as they are."""
    return printable(value) if type(value) is str else value


def _number(cell: Cell | None) -> float | None:
    """What a cell is sorted by, if it is a number."""
    values = [] if cell is None else [cell.value, *cell.more.values()]
    return next((float(value) for value in values if isinstance(value, int | float)), None)
