"""A new plugin's package, written from a template: it installs, passes its own tests, and trains."""

from __future__ import annotations

import builtins
import importlib.util
import keyword
import re
import shlex
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Literal, get_args

from harness.support.names import did_you_mean

if TYPE_CHECKING:
    from harness.discovery.manager import PluginManager

Kind = Literal["exact", "latent", "implicit"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST = 60
_BASELINE = "uniform"


@dataclass(frozen=True)
class _Described:
    summary: str
    paper: str
    metrics: tuple[str, ...]


_DESCRIBED: dict[Kind, _Described] = {
    "exact": _Described(
        "an autoregressive network with one hidden layer", "Germain et al. 2015, arXiv 1502.03509", ("nll",)
    ),
    "latent": _Described(
        "a variational autoencoder with one stochastic layer",
        "Kingma & Welling 2014, arXiv 1312.6114",
        ("nll", "negative-elbo", "iwae-50"),
    ),
    "implicit": _Described(
        "a generator that matches moments, without a likelihood",
        "Li, Swersky & Zemel 2015, arXiv 1502.02761",
        ("fid-pixels-n2000",),
    ),
}


class NewPluginError(ValueError):
    """A package that cannot be written: a name that cannot be used, or a folder that is in use."""


@dataclass(frozen=True)
class NewPlugin:
    """A package that was written.

    Attributes:
        name: of the model, of the plugin, and of the folder.
        folder: where it is.
        files: what was written, relative to the folder.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]

    @property
    def next_steps(self) -> tuple[str, ...]:
        """Returns the commands to go on with, from the folder in which this one was given."""
        folder = self.folder.as_posix()
        suite = shlex.quote((self.folder / f"{self.name}.toml").as_posix())
        local = folder if self.folder.is_absolute() or folder.startswith("..") else f"./{folder}"
        return (
            f"pip install -e {shlex.quote(local)}",
            f"harness audit {self.name}",
            f"harness run {suite}",
            f"harness leaderboard {suite}",
            f"pytest {shlex.quote(folder)}",
        )


def write_plugin(name: str, plugins: PluginManager, *, kind: str = "exact", directory: Path | None = None) -> NewPlugin:
    """Writes the package of a new plugin with one model.

    Args:
        name: of the model: lower-case words joined by hyphens.
        plugins: what is installed, with which the name must not clash.
        kind: ``exact`` for a likelihood, ``latent`` for a bound, ``implicit`` for samples alone.
        directory: where the folder NAME is made; None takes the current one.

    Raises:
        NewPluginError: the name or the kind cannot be used, or the folder holds something.
    """
    if kind not in KINDS:
        raise NewPluginError(f"kind {kind!r} is none of {', '.join(KINDS)}{did_you_mean(kind, KINDS)}")
    _check_name(name)
    _check_is_free(name, plugins)
    folder = Path(name) if directory is None else directory / name
    _check_folder(folder)
    found = {entry.name for entry in plugins.entries("model")}
    contents = _render(name, kind, with_baseline=_BASELINE in found)
    for path, text in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return NewPlugin(name, folder, tuple(contents))


def package_of(name: str) -> str:
    """Returns the import package of a plugin's name."""
    return f"harness_{name.replace('-', '_')}"


def class_of(name: str) -> str:
    """Returns the name of the model's class."""
    return "".join(part.capitalize() for part in name.split("-"))


def _check_name(name: str) -> None:
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()).strip("-")[:_LONGEST]
        hint = f"; {better!r} would do" if _NAME.fullmatch(better) else ""
        raise NewPluginError(
            f"{name[:80]!r} is no name of a model: lower-case letters and digits, joined by single hyphens, "
            f"a letter first, at most {_LONGEST}{hint}"
        )
    if keyword.iskeyword(class_of(name)) or hasattr(builtins, class_of(name)) or keyword.iskeyword(name):
        raise NewPluginError(f"{name!r} means something in Python; {name + '-model'!r} would do")


def _check_is_free(name: str, plugins: PluginManager) -> None:
    for entry in plugins.entries("model"):
        if entry.match(name) is not None:
            raise NewPluginError(f"there is a model {name!r} already, of {plugins.provider_of('model', entry).source}")
    for info in plugins.plugins:
        if info.name == name:
            raise NewPluginError(f"there is a plugin {name!r} already, of {info.source}")
    package = package_of(name)
    found = importlib.util.find_spec(package)
    if found is not None:
        raise NewPluginError(f"there is a Python package {package!r} already, at {found.origin or 'an unknown place'}")


def _check_folder(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise NewPluginError(f"{folder} exists, and is no folder: choose another --directory")
    if folder.is_dir() and any(folder.iterdir()):
        raise NewPluginError(f"{folder} exists, and is not empty: choose another name or --directory")


def _render(name: str, kind: Kind, *, with_baseline: bool) -> dict[Path, str]:
    described, package, module = _DESCRIBED[kind], package_of(name), name.replace("-", "_")
    values = {
        "name": name,
        "module": module,
        "package": package,
        "class_name": class_of(name),
        "title": " ".join(part.capitalize() for part in name.split("-")),
        "summary": described.summary,
        "paper": described.paper,
        "metrics": ", ".join(f'"{metric}"' for metric in described.metrics),
        "baseline": f'\n[[models]]\nname = "{_BASELINE}"\n' if with_baseline else "",
    }
    sources = {
        Path("pyproject.toml"): "pyproject.toml",
        Path("README.md"): "README.md",
        Path(f"{name}.toml"): "suite.toml",
        Path(package, "__init__.py"): "package/__init__.py",
        Path(package, "model.py"): f"package/{kind}.py",
        Path("tests", f"test_{module}.py"): "tests/test.py",
    }
    templates = resources.files("harness.testing") / "templates" / "plugin"
    texts = {path: (templates / f"{source}.template").read_text(encoding="utf-8") for path, source in sources.items()}
    return {path: Template(text).substitute(values).rstrip("\n") + "\n" for path, text in texts.items()}
