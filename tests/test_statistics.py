import ast
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import harness.boards.statistics
from harness.boards.statistics import (
    Comparison,
    RankInterval,
    ScoreMatrix,
    better,
    compare,
    compare_all,
    compare_seeds,
    draw_share,
    draw_standard_deviation,
    holm,
    pair_images,
    rank,
    rank_intervals,
    summary,
)


def matrix(values, images=None):
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    images = np.arange(values.shape[1]) if images is None else images
    return ScoreMatrix(values, np.asarray(images, dtype=np.int64))


def simulate(rng, num_seeds, num_images, *, images, seed=0.1, interaction=0.5, mean=90.0):
    """mean + image effect + seed effect + interaction: a training's scores as NLLs of digits scatter."""
    seeds = rng.normal(scale=seed, size=(num_seeds, 1))
    noise = rng.normal(scale=interaction, size=(num_seeds, num_images))
    return mean + images[None, :] + seeds + noise


# --- summary ---


def test_summary_keeps_the_spread_over_seeds_and_the_error_over_images_apart():
    values = np.random.default_rng(0).normal(size=(3, 7))
    found = summary(matrix(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.standard_deviation == pytest.approx(np.std([row.mean() for row in values], ddof=1))
    assert found.standard_error == pytest.approx(stats.sem(values.mean(axis=0)))
    assert (found.num_seeds, found.num_images) == (3, 7)


def test_one_seed_has_no_spread_and_one_image_no_error():
    found = summary(matrix([[5.0]]))
    assert (found.standard_deviation, found.standard_error) == (None, None)


def test_a_score_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match="seed 1, image 2 is nan"):
        matrix([[0, 0, 0], [0, 0, np.nan]])


@pytest.mark.parametrize(
    ("values", "images"),
    [
        (np.zeros(3), np.arange(3)),
        (np.zeros((2, 3), np.float32), np.arange(3)),
        (np.zeros((2, 3)), np.arange(2)),
        (np.zeros((0, 3)), np.arange(3)),
        (np.zeros((2, 3)), np.arange(3.0)),
    ],
)
def test_scores_of_another_shape_or_type_are_rejected(values, images):
    with pytest.raises(ValueError, match="must be"):
        ScoreMatrix(values, images)


# --- pairing ---


def test_images_are_paired_by_content_and_copies_in_order_of_occurrence():
    first, second = np.array([7, 5, 7, 9, 7]), np.array([9, 7, 3, 7, 5])
    found = sorted(zip(*(positions.tolist() for positions in pair_images(first, second)), strict=True))
    expected, unused = [], list(enumerate(second.tolist()))
    for position, digest in enumerate(first.tolist()):
        match = next((item for item in unused if item[1] == digest), None)
        if match is not None:
            unused.remove(match)
            expected.append((position, match[0]))
    assert found == expected == [(0, 1), (1, 4), (2, 3), (3, 0)]


def test_the_order_of_images_does_not_change_a_comparison():
    rng = np.random.default_rng(1)
    a, b, order = rng.normal(size=(3, 20)), rng.normal(size=(3, 20)), rng.permutation(20)
    straight, shuffled = compare(matrix(a), matrix(b)), compare(matrix(a), matrix(b[:, order], order))
    assert shuffled.p_value == pytest.approx(straight.p_value, rel=1e-12)
    assert shuffled.difference == pytest.approx(straight.difference, rel=1e-12)


def test_only_images_that_both_models_scored_count():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(1, 10)), rng.normal(size=(1, 8))
    found = compare(matrix(a, np.arange(10)), matrix(b, np.arange(4, 12)))
    assert found.p_value == pytest.approx(stats.ttest_rel(a[0, 4:], b[0, :6]).pvalue, rel=1e-12)


def test_models_that_share_fewer_than_two_images_are_not_compared():
    with pytest.raises(ValueError, match="at least 2 images that both models scored, not 1"):
        compare(matrix([[1, 2, 3]], [1, 2, 3]), matrix([[1, 2, 3]], [3, 4, 5]))


# --- the test ---


def test_one_seed_each_is_the_paired_t_test_on_images():
    rng = np.random.default_rng(3)
    a = rng.normal(size=50)
    b = a + rng.normal(loc=0.1, scale=0.3, size=50)
    found, expected = compare(matrix(a), matrix(b)), stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-10)
    assert found.degrees_of_freedom == pytest.approx(49)
    assert found.interval == pytest.approx((interval.low, interval.high), rel=1e-10)
    assert found.basis == "images"


def test_one_seed_in_either_model_covers_images_alone():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(1, 30)), rng.normal(size=(4, 30))
    expected = stats.ttest_rel(a[0], b.mean(axis=0)).pvalue
    for found in (compare(matrix(a), matrix(b)), compare(matrix(b), matrix(a))):
        assert found.p_value == pytest.approx(expected, rel=1e-10)
        assert found.basis == "images"


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_equal_numbers_of_seeds_without_variance_over_images_are_welchs_test(scale):
    rng = np.random.default_rng(5)
    a, b, images = rng.normal(size=4), rng.normal(loc=1.5, scale=scale, size=4), rng.normal(size=200)
    found = compare(matrix(a[:, None] + images), matrix(b[:, None] + images))
    expected = stats.ttest_ind(a, b, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.degrees_of_freedom == pytest.approx(expected.df, rel=1e-9)
    assert found.interval == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.basis == "seeds x images"


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_unequal_numbers_of_seeds_are_the_more_cautious_of_welchs_and_the_pooled_test(scale):
    rng = np.random.default_rng(6)
    a, b, images = rng.normal(scale=scale, size=2), rng.normal(loc=2.0, size=5), rng.normal(size=20)
    found = compare(matrix(a[:, None] + images), matrix(b[:, None] + images))
    expected = max((stats.ttest_ind(a, b, equal_var=pooled) for pooled in (False, True)), key=lambda item: item.pvalue)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.degrees_of_freedom == pytest.approx(expected.df, rel=1e-9)


def test_scores_without_images_are_compared_by_seeds():
    a, b = np.array([20.1, 21.3, 19.8]), np.array([23.0, 22.1, 24.4])
    found = compare_seeds(a, b)
    assert found.p_value == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-10)
    assert found.basis == "seeds"


def test_a_test_over_seeds_needs_two_of_each_model():
    with pytest.raises(ValueError, match="not 1 and 3"):
        compare_seeds(np.array([1.0]), np.array([1.0, 2.0, 3.0]))


def test_the_degrees_of_freedom_follow_satterthwaites_formula():
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(3, 12)), rng.normal(size=(3, 12))
    v1, v2 = a.mean(axis=1).var(ddof=1) / 3, b.mean(axis=1).var(ddof=1) / 3
    v3 = (a.mean(axis=0) - b.mean(axis=0)).var(ddof=1) / 12
    found = compare(matrix(a), matrix(b))
    assert found.standard_error == pytest.approx(math.sqrt(v1 + v2 + v3))
    assert found.degrees_of_freedom == pytest.approx((v1 + v2 + v3) ** 2 / (v1**2 / 2 + v2**2 / 2 + v3**2 / 11))


def test_exchanging_the_models_turns_the_difference_and_nothing_else():
    rng = np.random.default_rng(8)
    a, b = matrix(rng.normal(size=(2, 15))), matrix(rng.normal(size=(4, 15)))
    there, back = compare(a, b), compare(b, a)
    assert back.difference == pytest.approx(-there.difference)
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))
    assert back.p_value == pytest.approx(there.p_value)


@pytest.mark.parametrize(("num_a", "num_b"), [(1, 1), (3, 3), (2, 5)])
def test_identical_deterministic_models_do_not_differ(num_a, num_b):
    row = np.random.default_rng(9).normal(loc=500, size=1000)
    found = compare(matrix([row] * num_a), matrix([row] * num_b))
    assert (found.p_value, found.standard_error) == (1.0, 0.0)


@pytest.mark.parametrize(("num_a", "num_b"), [(1, 1), (3, 3), (2, 5)])
def test_deterministic_models_a_constant_apart_differ_for_certain(num_a, num_b):
    row = np.random.default_rng(10).normal(loc=500, size=1000)
    found = compare(matrix([row] * num_a), matrix([row + 0.1] * num_b))
    assert found.p_value == 0.0
    assert found.interval == pytest.approx((-0.1, -0.1))


def test_a_constant_score_per_image_is_compared_like_any_other():
    uniform, other = np.full(40, 784 * math.log(2)), np.random.default_rng(11).normal(loc=543, size=40)
    expected = stats.ttest_1samp(other, 784 * math.log(2)).pvalue
    assert compare(matrix(other), matrix(uniform)).p_value == pytest.approx(expected, rel=1e-9)


def test_a_model_without_variance_over_seeds_leaves_that_to_the_other():
    rng = np.random.default_rng(12)
    images, b = rng.normal(size=30), rng.normal(size=(4, 30))
    found = compare(matrix([images] * 2), matrix(b))
    v2, v3 = b.mean(axis=1).var(ddof=1) / 4, (images - b.mean(axis=0)).var(ddof=1) / 30
    assert found.standard_error == pytest.approx(math.sqrt(v2 + v3))
    assert found.degrees_of_freedom == pytest.approx((v2 + v3) ** 2 / (v2**2 / 3 + v3**2 / 29))


# --- calibration and power ---


@pytest.mark.parametrize(
    ("num_a", "num_b", "num_images", "seed", "interaction"),
    [
        (2, 2, 50, 0.1, 0.5),
        (3, 2, 400, 0.1, 0.5),
        (5, 5, 100, 0.1, 1.0),
        (2, 5, 100, 1.0, 0.0),  # seeds alone: the hardest case for Welch's test
        (4, 2, 100, 1.0, 0.1),
        (5, 5, 100, 1.0, 0.0),
        (2, 3, 50, 0.0, 1.0),  # interaction alone
        (1, 1, 100, 0.0, 1.0),
    ],
)
def test_one_models_seeds_in_two_groups_separate_in_at_most_five_percent(num_a, num_b, num_images, seed, interaction):
    rng, separated, repetitions = np.random.default_rng(13), 0, 1000
    for _ in range(repetitions):
        images = rng.normal(scale=20, size=num_images)
        scores = simulate(rng, num_a + num_b, num_images, images=images, seed=seed, interaction=interaction)
        ranks = rank_intervals([matrix(scores[:num_a]), matrix(scores[num_a:])])
        separated += ranks != (RankInterval(1, 2), RankInterval(1, 2))
    # A test of level exactly 5 % (interaction alone, one seed) is allowed two standard errors of this simulation.
    slack = 2 * math.sqrt(0.05 * 0.95 / repetitions) if num_a == 1 else 0.0
    assert separated / repetitions <= 0.05 + slack


def test_seeds_that_disagree_are_not_outvoted_by_many_images():
    rng, images_alone, crossed = np.random.default_rng(14), 0, 0
    for _ in range(200):
        images = rng.normal(scale=20, size=400)
        a, b = (simulate(rng, 3, 400, images=images, seed=0.3, interaction=0.5) for _ in range(2))
        images_alone += stats.ttest_rel(a[0], b[0]).pvalue < 0.05
        crossed += compare(matrix(a), matrix(b)).p_value < 0.05
    assert images_alone > 0.5 * 200
    assert crossed <= 0.05 * 200


@pytest.mark.parametrize(("num_seeds", "difference", "power"), [(2, 2.0, 0.8), (3, 0.5, 0.9), (5, 0.3, 0.9)])
def test_a_real_difference_is_detected(num_seeds, difference, power):
    rng, detected = np.random.default_rng(15), 0
    for _ in range(200):
        images = rng.normal(scale=20, size=400)
        a = simulate(rng, num_seeds, 400, images=images)
        b = simulate(rng, num_seeds, 400, images=images, mean=90.0 + difference)
        detected += rank_intervals([matrix(a), matrix(b)]) == (RankInterval(1, 1), RankInterval(2, 2))
    assert detected / 200 >= power


def test_the_interval_covers_the_true_difference_in_at_least_95_percent():
    rng, covered = np.random.default_rng(16), 0
    for _ in range(1000):
        images = rng.normal(scale=20, size=100)
        low, high = compare(
            matrix(simulate(rng, 3, 100, images=images)),
            matrix(simulate(rng, 3, 100, images=images, mean=91.0)),
        ).interval
        covered += low <= -1.0 <= high
    assert covered >= 950


# --- Holm ---


def test_holm_rejects_what_the_step_down_procedure_rejects():
    rng = np.random.default_rng(17)
    for _ in range(50):
        p_values = np.round(rng.uniform(size=rng.integers(1, 8)) ** 3, 2)  # rounded: ties occur
        adjusted = np.array(holm(p_values.tolist()))
        for alpha in (0.013, 0.05, 0.2):
            rejected, order = np.zeros(len(p_values), dtype=bool), np.argsort(p_values, kind="stable")
            for step, index in enumerate(order):
                if p_values[index] > alpha / (len(p_values) - step):
                    break
                rejected[index] = True
            np.testing.assert_array_equal(adjusted <= alpha, rejected)


def test_holm_of_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


def test_holm_of_nothing_is_nothing():
    assert holm([]) == ()


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_a_p_value_outside_its_range_is_rejected(value):
    with pytest.raises(ValueError, match="lie in"):
        holm([0.5, value])


# --- ranks ---


def difference_of(value, p_value=0.0):
    return Comparison(value, 1.0, 10.0, p_value, (value - 1, value + 1), "seeds x images")


@pytest.mark.parametrize(
    ("first", "second", "difference", "winner"),
    [
        ("exact", "exact", -1, 0),
        ("exact", "exact", 1, 1),
        ("upper bound", "exact", -1, 0),
        ("exact", "upper bound", 1, 1),
        ("exact", "upper bound", -1, None),
        ("upper bound", "exact", 1, None),
        ("upper bound", "upper bound", -1, 0),
        ("upper bound", "upper bound", 1, 1),
        ("estimate", "estimate", -1, 0),
        ("estimate", "exact", -1, None),
        ("upper bound", "estimate", -1, None),
        ("lower bound", "exact", -1, None),
        ("upper bound", "lower bound", 1, None),
    ],
)
def test_only_a_bound_below_an_exact_value_decides_between_kinds(first, second, difference, winner):
    assert better(difference_of(difference), (first, second), 0.0) == winner


def test_a_difference_that_is_not_significant_decides_nothing():
    assert better(difference_of(-1), ("exact", "exact"), 0.051) is None


@pytest.mark.parametrize("seed", range(4))
def test_every_true_order_that_the_proofs_allow_lies_within_the_rank_intervals(seed):
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["exact", "upper bound"], size=5).tolist()
    values = rng.permutation(5).astype(float)
    comparisons = {(i, j): difference_of(values[i] - values[j]) for i, j in itertools.combinations(range(5), 2)}
    ranking = rank(kinds, comparisons)
    for order in itertools.permutations(range(5)):
        position = {model: place + 1 for place, model in enumerate(order)}
        if all(position[winner] < position[loser] for winner, loser in ranking.beats):
            assert all(ranking.intervals[k].best <= position[k] <= ranking.intervals[k].worst for k in range(5))


def test_a_loose_bound_and_an_exact_value_below_it_share_their_ranks():
    kinds = ("exact", "upper bound")
    intervals = rank(kinds, {(0, 1): difference_of(-1)}).intervals
    assert intervals == (RankInterval(1, 2), RankInterval(1, 2))


def test_ranks_are_intervals_because_ties_are_not_transitive():
    comparisons = {(0, 1): difference_of(-1, 0.4), (1, 2): difference_of(-1, 0.4), (0, 2): difference_of(-2, 0.001)}
    intervals = rank(["exact"] * 3, comparisons).intervals
    assert [str(interval) for interval in intervals] == ["1-2", "1-3", "2-3"]


def test_ranks_hold_for_the_whole_family_of_pairs():
    comparisons = {(0, 1): difference_of(-1, 0.03), (0, 2): difference_of(-1, 0.04), (1, 2): difference_of(-1, 0.9)}
    ranking = rank(["exact"] * 3, comparisons)
    assert ranking.p_values == pytest.approx({(0, 1): 0.09, (0, 2): 0.09, (1, 2): 0.9})
    assert ranking.beats == frozenset()


def test_a_pair_without_a_test_stays_open():
    assert rank(["exact"] * 3, {(0, 1): difference_of(-1)}).intervals == (
        RankInterval(1, 2),
        RankInterval(2, 3),
        RankInterval(1, 3),
    )


def test_the_order_of_a_pair_does_not_matter():
    kinds = ("upper bound", "exact")
    assert rank(kinds, {(1, 0): difference_of(1)}).beats == rank(kinds, {(0, 1): difference_of(-1)}).beats == {(0, 1)}


@pytest.mark.parametrize("pairs", [[(0, 0)], [(0, 2)], [(0, 1), (1, 0)]])
def test_a_pair_that_makes_no_sense_is_named(pairs):
    with pytest.raises(ValueError, match="must name two of 2 models"):
        rank(["exact", "exact"], {pair: difference_of(1) for pair in pairs})


def test_clearly_different_models_get_ranks_of_their_own():
    rng = np.random.default_rng(18)
    images = rng.normal(scale=20, size=100)
    models = [matrix(simulate(rng, 3, 100, images=images, mean=mean)) for mean in (95.0, 80.0, 110.0)]
    assert [str(interval) for interval in rank_intervals(models)] == ["2", "1", "3"]
    assert set(compare_all(models)) == {(0, 1), (0, 2), (1, 2)}


# --- draws ---


def test_the_share_of_draws_is_the_inverse_of_the_one_way_f():
    values = np.random.default_rng(19).normal(size=(4, 30)) + np.random.default_rng(20).normal(size=30)
    expected = stats.f_oneway(*values.T).statistic
    assert draw_share(values) == pytest.approx(1 / expected, rel=1e-10)


def test_the_share_of_draws_is_found_again_in_simulated_scores():
    rng, num_draws, image_sd, draw_sd = np.random.default_rng(21), 5, 2.0, 3.0
    values = rng.normal(scale=image_sd, size=20_000) + rng.normal(scale=draw_sd, size=(num_draws, 20_000))
    true_share = (draw_sd**2 / num_draws) / (image_sd**2 + draw_sd**2 / num_draws)
    assert draw_share(values) == pytest.approx(true_share, rel=0.03)


def test_the_standard_deviation_of_a_draw_is_the_spread_of_means_over_fresh_draws():
    rng = np.random.default_rng(22)
    images = rng.normal(scale=20, size=500)
    values = images + rng.normal(scale=4.0, size=(3, 500))
    fresh = [(images + rng.normal(scale=4.0, size=500)).mean() for _ in range(2000)]
    assert draw_standard_deviation(values) == pytest.approx(np.std(fresh, ddof=1), rel=0.06)


def test_fixed_images_owe_nothing_to_draws():
    row = np.random.default_rng(23).normal(loc=300, size=100)
    assert draw_share(np.stack([row] * 3)) == 0.0
    assert draw_standard_deviation(np.stack([row] * 3)) == 0.0


def test_where_images_do_not_differ_all_variance_comes_from_draws():
    values = np.array([[0.0, 2.0], [2.0, 0.0]])
    assert draw_share(values) == 1.0


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (5,)])
def test_variance_of_draws_needs_two_draws_of_two_images(shape):
    with pytest.raises(ValueError, match="at least 2 draws and 2 images"):
        draw_share(np.zeros(shape))


def test_the_statistics_import_neither_torch_nor_pandas_nor_the_rest_of_the_harness():
    tree = ast.parse(Path(harness.boards.statistics.__file__).read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {str(name).partition(".")[0] for name in names} & {"torch", "pandas", "harness"}
