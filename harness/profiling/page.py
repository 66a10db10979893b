"""A profile for people: the tables of each machine as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from harness.boards.table import Table
from harness.profiling.measurement import Measurement
from harness.profiling.scaling import Growth, PowerLaw
from harness.profiling.tables import MachineTables
from harness.report.document import Document, Picture, Section
from harness.report.markdown import to_markdown
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


def to_profile_markdown(title: str, machines: Sequence[MachineTables], *, pictures: Sequence[str], command: str) -> str:
    """Writes the tables for people, one part for each machine.

    Args:
        title: of the page.
        machines: the tables.
        pictures: names of image files beside the page.
        command: what makes the page, for the comment at its top.
    """
    introduction = "How long it takes to draw images, and what that costs. Figures compare within one machine alone."
    sections = tuple(machine_section(tables, pictures if number == 0 else ()) for number, tables in enumerate(machines))
    document = Document(title, (introduction,), sections, READING)
    return to_markdown(document, origin=f"measurements by `{command}`")


def machine_section(tables: MachineTables, pictures: Sequence[str] = ()) -> Section:
    """Returns the tables of one machine: the advantage over the baseline, each size and batch size, and the growth."""
    lead = f"{tables.hardware} (fingerprint {tables.fingerprint})."
    parts = []
    if tables.advantages:
        parts.append(
            Section("Advantage over the baseline", headline(tables), advantage_table(tables), notes=_ADVANTAGE_NOTES)
        )
    for title, shown, left_out in settings_of(tables):
        notes = tuple(f"{item.label}, {item.sampler}: {item.status}: {item.reason}" for item in left_out)
        parts.append(Section(title, "", speed_table(tables, shown) if shown else None, notes))
    if tables.scalings:
        parts.append(Section("Growth with the number of pixels", "", growth_table(tables)))
    shown_pictures = tuple(Picture("seconds of a call against pixels", name) for name in pictures)
    return Section(tables.hardware, lead, None, (), tuple(parts), shown_pictures)


def settings_of(tables: MachineTables) -> list[tuple[str, list[Measurement], list[Measurement]]]:
    """Returns, for every size and batch size, its name, the measurements that have a figure, and those without."""
    found: dict[tuple[int, ...], list[Measurement]] = {}
    for item in tables.measurements:
        found.setdefault((item.height, item.width, item.channels, item.levels, item.batch_size), []).append(item)
    return [
        (
            f"{height}x{width}x{channels}, {levels} levels, batch {batch_size}",
            [item for item in items if item.shown],
            [item for item in items if not item.shown],
        )
        for (height, width, channels, levels, batch_size), items in found.items()
    ]


def outcome_line(item: Measurement) -> str:
    """Returns a measurement in a line, for progress."""
    what = f"{item.label}, {item.sampler}, {item.height}x{item.width}, batch {item.batch_size}"
    if not item.shown:
        return f"{what}: {item.status}: {item.reason}"
    how = "" if item.extrapolated_from is None else f", extrapolated from {item.extrapolated_from} passes"
    return f"{what}: {seconds(item.median_seconds)}{how}; {certificate_cell(item)}"


_ADVANTAGE_NOTES = (
    "The advantage over cached is the one to quote: neither computes anything twice.",
    "The advantage over naive also holds what caching alone gives.",
    "Speed is not all that differs: bits a dimension, where both are trained, are what each model pays.",
)


def headline(tables: MachineTables) -> str:
    """Returns the advantage over the cached baseline at the largest setting, of trained models if any are."""
    usable = [item for item in tables.advantages if item.over_cached is not None and item.cached is not None]
    if not usable:
        return ""
    best = max(
        usable,
        key=lambda item: (
            item.measurement.weights == "trained", item.measurement.pixels, item.measurement.batch_size,
            item.measurement.default, item.over_cached or 0.0,
        ),
    )  # fmt: skip
    item, cached = best.measurement, best.cached
    assert cached is not None
    text = (
        f"At {item.height}x{item.width}, batch {item.batch_size}, {item.label} ({item.sampler}) draws "
        f"{times(best.over_cached)} as fast as {cached.label} ({cached.sampler})"
    )
    if best.over_naive is not None:
        text += f", and {times(best.over_naive)} as fast as its naive raster"
    if item.bits_per_dim is not None and cached.bits_per_dim is not None:
        text += f"; it needs {bits(item)} bits a dimension, {cached.label} {bits(cached)}"
    return text + "."


def advantage_table(tables: MachineTables) -> Table:
    """Returns the comparison with the baseline, a row for each sampler, size and batch size."""
    columns = (
        "model", "sampler", "size", "batch", "seconds an image", "over cached", "over naive", "depth", "bits/dim",
        "baseline's bits/dim",
    )  # fmt: skip
    rows = []
    for advantage in tables.advantages:
        item, beside = advantage.measurement, advantage.cached or advantage.naive
        rows.append((
            item.label, item.sampler, f"{item.height}x{item.width}", str(item.batch_size),
            seconds(item.median_seconds / item.batch_size), times(advantage.over_cached), times(advantage.over_naive),
            number(item.sequential_depth), bits(item), NOTHING if beside is None else bits(beside),
        ))  # fmt: skip
    return Table.of_texts(columns, rows, numeric=columns[3:])


def speed_table(tables: MachineTables, items: Sequence[Measurement]) -> Table:
    """Returns one row for each measurement that has a figure."""
    columns = (
        "model", "sampler", "seconds (quartiles)", "images/s", "latency", "of a forward pass", "depth", "evaluations",
        "peak memory", "of the GEMM peak", "growth", "bits/dim", "certificate",
    )  # fmt: skip
    return Table.of_texts(columns, [speed_cells(tables, item) for item in items], numeric=columns[2:12])


def speed_cells(tables: MachineTables, item: Measurement) -> list[str]:
    """Returns the cells of a measurement that has a figure."""
    low, high = item.quartiles_seconds
    scaling, latency = tables.scaling_of(item), tables.latency_of(item)
    taken = f"{seconds(item.median_seconds)} ({seconds(low)} – {seconds(high)})"
    if len(item.seconds) == 1:
        taken = f"{seconds(item.median_seconds)} (one round)"
    if item.extrapolated_from is not None:
        taken += f", extrapolated from {item.extrapolated_from} of {item.full_passes} passes"
    if not item.complete:
        taken += f", interrupted after {len(item.seconds)} rounds"
    return [
        item.label, item.sampler, taken, significant(item.images_per_second),
        NOTHING if latency is None else seconds(latency), times(item.forward_ratio), number(item.sequential_depth),
        number(item.network_evaluations), _memory(item),
        NOTHING if item.gemm_fraction is None else f"{100 * item.gemm_fraction:.2g} %",
        NOTHING if scaling is None else exponent(scaling.seconds), bits(item), certificate_cell(item),
    ]  # fmt: skip


def growth_table(tables: MachineTables) -> Table:
    """Returns the laws of growth, a row for each sampler and batch size."""
    columns = ("model", "sampler", "batch", "sizes", "seconds ~ pixels^b, b", "depth")
    rows = tuple(
        (
            scaling.label, scaling.sampler, str(scaling.batch_size), " ".join(map(str, scaling.sizes)),
            exponent(scaling.seconds), depth_law(scaling.depth),
        )
        for scaling in tables.scalings
    )  # fmt: skip
    return Table.of_texts(columns, rows, numeric=("batch",))


def exponent(law: PowerLaw) -> str:
    """An exponent with its interval."""
    if law.low is None or law.high is None:
        return f"{fixed(law.exponent, 2)} (two sizes)"
    return f"{fixed(law.exponent, 2)} [{fixed(law.low, 2)}, {fixed(law.high, 2)}]"


def depth_law(growth: Growth | None) -> str:
    """How a depth grows: by the nearer law, or by both where they cannot be told apart."""
    if growth is None:
        return NOTHING
    sign = "-" if growth.logarithmic.intercept < 0 else "+"
    log = f"{short(growth.logarithmic.slope)} log2(pixels) {sign} {short(abs(growth.logarithmic.intercept))}"
    power = f"pixels^{exponent(growth.power)}"
    if growth.nearer == "logarithmic":
        return f"{log}, within {100 * growth.logarithmic.relative_error:.2g} %"
    if growth.nearer == "power":
        return f"{power}, within {100 * growth.power.relative_error:.2g} %"
    return f"{power} or {log}"


def times(ratio: float | None) -> str:
    """A ratio."""
    return NOTHING if ratio is None else f"{significant(ratio)}x"


def number(value: float | None) -> str:
    """A count, or a mean of counts."""
    if value is None:
        return NOTHING
    return f"{int(value):,}" if value == int(value) else f"{value:,.1f}"


def bits(item: Measurement) -> str:
    """Bits a dimension of a trained model, with the sign of its kind."""
    if item.bits_per_dim is None:
        return NOTHING
    return f"{KIND_SIGNS.get(item.likelihood_kind or '', '')}{item.bits_per_dim:.4f}"


def certificate_cell(item: Measurement) -> str:
    """What the certificate says, in a few words."""
    found = item.certificate
    if found is None:
        return NOTHING
    if found.status == "by definition":
        return "is the definition"
    if found.status == "does not apply":
        return "does not apply"
    rounding = f", {found.within_rounding} within rounding" if found.within_rounding else ""
    return f"holds: {found.entries:,} entries{rounding}"


def _memory(item: Measurement) -> str:
    if item.peak_memory_bytes is None:
        return NOTHING
    return f"{'≥ ' if item.memory_cut_off else ''}{memory(item.peak_memory_bytes)}"
