"""The boards in words and printed cells, for whatever format writes them: one section a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.bounds import bound_metrics, tightest
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
from harness.report.likelihood import likelihood_values
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
    from harness.leaderboard import Board, Leaderboard


def board_document(leaderboard: Leaderboard, board: Board) -> Document:
    """Returns a board as it is printed."""
    make = {"likelihood": _likelihood_section, "bounds": _bounds_section, "throughput": _throughput_section}[board]
    sections = tuple(make(leaderboard, dataset) for dataset in leaderboard.datasets)
    description = "" if leaderboard.suite is None else leaderboard.suite.description
    introduction = (description,) if description else ()
    return Document(f"{leaderboard.title}: {board}", introduction, sections, READING[board])


def _likelihood_section(leaderboard: Leaderboard, dataset: str) -> Section:
    entries, ranks = leaderboard.likelihood(dataset)
    decimals = nats_decimals([entry.figure.mean for entry in entries])
    values = [likelihood_values(entry) for entry in entries]
    bits = 3 if any(cells["bits_per_dim"] >= 1 for cells in values) else 4
    shares = [cells["draw_share_of_variance"] for cells in values]
    published = any(entry.published is not None for entry in entries)
    columns = ["Rank", "Model", "NLL, nats", "bits/dim", "Kind", "Seeds", "Parameters", "Training"]
    columns += ["Published", "Verdict"] * published + ["Draw share"] * any(share is not None for share in shares)
    rows = []
    for entry, cells, share, place in zip(entries, values, shares, ranks.intervals, strict=True):
        figure = entry.figure
        shown = {
            "Rank": interval(place.best, place.worst),
            "Model": label_cell(entry.row),
            "NLL, nats": figure_cell(figure, decimals),
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
    notes = [ranks.sentence] if entries else []
    notes += protocol_notes((entry.row.label, protocol_words(entry.row, entry.figure.metric)) for entry in entries)
    notes += [verdict_note(entry) for entry in entries if entry.published is not None]
    if any(share is not None for share in shares):
        notes.append("Draw share: how much of the mean's variance over test images is the random draw of their pixels.")
    numeric = frozenset({"NLL, nats", "bits/dim", "Seeds", "Parameters", "Draw share"})
    table = Table(tuple(columns), tuple(rows), numeric) if rows else None
    lead = split_words(leaderboard, dataset) if rows else "No row has a likelihood or a bound yet."
    return Section(dataset, lead, table, tuple(notes), missing_section(leaderboard, "likelihood", dataset))


def _bounds_section(leaderboard: Leaderboard, dataset: str) -> Section:
    entries, ranks = leaderboard.bounds(dataset)
    metrics = bound_metrics(leaderboard.metrics)
    decimals = {
        metric: 3
        if metric.startswith("bits")
        else nats_decimals([e.figures[metric].mean for e in entries if metric in e.figures])
        for metric in metrics
    }
    active = any(entry.active_units is not None for entry in entries)
    columns = [
        "Rank",
        "Model",
        *(bound_header(metric) for metric in metrics),
        *["Active units"] * active,
        "Seeds",
        "Training",
    ]
    rows = []
    for entry in entries:
        figures = [bound_cell(entry.figures.get(metric), decimals[metric]) for metric in metrics]
        place = NOTHING if entry.rank is None else interval(entry.rank.best, entry.rank.worst)
        seeds = max(len(figure.values) for figure in entry.figures.values())
        units = [active_units_cell(entry)] * active
        rows.append(
            (place, label_cell(entry.row), *figures, *units, seeds_cell(entry.row, seeds), training_cell(entry.row))
        )
    notes = [f"Ranked by {tightest(metrics)}. {ranks.sentence}"] if ranks.intervals else []
    notes += protocol_notes(
        (entry.row.label, protocol_words(entry.row, metric))
        for metric in metrics
        for entry in entries
        if metric in entry.figures
    )
    numeric = frozenset({*(bound_header(metric) for metric in metrics), "Active units", "Seeds"})
    table = Table(tuple(columns), tuple(rows), numeric) if rows else None
    lead = split_words(leaderboard, dataset) if rows else "No row has a bound yet."
    return Section(dataset, lead, table, tuple(notes), missing_section(leaderboard, "bounds", dataset))


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
