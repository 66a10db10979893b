"""Benchmarks are collected by ``tox run -e benchmark`` alone: a test suite is no place to time."""

from __future__ import annotations

import pytest


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if config.getoption("benchmark_only") else True
