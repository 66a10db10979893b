from __future__ import annotations

import itertools

import pytest

from harness_layers.schedules import SCHEDULES, stages


def test_stage_i_lasts_3_to_the_i_epochs_of_3280():
    rates = [stages(epoch / 3280) for epoch in range(3280)]
    lengths = [len(list(group)) for _, group in itertools.groupby(rates)]
    assert lengths == [3**i for i in range(8)]
    assert sorted(set(rates), reverse=True) == pytest.approx([10 ** (-i / 7) for i in range(8)])


@pytest.mark.parametrize(("name", "end"), [("constant", 1.0), ("linear", 0.0), ("cosine", 0.0), ("stages", 0.1)])
def test_a_schedule_falls_from_one_to_its_end(name, end):
    rates = [SCHEDULES[name](step / 100) for step in range(101)]
    assert rates[0] == 1
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(end, abs=1e-12)
