"""A profile for people: the tables of each machine as a page of Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from harness.boards.table import Table
from harness.profiling.measurement import Measurement
from harness.profiling.tables import Advantage, Growth, MachineTables, PowerLaw, Scaling
from harness.report.markdown import Picture, Section
from harness.support.numbers import KIND_SIGNS, NOTHING, fixed, memory, seconds, short, significant

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
growth: the exponent of seconds in the number of pixels, sizes of 16 and more, with its 95 % interval; two sizes give
  no interval.
certificate: with the same noise, one forward pass confirms that every entry of every image that was timed is the one
  that naive sampling would have drawn; entries whose two best values are within 0.00001 nats of each other may differ
  by rounding and are counted. A sampler that fails is not shown. The naive raster is the definition.
extrapolated: a naive raster that exceeds the time allowed is timed for its first full passes, and multiplied.
weights: as initialised, unless a run is named. The time of a fixed-point iteration depends on them, that of the other
  samplers does not.
"""
READING = tuple(" ".join(part.split()) for part in re.split(r"\n(?=\S)", _READING.strip()))
_LAW = "seconds ~ pixels^b, b"
_ADVANTAGE_NOTES = (
    "The advantage over cached is the one to quote: neither computes anything twice.",
    "The advantage over naive also holds what caching alone gives.",
    "Speed is not all that differs: bits a dimension, where both are trained, are what each model pays.",
)


def machine_section(tables: MachineTables, pictures: Sequence[str] = ()) -> Section:
    """Returns the tables of one machine: the advantage over the baseline, each size and batch size, and the growth."""
    parts, groups = [], dict[tuple[int, ...], list[Measurement]]()
    if tables.advantages:
        over = _table(map(_advantage_cells, tables.advantages), "model", "sampler", "size")
        parts.append(Section("Advantage over the baseline", headline(tables), over, notes=_ADVANTAGE_NOTES))
    for item in tables.measurements:
        groups.setdefault(item.setting, []).append(item)
    for (channels, height, width, levels, batch_size), items in groups.items():
        table = _table((speed_cells(tables, item) for item in items if item.shown), "model", "sampler", "certificate")
        notes = tuple(f"{item.label}, {item.sampler}: {item.status}: {item.reason}" for item in items if not item.shown)
        title = f"{height}x{width}x{channels}, {levels} levels, batch {batch_size}"
        parts.append(Section(title, "", table, notes))
    if tables.scalings:
        growth = _table(map(_growth_cells, tables.scalings), "model", "sampler", "sizes", _LAW, "depth")
        parts.append(Section("Growth with the number of pixels", "", growth))
    lead = f"{tables.hardware} (fingerprint {tables.fingerprint})."
    shown_pictures = tuple(Picture("seconds of a call against pixels", name) for name in pictures)
    return Section(tables.hardware, lead, None, (), tuple(parts), shown_pictures)


def outcome_line(item: Measurement) -> str:
    """Returns a measurement in a line, for progress."""
    what = f"{item.label}, {item.sampler}, {_size(item)}, batch {item.batch_size}"
    if not item.shown:
        return f"{what}: {item.status}: {item.reason}"
    how = "" if item.extrapolated_from is None else f", extrapolated from {item.extrapolated_from} passes"
    return f"{what}: {seconds(item.median_seconds)}{how}; {_certificate(item)}"


def headline(tables: MachineTables) -> str:
    """Returns the advantage over the cached baseline at the largest setting, of trained models if any are."""

    def weight(found: Advantage) -> tuple[Any, ...]:
        item = found.measurement
        return (item.weights == "trained", item.pixels, item.batch_size, item.default, found.over_cached)

    found = max((found for found in tables.advantages if found.cached is not None), key=weight, default=None)
    if found is None or found.cached is None or found.over_cached is None:
        return ""
    item, cached = found.measurement, found.cached
    text = (
        f"At {_size(item)}, batch {item.batch_size}, {item.label} ({item.sampler}) draws "
        f"{_times(found.over_cached)} as fast as {cached.label} ({cached.sampler})"
    )
    if found.over_naive is not None:
        text += f", and {_times(found.over_naive)} as fast as its naive raster"
    if item.bits_per_dim is not None and cached.bits_per_dim is not None:
        text += f"; it needs {_bits(item)} bits a dimension, {cached.label} {_bits(cached)}"
    return text + "."


def _table(rows: Iterable[dict[str, str]], *texts: str) -> Table | None:
    """Cells by the headers of their columns, which are aligned right but for those of ``texts``; None without a row."""
    lines = list(rows)
    headers = list(lines[0]) if lines else []
    numeric = [header for header in headers if header not in texts]
    return Table.of_texts(headers, [list(line.values()) for line in lines], numeric=numeric) if lines else None


def _advantage_cells(found: Advantage) -> dict[str, str]:
    item = found.measurement
    return {
        "model": item.label, "sampler": item.sampler, "size": _size(item), "batch": str(item.batch_size),
        "seconds an image": seconds(item.median_seconds / item.batch_size),
        "over cached": _cell(found.over_cached, _times), "over naive": _cell(found.over_naive, _times),
        "depth": _cell(item.sequential_depth, number), "bits/dim": _bits(item),
        "baseline's bits/dim": _bits(found.cached or found.naive),
    }  # fmt: skip


def speed_cells(tables: MachineTables, item: Measurement) -> dict[str, str]:
    """Returns the cells of a measurement that has a figure."""
    scaling = tables.scaling_of(item)
    spread = " – ".join(map(seconds, item.quartiles_seconds)) if len(item.seconds) > 1 else "one round"
    taken = f"{seconds(item.median_seconds)} ({spread})"
    if item.extrapolated_from is not None:
        taken += f", extrapolated from {item.extrapolated_from} of {item.full_passes} passes"
    if not item.complete:
        taken += f", interrupted after {len(item.seconds)} rounds"
    return {
        "model": item.label, "sampler": item.sampler, "seconds (quartiles)": taken,
        "images/s": significant(item.images_per_second), "latency": _cell(tables.latency_of(item), seconds),
        "of a forward pass": _cell(item.forward_ratio, _times), "depth": _cell(item.sequential_depth, number),
        "evaluations": _cell(item.network_evaluations, number),
        "peak memory": ("≥ " if item.memory_cut_off else "") + _cell(item.peak_memory_bytes, memory),
        "of the GEMM peak": _cell(item.gemm_fraction, lambda part: f"{100 * part:.2g} %"),
        "growth": _cell(scaling and scaling.seconds, exponent), "bits/dim": _bits(item),
        "certificate": _certificate(item),
    }  # fmt: skip


def _growth_cells(found: Scaling) -> dict[str, str]:
    return {
        "model": found.label, "sampler": found.sampler, "batch": str(found.batch_size),
        "sizes": " ".join(map(str, found.sizes)), _LAW: exponent(found.seconds), "depth": _cell(found.depth, depth_law),
    }  # fmt: skip


def exponent(law: PowerLaw) -> str:
    """An exponent with its interval."""
    if law.exponent_low is None or law.exponent_high is None:
        return f"{fixed(law.exponent, 2)} (two sizes)"
    return f"{fixed(law.exponent, 2)} [{fixed(law.exponent_low, 2)}, {fixed(law.exponent_high, 2)}]"


def depth_law(law: Growth) -> str:
    """How a depth grows: by the nearer law, or by both where they cannot be told apart."""
    sign, intercept = "-" if law.intercept < 0 else "+", short(abs(law.intercept))
    logarithm = f"{short(law.slope_per_doubling)} log2(pixels) {sign} {intercept}"
    power = f"pixels^{exponent(law)}"
    if law.nearer is None:
        return f"{power} or {logarithm}"
    text, error = (power, law.power_error) if law.nearer == "power" else (logarithm, law.logarithmic_error)
    return f"{text}, within {100 * error:.2g} %"


def number(value: float) -> str:
    """A count, or a mean of counts."""
    return f"{int(value):,}" if value == int(value) else f"{value:,.1f}"


def _size(item: Measurement) -> str:
    return f"{item.height}x{item.width}"


def _cell(value: Any, printed: Callable[[Any], str]) -> str:
    return NOTHING if value is None else printed(value)


def _times(ratio: float) -> str:
    return f"{significant(ratio)}x"


def _bits(item: Measurement | None) -> str:
    """Bits a dimension of a trained model, with the sign of its kind."""
    if item is None or item.bits_per_dim is None:
        return NOTHING
    return f"{KIND_SIGNS.get(item.likelihood_kind or '', '')}{item.bits_per_dim:.4f}"


def _certificate(item: Measurement) -> str:
    """What the certificate says, in a few words."""
    found = item.certificate
    if found is None:
        return NOTHING
    if found.status != "holds":
        return "is the definition" if found.status == "by definition" else found.status
    rounding = f", {found.within_rounding} within rounding" if found.within_rounding else ""
    return f"holds: {found.entries:,} entries{rounding}"
