"""How much others work while something is measured: by a clock that is turned by hand."""

from __future__ import annotations

import os
from collections import namedtuple

import psutil
import pytest

from harness import OthersLoad
from harness.support.numbers import load_words

Times = namedtuple("Times", "user nice system idle iowait")
Own = namedtuple("Own", "user system children_user children_system")


def share(monkeypatch, *, others, own, idle):
    """Of seconds of processors that others and this process used, and that nobody did."""
    monkeypatch.setattr(psutil, "cpu_times", lambda: Times(100.0, 0.0, 10.0, 500.0, 5.0))
    monkeypatch.setattr(os, "times", lambda: Own(20.0, 1.0, 2.0, 0.0))
    with OthersLoad() as load:
        after = Times(100.0 + others / 2 + own, 0.0, 10.0 + others / 2, 500.0 + idle / 2, 5.0 + idle / 2)
        monkeypatch.setattr(psutil, "cpu_times", lambda: after)
        monkeypatch.setattr(os, "times", lambda: Own(20.0 + own / 2, 1.0, 2.0 + own / 2, 0.0))
    return load.share


@pytest.mark.parametrize(
    ("others", "own", "idle", "right"),
    [
        (0.0, 1.0, 3.0, 0.0),  # its own work, on threads and in children, is no load
        (1.0, 1.0, 2.0, 0.25),
        (3.0, 1.0, 0.0, 0.75),
        (-0.1, 1.1, 3.0, 0.0),  # two clocks that tick apart
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_the_load_is_the_share_of_the_processors_that_others_used(monkeypatch, others, own, idle, right):
    assert share(monkeypatch, others=others, own=own, idle=idle) == right


def test_a_load_is_said_from_a_tenth_of_the_processors_on():
    assert load_words(None) == load_words(0.0999) == ""
    assert load_words(0.43) == "others used about 40% of the processors"
