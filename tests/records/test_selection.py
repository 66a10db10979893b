"""Choosing a configuration: by the mean over seeds of a validation figure, and by nothing else."""

from __future__ import annotations

import pytest

from harness.records.record import best_configuration


@pytest.fixture
def grid(make_record):
    """Makes configurations of records from validation values, one a seed; None is a run without a record."""

    def make(*configurations, name="valid--nll"):
        return [
            [None if value is None else make_record(scores={name: value}) for value in values]
            for values in configurations
        ]

    return make


def test_the_configuration_of_the_lowest_mean_over_seeds_is_best(grid):
    assert best_configuration(grid([1.0, 9.0], [4.0, 4.0], [5.0, 5.5])) == 1


def test_where_higher_is_better_the_highest_mean_is_best(make_record, make_score):
    values = [1.0, 3.0, 2.0]
    scores = [{"valid--acc": make_score("acc", value, higher_is_better=True)} for value in values]
    assert best_configuration([[make_record().model_copy(update={"scores": item})] for item in scores]) == 1


def test_the_first_of_two_equals_is_best(grid):
    assert best_configuration(grid([2.0], [1.0], [1.0])) == 1


def test_a_single_configuration_needs_no_score(make_record):
    assert best_configuration([[None, make_record()]]) == 0


def test_a_configuration_that_lacks_a_seed_is_not_chosen(grid):
    assert best_configuration(grid([0.0, None], [4.0, 4.0])) == 1


def test_without_any_complete_configuration_there_is_no_best(grid):
    assert best_configuration(grid([0.0, None], [None, 4.0])) is None
    assert best_configuration([]) is None


def test_figures_on_the_test_split_are_not_looked_at(make_record):
    first = make_record(scores={"nll": 0.0, "valid--nll": 2.0})
    second = make_record(scores={"nll": 9.0, "valid--nll": 1.0})
    assert best_configuration([[first], [second]]) == 1
    assert best_configuration([[make_record(scores={"nll": 0.0})], [make_record(scores={"nll": 9.0})]]) is None


def test_a_score_that_failed_does_not_count(make_record, make_score):
    failed = make_record().model_copy(update={"scores": {"valid--nll": make_score(value=0.0, status="failed")}})
    assert best_configuration([[failed], [make_record(scores={"valid--nll": 3.0})]]) == 1


def test_different_figures_are_never_compared_with_each_other(make_record):
    old = make_record(scores={"valid--bits-per-dim": 0.1, "valid--nll": 90.0})
    new = make_record(scores={"valid--nll": 80.0})
    assert best_configuration([[old], [new]]) == 1
