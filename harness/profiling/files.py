"""The files of a profile: made of its measurements alone, written, and checked against what is on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from harness.profiling.measurement import Measurement
from harness.profiling.page import READING, machine_section
from harness.profiling.plot import draw_plot
from harness.profiling.tables import Advantage, MachineTables, Scaling
from harness.report.charts import SPEC_ENDING, check_drawings, draw_files, vega_lite
from harness.report.files import differing_files, to_csv
from harness.report.markdown import Document, to_markdown
from harness.support.files import write_atomically
from harness.support.numbers import ten_digits

_INTRODUCTION = "How long it takes to draw images, and what that costs. Figures compare within one machine alone."
_ALWAYS = (
    "fingerprint", "hardware", "label", "model", "weights", "run", "channels", "height", "width", "levels",
    "batch_size", "sampler", "status",
)  # fmt: skip
_MEASURED = {
    "seconds": "median_seconds", "seconds_q25": "", "seconds_q75": "", "rounds": "", "calls_a_round": "calls",
    "images_per_second": "images_per_second", "latency_seconds": "", "forward_seconds": "forward_median_seconds",
    "forward_ratio": "forward_ratio", "sequential_depth": "sequential_depth",
    "network_evaluations": "network_evaluations", "peak_memory_bytes": "peak_memory_bytes",
    "gemm_fraction": "gemm_fraction", "extrapolated_from_passes": "extrapolated_from", "full_passes": "full_passes",
}  # fmt: skip
_SCALING = ("scaling_exponent", "scaling_low", "scaling_high", "scaling_sizes")
_CERTIFICATE = ("certificate", "certificate_entries", "certificate_mismatches", "certificate_within_rounding")
_LAST = ("bits_per_dim", "likelihood_kind", "reason")
COLUMNS = (*_ALWAYS, *_MEASURED, *_SCALING, *_CERTIFICATE, *_LAST)


def values_of(tables: MachineTables, item: Measurement) -> dict[str, Any]:
    """Returns the cells of ``COLUMNS`` of a measurement; what is not known is left out."""
    values = {name: getattr(item, name) for name in (*_ALWAYS, *_LAST)} | {"reason": item.reason or None}
    if (found := item.certificate) is not None:
        counts = (found.status, found.entries, found.mismatches, found.within_rounding)
        values |= zip(_CERTIFICATE, counts, strict=True)
    if item.shown:
        values |= {name: getattr(item, attribute) for name, attribute in _MEASURED.items() if attribute}
        values |= zip(("seconds_q25", "seconds_q75"), item.quartiles_seconds, strict=True)
        values |= {"rounds": len(item.seconds), "latency_seconds": tables.latency_of(item)}
        if (scaling := tables.scaling_of(item)) is not None:
            law, sizes = scaling.seconds, " ".join(map(str, scaling.sizes))
            values |= zip(_SCALING, (law.exponent, law.exponent_low, law.exponent_high, sizes), strict=True)
    return {name: value for name, value in values.items() if value is not None}


def render_profile(title: str, machines: Sequence[MachineTables], *, stem: str, command: str) -> dict[str, bytes]:
    """Returns the files of a profile by name: tables as Markdown, CSV and JSON, and the plot as Vega-Lite.

    ``stem`` is that of the files' names; ``command`` makes them again, and stands in the page's first line.
    """
    plot = draw_plot(title, machines)
    pictures = [] if plot is None else [f"{stem}.svg"]
    sections = tuple(machine_section(tables, () if number else pictures) for number, tables in enumerate(machines))
    page = Document(title, (_INTRODUCTION,), sections, READING)
    rows = [values_of(tables, item) for tables in machines for item in tables.measurements]
    files = {
        f"{stem}.md": to_markdown(page, origin=f"measurements by `{command}`").encode(),
        f"{stem}.csv": to_csv([pd.DataFrame(rows, columns=list(COLUMNS), dtype="object")]).encode(),
        f"{stem}.json": _to_json(title, machines).encode(),
    }
    return files if plot is None else {**files, f"{stem}{SPEC_ENDING}": vega_lite(plot)}


def write_profile(files: dict[str, bytes], folder: Path) -> list[Path]:
    """Writes the files into a folder, and the plot as SVG and PNG as well; returns all of them."""
    for name, content in files.items():
        write_atomically(folder / name, content)
    drawn = [path for name in files if name.endswith(SPEC_ENDING) for path in draw_files(folder / name)]
    return [*(folder / name for name in files), *drawn]


def check_profile(files: dict[str, bytes], folder: Path) -> list[str]:
    """Returns the names of files that are missing or not what the measurements give; of drawings, by their mark alone.

    A drawing's own bytes vary with the version of the library that draws it.
    """
    specs = [(folder / name, content) for name, content in files.items() if name.endswith(SPEC_ENDING)]
    return differing_files(files, folder) + [path.name for spec in specs for path in check_drawings(*spec)]


def _to_json(title: str, machines: Sequence[MachineTables]) -> str:
    parts = [
        {
            "fingerprint": tables.fingerprint, "hardware": tables.hardware, "baseline": tables.baseline,
            "rows": [values_of(tables, item) for item in tables.measurements],
            "growth": [_growth_values(scaling) for scaling in tables.scalings],
            "advantages": [_advantage_values(advantage) for advantage in tables.advantages],
        }
        for tables in machines
    ]  # fmt: skip
    return json.dumps({"title": title, "machines": parts}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _growth_values(scaling: Scaling) -> dict[str, Any]:
    values = asdict(scaling)
    seconds, depth = values.pop("seconds"), values.pop("depth")
    del seconds["power_error"]
    return values | {f"seconds_{name}": value for name, value in seconds.items()} | ({"depth": depth} if depth else {})


def _advantage_values(advantage: Advantage) -> dict[str, Any]:
    item, cached, beside = advantage.measurement, advantage.cached, advantage.cached or advantage.naive
    names = ("label", "sampler", "height", "width", "batch_size", "bits_per_dim", "likelihood_kind")
    return {name: getattr(item, name) for name in names} | {
        "seconds_an_image": ten_digits(item.median_seconds / item.batch_size),
        "over_cached": advantage.over_cached, "over_naive": advantage.over_naive,
        "baseline": getattr(beside, "label", None), "baseline_sampler": getattr(cached, "sampler", None),
        "baseline_bits_per_dim": getattr(beside, "bits_per_dim", None),
        "baseline_likelihood_kind": getattr(beside, "likelihood_kind", None),
    }  # fmt: skip
