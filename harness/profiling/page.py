"""A profile for people: the tables of each machine as a page of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.boards.table import Table
from harness.profiling.measurement import Measurement
from harness.profiling.scaling import Growth, PowerLaw
from harness.profiling.tables import MachineTables
from harness.report.markdown import Document, Picture, Section
from harness.support.numbers import KIND_SIGNS, NOTHING, fixed, memory, seconds, short, significant

_READING = """
seconds: of one call that draws the whole batch, the median over rounds and the quartiles in brackets. In each round
every sampler of that size and batch size is timed in turn, with the same noise.

latency: seconds until a single image is there, from batch size 1.

of a forward pass: seconds over those of one pass of the model's own network on as many images, in the same rounds.
Drawing each entry once, with nothing computed twice, needs the arithmetic of one such pass.

of the GEMM peak: operations of that one pass over seconds, as a part of the fastest float32 matrix product that
this machine was measured to make with as many threads.

depth: network evaluations that had to wait for one another; evaluations: all of them, of whatever part of the
network.

growth: the exponent of seconds in the number of pixels, sizes of 16 and more, with its 95 % interval; two sizes
give no interval.

certificate: with the same noise, one forward pass confirms that every entry of every image that was timed is the
one that naive sampling would have drawn; entries whose two best values are within 0.00001 nats of each other may
differ by rounding and are counted. A sampler that fails is not shown. The naive raster is the definition.

extrapolated: a naive raster that exceeds the time allowed is timed for its first full passes, and multiplied.

weights: as initialised, unless a run is named. The time of a fixed-point iteration depends on them, that of the
other samplers does not.
"""
READING = tuple(" ".join(part.split()) for part in _READING.split("\n\n"))
_ADVANTAGE_NOTES = (
    "The advantage over cached is the one to quote: neither computes anything twice.",
    "The advantage over naive also holds what caching alone gives.",
    "Speed is not all that differs: bits a dimension, where both are trained, are what each model pays.",
)


def profile_page(title: str, machines: Sequence[MachineTables], pictures: Sequence[str]) -> Document:
    """Returns the tables for people, one part for each machine; ``pictures`` are names of files beside the page."""
    introduction = "How long it takes to draw images, and what that costs. Figures compare within one machine alone."
    sections = tuple(machine_section(tables, pictures if number == 0 else ()) for number, tables in enumerate(machines))
    return Document(title, (introduction,), sections, READING)


def machine_section(tables: MachineTables, pictures: Sequence[str] = ()) -> Section:
    """Returns the tables of one machine: the advantage over the baseline, each size and batch size, and the growth."""
    parts = []
    if tables.advantages:
        over = _advantage_table(tables)
        parts.append(Section("Advantage over the baseline", headline(tables), over, notes=_ADVANTAGE_NOTES))
    for setting in dict.fromkeys(item.setting for item in tables.measurements):
        items = [item for item in tables.measurements if item.setting == setting]
        shown = [speed_cells(tables, item) for item in items if item.shown]
        notes = tuple(f"{item.label}, {item.sampler}: {item.status}: {item.reason}" for item in items if not item.shown)
        channels, height, width, levels, batch_size = setting
        title = f"{height}x{width}x{channels}, {levels} levels, batch {batch_size}"
        table = Table.of_texts(_SPEED_COLUMNS, shown, numeric=_SPEED_COLUMNS[2:12]) if shown else None
        parts.append(Section(title, "", table, notes))
    if tables.scalings:
        parts.append(Section("Growth with the number of pixels", "", _growth_table(tables)))
    lead = f"{tables.hardware} (fingerprint {tables.fingerprint})."
    shown_pictures = tuple(Picture("seconds of a call against pixels", name) for name in pictures)
    return Section(tables.hardware, lead, None, (), tuple(parts), shown_pictures)


def outcome_line(item: Measurement) -> str:
    """Returns a measurement in a line, for progress."""
    what = f"{item.label}, {item.sampler}, {item.height}x{item.width}, batch {item.batch_size}"
    if not item.shown:
        return f"{what}: {item.status}: {item.reason}"
    how = "" if item.extrapolated_from is None else f", extrapolated from {item.extrapolated_from} passes"
    return f"{what}: {seconds(item.median_seconds)}{how}; {_certificate(item)}"


def headline(tables: MachineTables) -> str:
    """Returns the advantage over the cached baseline at the largest setting, of trained models if any are."""
    usable = [
        (item, found.cached, found.over_cached, found.over_naive)
        for found in tables.advantages
        if found.cached is not None and found.over_cached is not None and (item := found.measurement)
    ]
    if not usable:
        return ""
    item, cached, over_cached, over_naive = max(
        usable,
        key=lambda row: (row[0].weights == "trained", row[0].pixels, row[0].batch_size, row[0].default, row[2]),
    )
    text = (
        f"At {item.height}x{item.width}, batch {item.batch_size}, {item.label} ({item.sampler}) draws "
        f"{_times(over_cached)} as fast as {cached.label} ({cached.sampler})"
    )
    if over_naive is not None:
        text += f", and {_times(over_naive)} as fast as its naive raster"
    if item.bits_per_dim is not None and cached.bits_per_dim is not None:
        text += f"; it needs {_bits(item)} bits a dimension, {cached.label} {_bits(cached)}"
    return text + "."


def _advantage_table(tables: MachineTables) -> Table:
    columns = (
        "model", "sampler", "size", "batch", "seconds an image", "over cached", "over naive", "depth", "bits/dim",
        "baseline's bits/dim",
    )  # fmt: skip
    rows = [
        (
            item.label, item.sampler, f"{item.height}x{item.width}", str(item.batch_size),
            seconds(item.median_seconds / item.batch_size), _cell(found.over_cached, _times),
            _cell(found.over_naive, _times), _cell(item.sequential_depth, number), _bits(item),
            _bits(found.cached or found.naive),
        )
        for found in tables.advantages
        if (item := found.measurement)
    ]  # fmt: skip
    return Table.of_texts(columns, rows, numeric=columns[3:])


_SPEED_COLUMNS = (
    "model", "sampler", "seconds (quartiles)", "images/s", "latency", "of a forward pass", "depth", "evaluations",
    "peak memory", "of the GEMM peak", "growth", "bits/dim", "certificate",
)  # fmt: skip


def speed_cells(tables: MachineTables, item: Measurement) -> list[str]:
    """Returns the cells of a measurement that has a figure."""
    scaling = tables.scaling_of(item)
    low, high = map(seconds, item.quartiles_seconds)
    taken = f"{seconds(item.median_seconds)} ({f'{low} – {high}' if len(item.seconds) > 1 else 'one round'})"
    if item.extrapolated_from is not None:
        taken += f", extrapolated from {item.extrapolated_from} of {item.full_passes} passes"
    if not item.complete:
        taken += f", interrupted after {len(item.seconds)} rounds"
    return [
        item.label, item.sampler, taken, significant(item.images_per_second), _cell(tables.latency_of(item), seconds),
        _cell(item.forward_ratio, _times), _cell(item.sequential_depth, number),
        _cell(item.network_evaluations, number),
        ("≥ " if item.memory_cut_off else "") + _cell(item.peak_memory_bytes, memory),
        _cell(item.gemm_fraction, lambda part: f"{100 * part:.2g} %"),
        NOTHING if scaling is None else exponent(scaling.seconds), _bits(item), _certificate(item),
    ]  # fmt: skip


def _growth_table(tables: MachineTables) -> Table:
    columns = ("model", "sampler", "batch", "sizes", "seconds ~ pixels^b, b", "depth")
    rows = [
        (
            found.label, found.sampler, str(found.batch_size), " ".join(map(str, found.sizes)),
            exponent(found.seconds), NOTHING if found.depth is None else depth_law(found.depth),
        )
        for found in tables.scalings
    ]  # fmt: skip
    return Table.of_texts(columns, rows, numeric=("batch",))


def exponent(law: PowerLaw) -> str:
    """An exponent with its interval."""
    if law.low is None or law.high is None:
        return f"{fixed(law.exponent, 2)} (two sizes)"
    return f"{fixed(law.exponent, 2)} [{fixed(law.low, 2)}, {fixed(law.high, 2)}]"


def depth_law(growth: Growth) -> str:
    """How a depth grows: by the nearer law, or by both where they cannot be told apart."""
    line = growth.logarithmic
    log = f"{short(line.slope)} log2(pixels) {'-' if line.intercept < 0 else '+'} {short(abs(line.intercept))}"
    power = f"pixels^{exponent(growth.power)}"
    if growth.nearer is None:
        return f"{power} or {log}"
    text, law = (log, line) if growth.nearer == "logarithmic" else (power, growth.power)
    return f"{text}, within {100 * law.relative_error:.2g} %"


def number(value: float) -> str:
    """A count, or a mean of counts."""
    return f"{int(value):,}" if value == int(value) else f"{value:,.1f}"


def _cell(value: float | None, printed: Callable[[float], str]) -> str:
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
    if found is None or found.status == "does not apply":
        return NOTHING if found is None else found.status
    if found.status == "by definition":
        return "is the definition"
    rounding = f", {found.within_rounding} within rounding" if found.within_rounding else ""
    return f"holds: {found.entries:,} entries{rounding}"
