"""A suite of many runs: what is done once for each of them stays once for each of them."""

from __future__ import annotations

from harness.running.dispatch import Dispatcher
from harness.running.planning import PlannedRun


def test_from_the_plan_to_the_first_start_no_run_is_compared_with_the_others(lab, monkeypatch):
    suite = lab.suite(["uniform", "independent-pixels"], seeds=str(list(range(100))))
    compared, begun = [], []

    def count(one, other):
        compared.append(one.run)
        return one is other

    def start(self, planned, device):
        begun.append(planned.run)
        raise KeyboardInterrupt

    monkeypatch.setattr(PlannedRun, "__eq__", count)
    monkeypatch.setattr(Dispatcher, "_start", start)
    assert lab.harness("run", suite).code == 130
    assert (len(begun), compared) == (1, [])
