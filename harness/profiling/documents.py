"""A profile for programs: CSV and JSON, made of its measurements alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.profiling.measurement import Measurement
from harness.profiling.tables import Advantage, MachineTables, Scaling
from harness.report.csv import to_csv
from harness.support.digits import significant_digits

COLUMNS = {
    "fingerprint": "string", "hardware": "string", "label": "string", "model": "string", "weights": "string",
    "run": "string", "channels": "Int64", "height": "Int64", "width": "Int64", "levels": "Int64",
    "batch_size": "Int64", "sampler": "string", "status": "string", "seconds": "float64", "seconds_q25": "float64",
    "seconds_q75": "float64", "rounds": "Int64", "calls_a_round": "Int64", "images_per_second": "float64",
    "latency_seconds": "float64", "forward_seconds": "float64", "forward_ratio": "float64",
    "sequential_depth": "float64", "network_evaluations": "float64", "peak_memory_bytes": "Int64",
    "gemm_fraction": "float64", "extrapolated_from_passes": "Int64", "full_passes": "Int64",
    "scaling_exponent": "float64", "scaling_low": "float64", "scaling_high": "float64", "scaling_sizes": "string",
    "certificate": "string", "certificate_entries": "Int64", "certificate_mismatches": "Int64",
    "certificate_within_rounding": "Int64", "bits_per_dim": "float64", "likelihood_kind": "string",
    "reason": "string",
}  # fmt: skip


def values_of(tables: MachineTables, item: Measurement) -> dict[str, Any]:
    """Returns the cells of ``COLUMNS`` of a measurement; what is not known is left out."""
    values: dict[str, Any] = {
        "fingerprint": item.fingerprint, "hardware": item.hardware, "label": item.label, "model": item.model,
        "weights": item.weights, "run": item.run, "channels": item.channels, "height": item.height,
        "width": item.width, "levels": item.levels, "batch_size": item.batch_size, "sampler": item.sampler,
        "status": item.status, "bits_per_dim": item.bits_per_dim, "likelihood_kind": item.likelihood_kind,
        "reason": item.reason or None,
    }  # fmt: skip
    if item.certificate is not None:
        values |= {
            "certificate": item.certificate.status, "certificate_entries": item.certificate.entries,
            "certificate_mismatches": item.certificate.mismatches,
            "certificate_within_rounding": item.certificate.within_rounding,
        }  # fmt: skip
    if item.shown:
        low, high = item.quartiles_seconds
        values |= {
            "seconds": item.median_seconds, "seconds_q25": low, "seconds_q75": high, "rounds": len(item.seconds),
            "calls_a_round": item.calls, "images_per_second": item.images_per_second,
            "latency_seconds": tables.latency_of(item), "forward_seconds": item.forward_median_seconds,
            "forward_ratio": item.forward_ratio, "sequential_depth": item.sequential_depth,
            "network_evaluations": item.network_evaluations, "peak_memory_bytes": item.peak_memory_bytes,
            "gemm_fraction": item.gemm_fraction, "extrapolated_from_passes": item.extrapolated_from,
            "full_passes": item.full_passes,
        }  # fmt: skip
        if (scaling := tables.scaling_of(item)) is not None:
            law = scaling.seconds
            values |= {
                "scaling_exponent": law.exponent, "scaling_low": law.low, "scaling_high": law.high,
                "scaling_sizes": " ".join(map(str, scaling.sizes)),
            }  # fmt: skip
    return {name: value for name, value in values.items() if value is not None}


def to_profile_csv(machines: Sequence[MachineTables]) -> str:
    """Writes all measurements as one table; the first column tells the machines apart."""
    rows = [values_of(tables, item) for tables in machines for item in tables.measurements]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return to_csv([frame])


def to_profile_json(title: str, machines: Sequence[MachineTables]) -> str:
    """Writes everything as JSON, for scripts."""
    content = {
        "title": title,
        "machines": [
            {
                "fingerprint": tables.fingerprint,
                "hardware": tables.hardware,
                "baseline": tables.baseline,
                "rows": [values_of(tables, item) for item in tables.measurements],
                "growth": [_growth_values(scaling) for scaling in tables.scalings],
                "advantages": [_advantage_values(advantage) for advantage in tables.advantages],
            }
            for tables in machines
        ],
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _growth_values(scaling: Scaling) -> dict[str, Any]:
    values: dict[str, Any] = {
        "label": scaling.label, "sampler": scaling.sampler, "batch_size": scaling.batch_size,
        "sizes": list(scaling.sizes), "seconds_exponent": scaling.seconds.exponent,
        "seconds_exponent_low": scaling.seconds.low, "seconds_exponent_high": scaling.seconds.high,
    }  # fmt: skip
    if (depth := scaling.depth) is not None:
        values["depth"] = {
            "exponent": depth.power.exponent, "exponent_low": depth.power.low, "exponent_high": depth.power.high,
            "power_error": depth.power.relative_error, "intercept": depth.logarithmic.intercept,
            "slope_per_doubling": depth.logarithmic.slope, "logarithmic_error": depth.logarithmic.relative_error,
            "nearer": depth.nearer,
        }  # fmt: skip
    return values


def _advantage_values(advantage: Advantage) -> dict[str, Any]:
    item, cached = advantage.measurement, advantage.cached
    beside = cached or advantage.naive
    return {
        "label": item.label, "sampler": item.sampler, "height": item.height, "width": item.width,
        "batch_size": item.batch_size,
        "seconds_an_image": significant_digits(item.median_seconds / item.batch_size),
        "over_cached": advantage.over_cached, "over_naive": advantage.over_naive,
        "baseline": None if beside is None else beside.label,
        "baseline_sampler": None if cached is None else cached.sampler,
        "bits_per_dim": item.bits_per_dim, "likelihood_kind": item.likelihood_kind,
        "baseline_bits_per_dim": None if beside is None else beside.bits_per_dim,
        "baseline_likelihood_kind": None if beside is None else beside.likelihood_kind,
    }  # fmt: skip
