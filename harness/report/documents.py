"""The boards in words and printed cells, for whatever format writes them: one section a dataset."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.report.audits import audit_notes
from harness.report.bounds import BoundsEntry, bound_metrics, tightest
from harness.report.cells import (
    active_units_cell,
    bound_cell,
    bound_header,
    figure_cell,
    label_cell,
    missing_section,
    parameters_cell,
    protocol_notes,
    protocol_words,
    published_cell,
    quartiles_cell,
    seeds_cell,
    split_words,
    training_cell,
    verdict_note,
)
from harness.report.gap import GAP_HEADER, gap_cell, gap_lead, gap_notes
from harness.report.likelihood import LikelihoodEntry, likelihood_values
from harness.report.quality_section import REFERENCES, quality_section
from harness.report.reading import READING
from harness.report.throughput import RATES, SPEEDS, ThroughputEntry, quartiles, speed_protocol
from harness.report.values import (
    KIND_SIGNS,
    NOTHING,
    Document,
    Section,
    Table,
    fixed,
    interval,
    memory,
    nats_decimals,
    scaled,
    seconds,
    significant,
    with_spread,
)

if TYPE_CHECKING:
    from harness.boards.leaderboard import Board, Leaderboard


def board_document(leaderboard: Leaderboard, board: Board, pictures: Collection[str] = ()) -> Document:
    """Returns a board as it is printed; ``pictures`` are the names of the sample grids beside it."""
    sections = tuple(_section(leaderboard, board, dataset, pictures) for dataset in leaderboard.datasets)
    description = "" if leaderboard.suite is None else leaderboard.suite.description
    introduction = (description,) if description else ()
    return Document(f"{leaderboard.title}: {board}", introduction, sections, READING[board])


def _section(leaderboard: Leaderboard, board: Board, dataset: str, pictures: Collection[str]) -> Section:
    if board == "sample-quality":
        return quality_section(leaderboard, dataset, pictures)
    make = {"likelihood": _likelihood_section, "bounds": _bounds_section, "throughput": _throughput_section}[board]
    return make(leaderboard, dataset)


def _likelihood_section(leaderboard: Leaderboard, dataset: str) -> Section:
    entries, ranks = leaderboard.likelihood(dataset)
    references = leaderboard.likelihood_references(dataset)
    failed = leaderboard.likelihood_unranked(dataset)
    models = [*entries, *failed]
    shown = [*models, *references]
    places = [*(interval(place.best, place.worst) for place in ranks.intervals), *[NOTHING] * len(failed)]
    notes = [ranks.sentence] if entries else []
    notes += audit_notes([(entry.row.label, entry.row.audit) for entry in models])
    notes += gap_notes([entry.row for entry in shown])
    notes += protocol_notes((entry.row.label, protocol_words(entry.row, entry.figure.metric)) for entry in shown)
    notes += [verdict_note(entry) for entry in shown if entry.published is not None]
    if any(_draw_share(entry) is not None for entry in shown):
        notes.append("Draw share: how much of the mean's variance over test images is the random draw of their pixels.")
    decimals = nats_decimals([entry.figure.mean for entry in shown])
    table = _likelihood_table(models, places, decimals)
    lead = split_words(leaderboard, dataset) if shown else "No row has a likelihood or a bound yet."
    lead = " ".join(filter(None, [lead, gap_lead([entry.row for entry in shown])]))
    floors = _reference_section(_likelihood_table(references, [NOTHING] * len(references), decimals))
    missing = missing_section(leaderboard, "likelihood", dataset)
    return Section(dataset, lead, table, tuple(notes), (*floors, *missing))


def _likelihood_table(entries: Sequence[LikelihoodEntry], places: Sequence[str], decimals: int) -> Table | None:
    values = [likelihood_values(entry) for entry in entries]
    bits = 3 if any(cells["bits_per_dim"] >= 1 for cells in values) else 4
    shares = [_draw_share(entry) for entry in entries]
    published = any(entry.published is not None for entry in entries)
    gaps = [gap_cell(entry.row, entry.gap) for entry in entries]
    columns = ["Rank", "Model", "NLL, nats", *[GAP_HEADER] * any(gaps), "bits/dim", "Kind"]
    columns += ["Audit"] * any(entry.row.role == "model" for entry in entries)
    columns += ["Seeds", "Parameters", "Training"]
    columns += ["Published", "Verdict"] * published + ["Draw share"] * any(share is not None for share in shares)
    rows = []
    for entry, cells, share, place, gap in zip(entries, values, shares, places, gaps, strict=True):
        figure = entry.figure
        shown = {
            "Rank": place,
            "Model": label_cell(entry.row),
            "NLL, nats": figure_cell(figure, decimals),
            GAP_HEADER: gap or NOTHING,
            "Audit": entry.row.audit.cell,
            "bits/dim": KIND_SIGNS[figure.kind]
            + with_spread(cells["bits_per_dim"], cells["bits_per_dim_sd"], None, bits),
            "Kind": figure.kind if figure.kind == "exact" else f"{figure.kind}, {figure.metric}",
            "Seeds": seeds_cell(entry.row, len(figure.values)),
            "Parameters": parameters_cell(cells["parameters_sampling"], cells["parameters_training"]),
            "Training": training_cell(entry.row),
            "Published": published_cell(entry),
            "Verdict": NOTHING if entry.verdict is None else entry.verdict.judgement,
            "Draw share": NOTHING if share is None else f"{fixed(100 * share, 1)} %",
        }
        rows.append(tuple(shown[column] for column in columns))
    numeric = frozenset({"NLL, nats", GAP_HEADER, "bits/dim", "Seeds", "Parameters", "Draw share"})
    return Table(tuple(columns), tuple(rows), numeric) if rows else None


def _draw_share(entry: LikelihoodEntry) -> float | None:
    share: float | None = likelihood_values(entry)["draw_share_of_variance"]
    return share


def _reference_section(table: Table | None) -> tuple[Section, ...]:
    lead = "Not ranked: what the figures are to be read against."
    return () if table is None else (Section(REFERENCES, lead, table),)


def _bounds_section(leaderboard: Leaderboard, dataset: str) -> Section:
    entries, ranks = leaderboard.bounds(dataset)
    references = leaderboard.bounds_references(dataset)
    shown = [*entries, *references]
    metrics = bound_metrics(leaderboard.metrics)
    decimals = {
        metric: 3
        if metric.startswith("bits")
        else nats_decimals([e.figures[metric].mean for e in shown if metric in e.figures])
        for metric in metrics
    }
    notes = [f"Ranked by {tightest(metrics)}. {ranks.sentence}"] if ranks.intervals else []
    notes += audit_notes([(entry.row.label, entry.row.audit) for entry in entries])
    notes += protocol_notes(
        (entry.row.label, protocol_words(entry.row, metric))
        for metric in metrics
        for entry in shown
        if metric in entry.figures
    )
    table = _bounds_table(entries, metrics, decimals)
    lead = split_words(leaderboard, dataset) if shown else "No row has a bound yet."
    floors = _reference_section(_bounds_table(references, metrics, decimals))
    missing = missing_section(leaderboard, "bounds", dataset)
    return Section(dataset, lead, table, tuple(notes), (*floors, *missing))


def _bounds_table(entries: Sequence[BoundsEntry], metrics: Sequence[str], decimals: Mapping[str, int]) -> Table | None:
    active = any(entry.active_units is not None for entry in entries)
    audited = any(entry.row.role == "model" for entry in entries)
    columns = [
        "Rank",
        "Model",
        *(bound_header(metric) for metric in metrics),
        *["Active units"] * active,
        *["Audit"] * audited,
        "Seeds",
        "Training",
    ]
    rows = []
    for entry in entries:
        figures = [bound_cell(entry.figures.get(metric), decimals[metric]) for metric in metrics]
        place = NOTHING if entry.rank is None else interval(entry.rank.best, entry.rank.worst)
        seeds = max(len(figure.values) for figure in entry.figures.values())
        between = [*[active_units_cell(entry)] * active, *[entry.row.audit.cell] * audited]
        rows.append(
            (place, label_cell(entry.row), *figures, *between, seeds_cell(entry.row, seeds), training_cell(entry.row))
        )
    numeric = frozenset({*(bound_header(metric) for metric in metrics), "Active units", "Seeds"})
    return Table(tuple(columns), tuple(rows), numeric) if rows else None


def _throughput_section(leaderboard: Leaderboard, dataset: str) -> Section:
    machines = []
    for fingerprint, hardware, entries in leaderboard.throughput(dataset):
        rates = (f"{name.removesuffix('-throughput').capitalize()}, images/s" for name in RATES)
        columns = ("Model", *rates, "Latency", "Peak memory", "FLOPs scoring", "FLOPs sampling", "Parameters")
        rows = tuple(_speed_row(entry) for entry in entries)
        notes = protocol_notes(
            (entry.row.label, f"{metric}: {words}")
            for metric in SPEEDS
            for entry in entries
            if metric in entry.speeds and (words := speed_protocol(entry.speeds[metric]))
        )
        table = Table(columns, rows, frozenset(columns[1:]))
        machines.append(Section(hardware or "unknown hardware", f"Fingerprint {fingerprint}.", table, tuple(notes)))
    lead = "" if machines else "No speed has been measured yet."
    return Section(dataset, lead, None, (), (*machines, *missing_section(leaderboard, "throughput", dataset)))


def _speed_row(entry: ThroughputEntry) -> tuple[str, ...]:
    cells = [entry.row.label]
    for metric in RATES:
        score = entry.speeds.get(metric)
        cells.append(NOTHING if score is None else quartiles_cell(score.value, quartiles(score), significant))
    latency, peak = entry.speeds.get("sampling-latency"), entry.speeds.get("peak-memory")
    cells.append(NOTHING if latency is None else quartiles_cell(latency.value, quartiles(latency), seconds))
    cells.append(NOTHING if peak is None or peak.value is None else memory(peak.value))
    for metric in ("flops-scoring", "flops-sampling"):
        flops = entry.row.first(metric)
        cells.append(NOTHING if flops is None else scaled(flops, ""))
    cells.append(parameters_cell(entry.row.first("parameters-sampling"), entry.row.first("parameters-training")))
    return tuple(cells)
