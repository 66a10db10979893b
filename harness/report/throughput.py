"""The throughput board: one table a machine, because speeds of two machines have nothing to say to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.records.record import ScoreRecord
from harness.report.rows import BoardRow

RATES = {
    "training-throughput": "training_images_per_second",
    "scoring-throughput": "scoring_images_per_second",
    "sampling-throughput": "sampling_images_per_second",
}
SPEEDS = (*RATES, "sampling-latency", "peak-memory")
COSTS = {
    "flops-scoring": "flops_scoring",
    "flops-sampling": "flops_sampling",
    "parameters-sampling": "parameters_sampling",
    "parameters-training": "parameters_training",
}

THROUGHPUT_COLUMNS = {
    "dataset": "string", "fingerprint": "string", "hardware": "string", "label": "string", "model": "string",
    "status": "string", **{f"{name}{part}": "float64" for name in RATES.values() for part in ("", "_q25", "_q75")},
    "sampling_latency_seconds": "float64", "sampling_latency_seconds_q25": "float64",
    "sampling_latency_seconds_q75": "float64", "peak_memory_bytes": "Int64", "flops_scoring": "Int64",
    "flops_sampling": "Int64", "parameters_sampling": "Int64", "parameters_training": "Int64", "protocol": "string",
    "problems": "string",
}  # fmt: skip


@dataclass(frozen=True)
class ThroughputEntry:
    """A row's speeds on one machine, by metric."""

    row: BoardRow
    speeds: dict[str, ScoreRecord]


def fingerprints(rows: Sequence[BoardRow]) -> dict[str, str]:
    """Returns the machines that speeds were measured on: {fingerprint: hardware in words}, sorted by the words."""
    found = {
        score.fingerprint: score.hardware
        for row in rows
        for record in row.records
        for score in record.scores.values()
        if score.stage == "speed" and score.status == "done"
    }
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def throughput_entries(rows: Sequence[BoardRow], fingerprint: str) -> list[ThroughputEntry]:
    """Returns the rows that have a speed on a machine, the fastest to sample first."""
    entries = [ThroughputEntry(row, speeds) for row in rows if (speeds := row.speeds(fingerprint))]
    return sorted(entries, key=lambda entry: -_value(entry.speeds.get("sampling-throughput"), 0.0))


def throughput_values(entry: ThroughputEntry) -> dict[str, Any]:
    """Returns the cells of ``THROUGHPUT_COLUMNS`` that a row's own records give."""
    values: dict[str, Any] = {}
    for metric, name in RATES.items():
        if (score := entry.speeds.get(metric)) is not None:
            low, high = quartiles(score)
            values |= {name: score.value, f"{name}_q25": low, f"{name}_q75": high}
    if (latency := entry.speeds.get("sampling-latency")) is not None:
        low, high = quartiles(latency)
        name = "sampling_latency_seconds"
        values |= {name: latency.value, f"{name}_q25": low, f"{name}_q75": high}
    if (memory := entry.speeds.get("peak-memory")) is not None:
        values["peak_memory_bytes"] = memory.value
    values |= {name: entry.row.first(metric) for metric, name in COSTS.items()}
    values["protocol"] = "; ".join(
        f"{metric}: {speed_protocol(entry.speeds[metric])}" for metric in SPEEDS if metric in entry.speeds
    )
    return values


def quartiles(score: ScoreRecord) -> tuple[float | None, float | None]:
    """Returns the quartiles of a speed: those of the batch size that was the best, where several were measured."""
    for prefix, suffix in ((f"batch_{score.protocol.get('batch size')}_", ""), ("", ""), ("", "_seconds")):
        low, high = (score.details.get(f"{prefix}{name}{suffix}") for name in ("q25", "q75"))
        if low is not None and high is not None:
            return low, high
    return None, None


def speed_protocol(score: ScoreRecord) -> str:
    """Returns what the caption of a machine does not say already."""
    known = ("device", "device name", "threads")
    return ", ".join(f"{key}={value}" for key, value in sorted(score.protocol.items()) if key not in known)


def _value(score: ScoreRecord | None, default: float) -> float:
    return default if score is None or score.value is None else score.value
