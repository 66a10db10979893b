"""A new plugin's package, written from a template: it installs, passes its own tests, and trains."""

import builtins
import importlib.util
import keyword
import re
import shlex
from importlib import resources
from pathlib import Path
from string import Template
from typing import NamedTuple

from harness.discovery.manager import PluginManager
from harness.support.names import did_you_mean

_DESCRIBED = {  # summary, paper, and metrics of the suite
    "exact": ("an autoregressive network with one hidden layer", "Germain et al. 2015, arXiv 1502.03509", '"nll"'),
    "latent": (
        "a variational autoencoder with one stochastic layer", "Kingma & Welling 2014, arXiv 1312.6114",
        '"nll", "negative-elbo", "iwae-50"',
    ),
    "implicit": (
        "a generator that matches moments, without a likelihood", "Li, Swersky & Zemel 2015, arXiv 1502.02761",
        '"fid-pixels-n2000"',
    ),
}  # fmt: skip
KINDS = tuple(_DESCRIBED)

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST = 60
_BASELINE = "uniform"


class NewPluginError(ValueError):
    """A package that cannot be written: a name that cannot be used, or a folder that is in use."""


class NewPlugin(NamedTuple):
    """A package that was written: its folder, its files in it, and the commands to go on with from where we are."""

    folder: Path
    files: tuple[Path, ...]
    next_steps: tuple[str, ...]


def write_plugin(name: str, plugins: PluginManager, *, kind: str = "exact", directory: Path | None = None) -> NewPlugin:
    """Writes the package of a new plugin with one model, in the folder NAME of a directory, else of the current one.

    The name must not clash with what is installed; ``kind`` is ``exact`` for a likelihood, ``latent`` for a bound,
    ``implicit`` for samples alone.
    """
    if kind not in KINDS:
        raise NewPluginError(f"kind {kind!r} is none of {', '.join(KINDS)}{did_you_mean(kind, KINDS)}")
    _check_name(name, plugins)
    folder = Path(name) if directory is None else directory / name
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise NewPluginError(f"{folder} exists, and is no folder: choose another --directory")
    if folder.is_dir() and any(folder.iterdir()):
        raise NewPluginError(f"{folder} exists, and is not empty: choose another name or --directory")
    contents = _render(name, kind, with_baseline=any(entry.name == _BASELINE for entry in plugins.entries("model")))
    for path, text in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    written = folder.as_posix()
    local = written if folder.is_absolute() or written.startswith("..") else f"./{written}"
    suite = shlex.quote(f"{written}/{name}.toml")
    next_steps = (
        f"pip install -e {shlex.quote(f'{local}[test]')}", f"harness audit {name}", f"harness run {suite}",
        f"harness leaderboard {suite}", f"pytest {shlex.quote(written)}",
    )  # fmt: skip
    return NewPlugin(folder, tuple(contents), next_steps)


def package_of(name: str) -> str:
    """Returns the import package of a plugin's name."""
    return f"harness_{name.replace('-', '_')}"


def class_of(name: str) -> str:
    """Returns the name of the model's class."""
    return "".join(part.capitalize() for part in name.split("-"))


def _check_name(name: str, plugins: PluginManager) -> None:
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()).strip("-")[:_LONGEST]
        hint = f"; {better!r} would do" if _NAME.fullmatch(better) else ""
        raise NewPluginError(
            f"{name[:80]!r} is no name of a model: lower-case letters and digits, joined by single hyphens, "
            f"a letter first, at most {_LONGEST}{hint}"
        )
    if any(map(keyword.iskeyword, (name, class_of(name)))) or hasattr(builtins, class_of(name)):
        raise NewPluginError(f"{name!r} means something in Python; {name + '-model'!r} would do")
    for entry in plugins.entries("model"):
        if entry.match(name) is not None:
            raise NewPluginError(f"there is a model {name!r} already, of {plugins.provider_of('model', entry).source}")
    for info in plugins.plugins:
        if info.name == name:
            raise NewPluginError(f"there is a plugin {name!r} already, of {info.source}")
    if (found := importlib.util.find_spec(package := package_of(name))) is not None:
        raise NewPluginError(f"there is a Python package {package!r} already, at {found.origin or 'an unknown place'}")


def _render(name: str, kind: str, *, with_baseline: bool) -> dict[Path, str]:
    """Returns the files' texts by their paths in the folder."""
    package, module = package_of(name), name.replace("-", "_")
    values = dict(zip(("summary", "paper", "metrics"), _DESCRIBED[kind], strict=True)) | {
        "name": name, "module": module, "package": package, "class_name": class_of(name),
        "title": " ".join(part.capitalize() for part in name.split("-")),
        "baseline": f'\n[[models]]\nname = "{_BASELINE}"\n' if with_baseline else "",
    }  # fmt: skip
    sources = {
        Path("pyproject.toml"): "pyproject.toml", Path("README.md"): "README.md", Path(f"{name}.toml"): "suite.toml",
        Path(package, "__init__.py"): "package/__init__.py", Path(package, "model.py"): f"package/{kind}.py",
        Path("tests", f"test_{module}.py"): "tests/test.py",
    }  # fmt: skip
    templates = resources.files("harness.cli") / "templates" / "plugin"
    texts = {path: (templates / f"{source}.template").read_text(encoding="utf-8") for path, source in sources.items()}
    return {path: Template(text).substitute(values).rstrip("\n") + "\n" for path, text in texts.items()}
