"""How fast a model is: timing, the certificate of a fast sampler, and the profile of generation speed."""

from __future__ import annotations

from harness.profiling.certificate import Certificate, CertificateFailed, certify
from harness.profiling.timing import (
    BATCH_SIZES,
    Clock,
    StepTimes,
    Sweep,
    Timing,
    default_sampler,
    scorer,
    speed_protocol,
    step_seconds,
    sweep_batch_sizes,
    time_calls,
)

__all__ = [
    "BATCH_SIZES",
    "Certificate",
    "CertificateFailed",
    "Clock",
    "StepTimes",
    "Sweep",
    "Timing",
    "certify",
    "default_sampler",
    "scorer",
    "speed_protocol",
    "step_seconds",
    "sweep_batch_sizes",
    "time_calls",
]
