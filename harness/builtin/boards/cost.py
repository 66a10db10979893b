"""What a model costs to store, to score, to draw from, and to train: the cost board, and that of speeds by machine."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from harness import Board, BoardRow, Cell, Column, Group, Rows, Table

_NAMES = {
    "training-throughput": "training_images_per_second",
    "scoring-throughput": "scoring_images_per_second",
    "sampling-throughput": "sampling_images_per_second",
    "fastest-sampling": "fastest_images_per_second",
    "sampling-latency": "sampling_latency_seconds",
    "peak-memory": "peak_memory_bytes",
}
_EXACT = {"": "Int64"}
_FLOPS = ("flops-scoring", "flops-sampling")
_SAMPLERS = ("Model", "Sampler", "Images/s", "Batch size", "Certificate", "Of the fastest")
_SAID = ("device", "device name", "threads", "machine")  # by the title of a machine's table


class Cost(Board):
    """Parameters, floating-point operations and seconds; sorted by the first of them, and not ranked."""

    name = "cost"
    is_ranked = False
    shows = frozenset({"seeds"})
    reading = """
    Parameters: those that drawing an image uses, and those in the checkpoint. FLOPs are of one image at batch 1, a
    multiply-add is two; those of training are of all its steps, forwards and backwards. They do not depend on the
    machine; seconds of training do, and are means over seeds. Rows are sorted by the first column, the cheapest first,
    and not ranked.
    """

    def columns(self, rows: Rows) -> Sequence[Column]:
        """One for each metric, whatever the machine."""
        return [rows.column(metric) for metric in self.metrics(rows)]

    def notes(self, table: Table) -> Sequence[str]:
        """The machines that the seconds are of, and what the operations leave out."""
        scores = [score for row in table.rows for _, score in row.scores("fit-seconds")]
        machines = sorted({score.hardware for score in scores if score.hardware})
        seconds = [f"Seconds of training are those of: {'; '.join(machines)}."] if machines else []
        return [*seconds, *_not_counted(table, *_FLOPS, "flops-training")]


class Throughput(Board):
    """Images a second, latency and memory, on each machine that measured them: speeds of two do not compare."""

    name = "throughput"
    is_ranked = False
    shows = frozenset({"parameters"})
    reading = """
    Speeds compare within one table only: each is one machine. They are measured with the first seed, one run at a time;
    where other programs ran meanwhile, they are marked as loaded. Shown are the median over blocks of calls and, in
    brackets, the quartiles. Rows are sorted by sampling speed, and not ranked.

    Sampling is by the model's default sampler. The fastest sampler is the fastest of all that there are for the model,
    other plugins' among them, whose images a forward pass confirms; below, each stands with its best batch size.

    FLOPs and parameters do not depend on the machine. FLOPs are of one image at batch 1; a multiply-add is two.
    """

    def columns(self, rows: Rows) -> Sequence[Column]:
        """The speeds in a fixed order, then any others, then what they are read beside."""
        metrics = sorted(self.metrics(rows), key=lambda metric: [*_NAMES, metric].index(metric))
        beside = {"figure": None, "parts": _EXACT, "required": False}
        return [
            *(_speed_column(rows, metric) for metric in metrics),
            *(rows.column(metric, cell=partial(_first, metric), **beside) for metric in _FLOPS),
            Column("protocol", cell=partial(_protocols, metrics), parts={"": "string"}, required=False),
        ]

    def notes(self, table: Table) -> Sequence[str]:
        """Which speeds were not measured on a quiet machine, and what the operations leave out."""
        found = [(row.label, score) for row in table.rows for name in _NAMES for _, score in row.scores(name)]
        loaded = {f"{label} ({score.protocol['load']})": None for label, score in found if "load" in score.protocol}
        words = f"Loaded: not alone, other programs ran while these were measured: {'; '.join(loaded)}."
        return [*([words] if loaded else []), *_not_counted(table, *_FLOPS)]

    def ranked_by(self, columns: Sequence[Column], rows: Rows) -> Column | None:
        """What rows are sorted by: the speed of sampling."""
        return next((column for column in columns if column.key == _NAMES["sampling-throughput"]), None)

    def parts(self, rows: Rows) -> Sequence[tuple[str, Mapping[str, str], Rows]]:
        """The machines, sorted by the words for their hardware."""
        scores = [score for row in rows for record in row.records for score in record.scores.values()]
        found = {it.fingerprint: it.hardware for it in scores if it.stage == "speed" and it.status == "done"}
        return [
            (
                f"{hardware or 'unknown hardware'} ({fingerprint})",
                {"fingerprint": fingerprint, "hardware": hardware},
                replace(rows, items=tuple(row.on_machine(fingerprint) for row in rows)),
            )
            for hardware, fingerprint in sorted((hardware, fingerprint) for fingerprint, hardware in found.items())
        ]

    def appendix(self, rows: Rows, published: Mapping[str, object]) -> Sequence[tuple[str, str, Table]]:
        """Every sampler of every row, on each machine; the fastest of a row first."""
        words = "A sampler whose images are not confirmed has no speed, and counts nowhere."
        made = [(title, [line for row in part for line in _samplers(row)]) for title, _, part in self.parts(rows)]
        numeric = ("Images/s", "Batch size", "Of the fastest")
        return [
            (f"Every sampler, {title}", words, Table.of_texts(_SAMPLERS, lines, numeric=numeric))
            for title, lines in made
            if lines
        ]


def _speed_column(rows: Rows, metric: str) -> Column:
    made = rows.column(metric)

    def cell(row: BoardRow) -> Cell | None:
        if (figure := row.figure(metric)) is None:
            return None
        stated = figure.scores[0].protocol
        by = stated.get("sampler", "default") if metric == "fastest-sampling" else "default"
        words = [by] * (by != "default") + ["loaded"] * ("load" in stated)
        return made.cell_of(figure, f" {', '.join(words)}" if words else "")

    return replace(
        made, cell=cell, key=_NAMES.get(metric, made.key), parts=_EXACT if metric == "peak-memory" else made.parts
    )


def _samplers(row: BoardRow) -> list[tuple[str, ...]]:
    """Its samplers, the fastest first, as they are printed."""
    if (figure := row.figure("fastest-sampling")) is None:
        return []
    [score, *_], fastest = figure.scores, figure.mean
    names = [key.removeprefix("sampler ") for key in score.protocol if key.startswith("sampler ")]
    speeds = {name: score.details.get(f"{name} images/s", 0.0) for name in names}
    lines = list[tuple[str, ...]]()
    for name in sorted(names, key=lambda name: (-speeds[name], name)):
        shown, size, share = "–", "–", "–"
        if speeds[name] > 0 and fastest > 0:
            shown, share = _three_digits(speeds[name]), f"{_three_digits(speeds[name] / fastest)}x"
            size = f"{score.details.get(f'{name} batch size', 0.0):,.0f}"
        lines.append((row.label, name, shown, size, score.protocol[f"sampler {name}"], share))
    return lines


def _three_digits(value: float) -> str:
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def _not_counted(table: Table, *metrics: str) -> list[str]:
    """A note of the operations that have no rule, by row."""
    scores = [(row.label, score) for row in table.rows for metric in metrics for _, score in row.scores(metric)]
    found = {label: score.protocol["not counted"] for label, score in scores if "not counted" in score.protocol}
    rows = "; ".join(f"{label} ({operations})" for label, operations in found.items())
    return [f"FLOPs are at least so many, for want of a rule for an operation: {rows}."] if found else []


def _first(metric: str, row: BoardRow) -> Cell | None:
    """Of the seed whose speeds are measured."""
    value, figure = row.first(metric), row.figure(metric)
    return None if value is None or figure is None else Cell(value, kind=figure.kind)


def _protocols(metrics: Sequence[str], row: BoardRow) -> Cell:
    found = []
    for metric in metrics:
        if (figure := row.figure(metric)) is not None:
            stated = Group.of(figure.scores[0]).protocol
            words = ", ".join(f"{key}={value}" for key, value in stated if key not in _SAID)
            found.append(f"{metric}: {words}")
    return Cell("; ".join(found) or None)
