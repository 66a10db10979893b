"""Every installed model passes the audit and the conformance suite; long audits have files of their own."""

from __future__ import annotations

from typing import ClassVar

from harness.discovery.manager import plugin_manager
from harness.testing import DatasetConformance, MetricConformance, ModelConformance

ELSEWHERE = ("harness-multiscale", "harness-nade", "harness-pixelcnn", "harness-vae")


def class_name(name):
    return "Test" + "".join(part.capitalize() for part in name.split("-"))


for entry in plugin_manager().entries("model"):
    if plugin_manager().provider_of("model", entry).distribution not in ELSEWHERE:
        globals()[class_name(entry.name)] = type(class_name(entry.name), (ModelConformance,), {"model": entry.name})


class TestDigits(DatasetConformance):
    dataset = "digits"


class TestDigitsBinary(DatasetConformance):
    dataset = "digits-binary"
    expected_failures: ClassVar = {"disjoint": "at 8x8 in two levels, some people write the very same digit"}


class TestNLL(MetricConformance):
    metric = "nll"


class TestIWAE(MetricConformance):
    metric = "iwae-5"


class TestNegativeELBO(MetricConformance):
    metric = "negative-elbo"


class TestFID(MetricConformance):
    metric = "fid-pixels-n100"


class TestActiveUnits(MetricConformance):
    metric = "active-units"


class TestFlopsSampling(MetricConformance):
    metric = "flops-sampling"
