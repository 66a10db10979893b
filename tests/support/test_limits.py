"""What a run may take: how it is written, and which devices it works on."""

from __future__ import annotations

import pytest
import torch

from harness.suites.suite import Suite, SuiteError
from harness.support.environment import DeviceTokens
from harness.support.limits import Limits

SUITE = {"title": "T", "datasets": ["digits"], "models": [{"name": "uniform"}]}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90 s", 90), ("1.5 minutes", 90), ("2h", 7200), ("1 day", 86400), ("3 min", 180)]
)
def test_a_time_limit_is_an_amount_and_a_unit(text, seconds):
    assert Limits.parse(text, None) == Limits(seconds, None)


@pytest.mark.parametrize(("text", "size"), [("4 GB", 4 * 10**9), ("512 MiB", 2**29), ("1.5 GiB", 3 * 2**29)])
def test_a_memory_limit_tells_powers_of_ten_from_powers_of_two(text, size):
    assert Limits.parse(None, text) == Limits(None, size)


@pytest.mark.parametrize("text", ["", "30", "0 s", "-1 s", "5 parsecs", "1e3 s", "nan s"])
def test_another_time_limit_is_refused_with_what_would_be_right(text):
    with pytest.raises(ValueError, match=rf"time limit '{text}' is not an amount such as '90 s'"):
        Limits.parse(text, None)


@pytest.mark.parametrize("text", ["4", "4 G", "0 GB", "four GB"])
def test_another_memory_limit_is_refused_with_what_would_be_right(text):
    with pytest.raises(ValueError, match=rf"memory limit '{text}' is not an amount such as '512 MiB'"):
        Limits.parse(None, text)


def test_a_suite_states_limits_and_they_are_no_part_of_what_a_run_is():
    limited = Suite.parse({**SUITE, "time_limit": "1 minute", "memory_limit": "1 GB"}, name="s", source="s")
    assert limited.limits == Limits(60, 10**9)
    assert limited.rows() == Suite.parse(SUITE, name="s", source="s").rows()
    with pytest.raises(SuiteError, match="time limit '1 parsec'"):
        Suite.parse({**SUITE, "time_limit": "1 parsec"}, name="s", source="s")


def test_where_the_command_says_nothing_the_suite_counts():
    assert Limits(10, None).or_else(Limits(60, 100)) == Limits(10, 100)


def test_the_processor_has_a_token_a_core_and_thread_or_as_many_as_asked_for(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert DeviceTokens("cpu", jobs=0, threads=2).total == 4
    assert DeviceTokens("cpu", jobs=0, threads=16).total == 1
    tokens = DeviceTokens("cpu", jobs=3, threads=1)
    assert [tokens.take() for _ in range(4)] == ["cpu", "cpu", "cpu", None]
    tokens.give("cpu")
    assert tokens.take() == "cpu"


@pytest.fixture
def three_accelerators(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 3)


def test_each_accelerator_takes_one_run(three_accelerators):
    tokens = DeviceTokens("auto", jobs=0, threads=1)
    assert [tokens.take() for _ in range(4)] == ["cuda:0", "cuda:1", "cuda:2", None]
    tokens.give("cuda:1")
    assert tokens.take() == "cuda:1"


def test_more_jobs_than_accelerators_are_spread_evenly(three_accelerators):
    tokens = DeviceTokens("cuda", jobs=5, threads=1)
    taken = [tokens.take() for _ in range(5)]
    assert taken == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:2"]
    assert tokens.take() is None


def test_a_device_by_number_is_the_only_one_that_is_used(three_accelerators):
    tokens = DeviceTokens("cuda:2", jobs=2, threads=1)
    assert [tokens.take() for _ in range(3)] == ["cuda:2", "cuda:2", None]
