"""The files of a profile, a page for people among them: made of its measurements alone, written, and checked."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from harness.boards.table import Table
from harness.profiling import comparison
from harness.profiling.comparison import bits_of, number, or_nothing, paragraphs, times
from harness.profiling.overtaking import overtakings
from harness.profiling.plot import draw_plot
from harness.profiling.profile import Measurement
from harness.profiling.tables import LEAST_SIZES, WIDEST, MachineTables, Scaling
from harness.report.charts import SPEC_ENDING, check_drawings, draw_files, vega_lite
from harness.report.files import differing_files, to_csv
from harness.report.markdown import Section, to_markdown
from harness.support.files import write_atomically
from harness.support.numbers import NOTHING, load_words, memory, seconds, significant, ten_digits

_INTRODUCTION = "How long it takes to draw images, and what that costs. Figures compare within one machine alone."
COLUMNS = (
    "fingerprint", "hardware", "label", "model", "weights", "run", "channels", "height", "width", "levels",
    "batch_size", "sampler", "status", "seconds", "seconds_q25", "seconds_q75", "rounds", "calls_a_round",
    "images_per_second", "latency_seconds", "forward_seconds", "forward_ratio", "sequential_depth",
    "network_evaluations", "peak_memory_bytes", "gemm_fraction", "extrapolated_from_passes", "full_passes",
    "scaling_exponent", "scaling_low", "scaling_high", "scaling_sizes", "certificate", "certificate_entries",
    "certificate_mismatches", "certificate_within_rounding", "bits_per_dim", "likelihood_kind", "reason",
)  # fmt: skip
_READING = """
seconds: of one call that draws the whole batch, the median over rounds and the quartiles in brackets. In each round
  every sampler of that size and batch size is timed in turn, with the same noise.
latency: seconds until a single image is there, from batch size 1.
of a forward pass: seconds over those of one pass of the model's own network on as many images, in the same rounds.
  Drawing each entry once, with nothing computed twice, needs the arithmetic of one such pass.
of the GEMM peak: operations of that one pass over seconds, as a part of the fastest float32 matrix product that this
  machine was measured to make with as many threads.
depth: network evaluations that had to wait for one another; evaluations: all of them, of whatever part of the
  network.
growth: the exponent of seconds in the number of pixels, sizes of 16 and more, with its 95 % interval; left out where
  it stands on fewer than three sizes, or its interval is wider than 1, which says nothing.
certificate: with the same noise, one forward pass confirms that every entry of every image that was timed is the one
  that naive sampling would have drawn; entries whose two best values are within 0.00001 nats of each other may differ
  by rounding and are counted. A sampler that fails is not shown. The naive raster is the definition.
extrapolated: a naive raster that exceeds the time allowed is timed for its first full passes, and multiplied.
weights: as initialised, unless a run is named. The time of a fixed-point iteration depends on them, that of the other
  samplers does not.
"""
READING = paragraphs(_READING)
_LAW = "seconds ~ pixels^b, b"
_GROWTH_NOTE = f"""
Left out (–): an exponent whose 95 % interval is not narrower than {WIDEST:g}, which says nothing, and every law on
  fewer than {LEAST_SIZES} sizes.
"""


def values_of(tables: MachineTables, item: Measurement) -> dict[str, Any]:
    """Returns the cells of ``COLUMNS`` of a measurement; what is not known is left out."""
    values = {name: getattr(item, name) for name in (*COLUMNS[:13], *COLUMNS[-3:-1])} | {"reason": item.reason or None}
    if item.certificate is not None:
        values |= {f"certificate_{name}": value for name, value in item.certificate}
        values["certificate"] = values.pop("certificate_status")
    if item.shown:
        taken, (low, high), forward, fraction = item.median_seconds, item.quartiles_seconds, None, None
        if item.forward_seconds:
            forward = ten_digits(median(item.forward_seconds))
        if item.forward_flops is not None and item.gemm_flops_per_second is not None:
            fraction = ten_digits(item.forward_flops / taken / item.gemm_flops_per_second)
        values |= {
            "seconds": taken, "seconds_q25": low, "seconds_q75": high, "rounds": len(item.seconds),
            "calls_a_round": item.calls, "images_per_second": ten_digits(item.batch_size / taken),
            "latency_seconds": tables.latency_of(item), "forward_seconds": forward,
            "forward_ratio": forward and ten_digits(taken / forward), "sequential_depth": item.sequential_depth,
            "network_evaluations": item.network_evaluations, "peak_memory_bytes": item.peak_memory_bytes,
            "gemm_fraction": fraction, "extrapolated_from_passes": item.extrapolated_from,
            "full_passes": item.full_passes,
        }  # fmt: skip
        if (scaling := tables.scaling_of(item)) is not None and scaling.seconds is not None:
            law, sizes = scaling.seconds, " ".join(map(str, scaling.sizes))
            values |= {"scaling_exponent": law.exponent, "scaling_sizes": sizes}
            values |= {"scaling_low": law.exponent_low, "scaling_high": law.exponent_high}
    return {name: value for name, value in values.items() if value is not None}


def render_profile(title: str, machines: Sequence[MachineTables], *, stem: str, command: str) -> dict[str, bytes]:
    """Returns the files by name: tables as Markdown, CSV and JSON, and the plot; ``command`` makes them again."""
    plot = draw_plot(title, machines)
    pictures = [] if plot is None else [f"{stem}.svg"]
    sections = [machine_section(tables, () if number else pictures) for number, tables in enumerate(machines)]
    page = to_markdown(title, _INTRODUCTION, sections, READING, origin=f"measurements by `{command}`")
    parts: list[dict[str, Any]] = [
        {
            "fingerprint": tables.fingerprint, "hardware": tables.hardware, "baseline": tables.baseline,
            "rows": [values_of(tables, item) for item in tables.measurements],
            "growth": [_growth_values(scaling) for scaling in tables.scalings],
            "advantages": [*map(comparison.advantage_values, tables.advantages)],
            "overtakings": [*map(comparison.overtaking_values, overtakings(tables))],
        }
        for tables in machines
    ]  # fmt: skip
    written = json.dumps({"title": title, "machines": parts}, indent=1, sort_keys=True, ensure_ascii=False)
    rows = [row for part in parts for row in part["rows"]]
    files = {
        f"{stem}.md": page.encode(),
        f"{stem}.csv": to_csv([pd.DataFrame(rows, columns=list(COLUMNS), dtype="object")]).encode(),
        f"{stem}.json": f"{written}\n".encode(),
    }
    return files if plot is None else {**files, f"{stem}{SPEC_ENDING}": vega_lite(plot)}


def write_profile(files: dict[str, bytes], folder: Path) -> list[Path]:
    """Writes the files into a folder, and the plot as SVG and PNG as well; returns all of them."""
    for name, content in files.items():
        write_atomically(folder / name, content)
    drawn = [path for name in files if name.endswith(SPEC_ENDING) for path in draw_files(folder / name)]
    return [*(folder / name for name in files), *drawn]


def check_profile(files: dict[str, bytes], folder: Path) -> list[str]:
    """Returns the names of files that are not what the measurements give; drawings vary, and go by their mark alone."""
    specs = [(folder / name, content) for name, content in files.items() if name.endswith(SPEC_ENDING)]
    return differing_files(files, folder) + [path.name for spec in specs for path in check_drawings(*spec)]


def _growth_values(scaling: Scaling) -> dict[str, Any]:
    values = {name: value for name, value in asdict(scaling).items() if value is not None}
    law = {f"seconds_{name}": value for name, value in values.pop("seconds", {}).items() if name != "power_error"}
    return values | law


def machine_section(tables: MachineTables, pictures: Sequence[str] = ()) -> Section:
    """Returns the tables of one machine: the advantage over the baseline, each size and batch size, and the growth."""
    parts, groups = [], dict[tuple[int, ...], list[Measurement]]()
    if tables.advantages:
        over = _table(map(comparison.advantage_cells, tables.advantages), "model", "sampler", "size", "the fastest")
        overtaken = _table(map(comparison.overtaking_cells, overtakings(tables)), *comparison.OVERTAKING_TEXTS)
        said, notes = comparison.headline(tables), comparison.ADVANTAGE_NOTES
        parts.append(Section("Against the fastest certified sampler", said, over, notes))
        said, notes = comparison.who_overtakes(tables), comparison.OVERTAKING_NOTES
        parts.append(Section("Where a model overtakes", said, overtaken, notes))
    for item in tables.measurements:
        groups.setdefault(item.setting, []).append(item)
    for (channels, height, width, levels, batch_size), items in groups.items():
        table = _table((speed_cells(tables, item) for item in items if item.shown), "model", "sampler", "certificate")
        notes = tuple(f"{item.label}, {item.sampler}: {item.status}: {item.reason}" for item in items if not item.shown)
        title = f"{height}x{width}x{channels}, {levels} levels, batch {batch_size}"
        parts.append(Section(title, "", table, notes))
    if tables.scalings:
        growths = [
            {
                "model": found.label, "sampler": found.sampler, "batch": str(found.batch_size),
                "sizes": " ".join(map(str, found.sizes)), _LAW: or_nothing(found.seconds, str),
                "depth": or_nothing(found.depth, str),
            }
            for found in tables.scalings
        ]  # fmt: skip
        growth = _table(growths, "model", "sampler", "sizes", _LAW, "depth")
        parts.append(Section("Growth with the number of pixels", "", growth, notes=paragraphs(_GROWTH_NOTE)))
    lead = f"{tables.hardware} (fingerprint {tables.fingerprint})."
    shown_pictures = [("seconds of a call against pixels", name) for name in pictures]
    return Section(tables.hardware, lead, None, (), parts, shown_pictures)


def outcome_line(item: Measurement) -> str:
    """Returns a measurement in a line, for progress."""
    what = f"{item.label}, {item.sampler}, {item.size}, batch {item.batch_size}"
    if not item.shown:
        return f"{what}: {item.status}: {item.reason}"
    how = "" if item.extrapolated_from is None else f", extrapolated from {item.extrapolated_from} passes"
    loaded = f", {words}" if (words := load_words(item.others_load)) else ""
    return f"{what}: {seconds(item.median_seconds)}{how}{loaded}; {_certificate(item)}"


def _table(rows: Iterable[dict[str, str]], *texts: str) -> Table | None:
    """Cells by the headers of their columns, which are aligned right but for those of ``texts``; None without a row."""
    lines = list(rows)
    headers = list(lines[0]) if lines else []
    numeric = [header for header in headers if header not in texts]
    return Table.of_texts(headers, [list(line.values()) for line in lines], numeric=numeric) if lines else None


def speed_cells(tables: MachineTables, item: Measurement) -> dict[str, str]:
    """Returns the cells of a measurement that has a figure."""
    values, scaling = values_of(tables, item), tables.scaling_of(item)
    spread = " – ".join(map(seconds, item.quartiles_seconds)) if len(item.seconds) > 1 else "one round"
    taken = f"{seconds(item.median_seconds)} ({spread})"
    if item.extrapolated_from is not None:
        taken += f", extrapolated from {item.extrapolated_from} of {item.full_passes} passes"
    if not item.complete:
        taken += f", interrupted after {len(item.seconds)} rounds"
    if words := load_words(item.others_load):
        taken += f", {words}"
    return {
        "model": item.label, "sampler": item.sampler, "seconds (quartiles)": taken,
        "images/s": significant(values["images_per_second"]),
        "latency": or_nothing(values.get("latency_seconds"), seconds),
        "of a forward pass": or_nothing(values.get("forward_ratio"), times),
        "depth": or_nothing(item.sequential_depth, number),
        "evaluations": or_nothing(item.network_evaluations, number),
        "peak memory": ("≥ " if item.memory_cut_off else "") + or_nothing(item.peak_memory_bytes, memory),
        "of the GEMM peak": or_nothing(values.get("gemm_fraction"), lambda part: f"{100 * part:.2g} %"),
        "growth": or_nothing(scaling and scaling.seconds, str), "bits/dim": bits_of(item),
        "certificate": _certificate(item),
    }  # fmt: skip


def _certificate(item: Measurement) -> str:
    """What the certificate says, in a few words."""
    found = item.certificate
    if found is None:
        return NOTHING
    if found.status != "holds":
        return "is the definition" if found.status == "by definition" else found.status
    rounding = f", {found.within_rounding} within rounding" if found.within_rounding else ""
    return f"holds: {found.entries:,} entries{rounding}"
