"""The tests between figures: seeds crossed with images, Welch's, paired, and by resampling; and their calibration."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from harness.boards import pair_tests
from harness.boards.figures import ScoreMatrix, deviation, pair_images
from harness.boards.pair_tests import PairTests, RankInterval, compare_pairs, decides, rank


def scored(scores, *, kind="exact"):
    """A figure with scores per image."""
    return SimpleNamespace(values=scores.values.mean(axis=1), matrix=scores, error=None, kind=kind)


def bare(values, error=None, *, kind="exact"):
    """A figure without scores per image."""
    return SimpleNamespace(values=np.asarray(values, dtype=np.float64), matrix=None, error=error, kind=kind)


def compare(a, b):
    return pair_tests.compare(scored(a), scored(b))


def compare_seeds(a, b):
    return pair_tests.compare(bare(a), bare(b))


def rank_intervals(matrices):
    return rank([scored(item) for item in matrices]).intervals


def matrix(values, images=None):
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    images = np.arange(values.shape[1]) if images is None else images
    return ScoreMatrix(values, np.asarray(images, dtype=np.int64))


def simulate(rng, num_seeds, num_images, *, images, seed=0.1, interaction=0.5, mean=90.0):
    """mean + image effect + seed effect + interaction: a training's scores as NLLs of digits scatter."""
    seeds = rng.normal(scale=seed, size=(num_seeds, 1))
    noise = rng.normal(scale=interaction, size=(num_seeds, num_images))
    return mean + images[None, :] + seeds + noise


# --- spreads ---


def test_the_standard_error_is_that_of_the_images_means_over_seeds():
    values = np.random.default_rng(0).normal(size=(3, 7))
    assert matrix(values).standard_error == pytest.approx(stats.sem(values.mean(axis=0)))


def test_one_image_has_no_standard_error():
    assert matrix([[5.0]]).standard_error is None


def test_values_that_differ_by_rounding_have_no_deviation():
    assert deviation(np.array([107.5, 107.5 * (1 + 1e-15), 107.5])) == 0.0
    assert deviation(np.array([107.5, 107.5 * (1 + 1e-9)])) > 0


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
    assert compare(matrix([[1, 2, 3]], [1, 2, 3]), matrix([[1, 2, 3]], [3, 4, 5])) is None


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


def test_one_seed_is_compared_by_the_resampling_errors():
    found = pair_tests.compare(bare([1.0], 0.3), bare([2.0, 2.1, 1.9], 0.4))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(1 / 0.5), rel=1e-10)
    assert found.interval == pytest.approx((-1 - 1.959964 * 0.5, -1 + 1.959964 * 0.5), rel=1e-6)
    assert (found.basis, found.standard_error) == ("resampling", pytest.approx(0.5))


def test_one_seed_without_an_error_is_not_compared():
    assert pair_tests.compare(bare([1.0]), bare([1.0, 2.0, 3.0], 0.1)) is None


def test_equal_figures_without_any_error_do_not_differ():
    assert pair_tests.compare(bare([1.0], 0.0), bare([1.0], 0.0)).p_value == 1.0


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


def rejected(p_values, alpha, *, parts=1):
    """The places of what is rejected of some p-values, which come in parts."""
    p_values = np.asarray(p_values, dtype=float)
    places = np.flatnonzero(p_values <= alpha)
    number = (~np.isnan(p_values)).sum()
    read = [PairTests(some, some, p_values[some], 0, frozenset()) for some in np.array_split(places, parts)]
    read.append(PairTests(places[:0], places[:0], p_values[:0], number, frozenset()))
    return PairTests.joined(pair_tests.rejected(lambda: read, alpha)).lower


def stepped_down(p_values, alpha):
    """The same one by one, as the method is defined."""
    expected, order = [], np.argsort(p_values, kind="stable")
    for step, index in enumerate(order):  # NaN is last
        if not p_values[index] * ((~np.isnan(p_values)).sum() - step) <= alpha:
            break
        expected.append(index)
    return expected


def test_holm_rejects_what_the_step_down_procedure_rejects():
    rng = np.random.default_rng(17)
    for _ in range(50):
        p_values = np.round(rng.uniform(size=rng.integers(1, 8)) ** 3, 2)  # rounded: ties occur
        for alpha in (0.013, 0.05, 0.2):
            assert sorted(rejected(p_values, alpha)) == sorted(stepped_down(p_values, alpha))


@pytest.mark.parametrize("alpha", [0.013, 0.05, 1.0])
def test_holm_of_parts_is_holm_of_the_whole_to_the_last_bit(alpha):
    rng = np.random.default_rng(18)
    for _ in range(400):
        number = rng.integers(0, 60)
        exact = alpha / rng.integers(1, 61, number)  # where the method decides, and just beside it; with ties
        choices = [
            exact,
            np.nextafter(exact, 0),
            np.nextafter(exact, 1),
            exact * rng.uniform(1 - 1e-6, 1 + 1e-6, number),
        ]
        choices += [rng.uniform(size=number), np.round(rng.uniform(size=number), 2), *np.full((2, number), 5e-324)]
        choices += [np.zeros(number), np.full(number, math.nan)]
        p_values = np.minimum(rng.permuted(choices, axis=0)[0], 1.0)
        found = rejected(p_values, alpha, parts=rng.integers(1, 6))
        assert sorted(found) == sorted(stepped_down(p_values, alpha))


def test_holm_of_a_worked_example():
    assert sorted(rejected([0.01, 0.04, 0.03, 0.005], 0.05).tolist()) == [0, 3]
    assert sorted(rejected([0.01, 0.04, 0.03, 0.005], 0.06).tolist()) == [0, 1, 2, 3]


def test_holm_of_nothing_is_nothing():
    assert rejected([], 0.05).tolist() == []


# --- kinds and ranks ---


@pytest.mark.parametrize(
    ("lower", "higher", "is_proven"),
    [
        ("exact", "exact", True),
        ("upper bound", "exact", True),
        ("exact", "upper bound", False),
        ("upper bound", "upper bound", True),
        ("estimate", "estimate", True),
        ("estimate", "exact", False),
        ("upper bound", "estimate", False),
        ("lower bound", "exact", False),
        ("upper bound", "lower bound", False),
    ],
)
def test_only_a_bound_below_an_exact_value_decides_between_kinds(lower, higher, is_proven):
    assert bool(decides(lower, higher)) is is_proven


def apart(values, kinds):
    """Figures that are all told apart: no two differ by less than a thousand times their spread."""
    return [bare([value, value + 1e-3], kind=kind) for value, kind in zip(values, kinds, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_every_true_order_that_the_proofs_allow_lies_within_the_rank_intervals(seed):
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["exact", "upper bound"], size=5).tolist()
    values = rng.permutation(5).astype(float)
    beats = [
        (i, j) for i, j in itertools.permutations(range(5), 2) if values[i] < values[j] and decides(kinds[i], kinds[j])
    ]
    intervals = rank(apart(values, kinds)).intervals
    for order in itertools.permutations(range(5)):
        position = {model: place + 1 for place, model in enumerate(order)}
        if all(position[winner] < position[loser] for winner, loser in beats):
            assert all(intervals[k].best <= position[k] <= intervals[k].worst for k in range(5))


def test_a_loose_bound_and_an_exact_value_below_it_share_their_ranks():
    intervals = rank(apart([1.0, 2.0], ["exact", "upper bound"])).intervals
    assert intervals == (RankInterval(1, 2), RankInterval(1, 2))


def test_ranks_are_intervals_because_ties_are_not_transitive():
    figures = [bare([mean - 1, mean, mean + 1]) for mean in (0.0, 2.0, 4.0)]
    assert [str(interval) for interval in rank(figures).intervals] == ["1–2", "1–3", "2–3"]


def test_ranks_hold_for_the_whole_family_of_pairs():
    pair = [bare([0.0, 1.0, 2.0]), bare([2.8, 3.8, 4.8])]
    others = [bare([mean, mean + 1, mean + 2]) for mean in (0.5, 1.0, 1.5, 2.0)]
    assert rank(pair).intervals == (RankInterval(1, 1), RankInterval(2, 2))
    assert rank([*pair, *others]).intervals[0] == RankInterval(1, 6)


def test_a_pair_without_a_test_stays_open():
    ranks = rank([*apart([1.0, 2.0], ["exact", "exact"]), bare([3.0])])
    assert ranks.intervals == (RankInterval(1, 2), RankInterval(2, 3), RankInterval(1, 3))
    assert (ranks.num_pairs, ranks.untested) == (1, 2)


def test_clearly_different_models_get_ranks_of_their_own():
    rng = np.random.default_rng(18)
    images = rng.normal(scale=20, size=100)
    models = [matrix(simulate(rng, 3, 100, images=images, mean=mean)) for mean in (95.0, 80.0, 110.0)]
    assert [str(interval) for interval in rank_intervals(models)] == ["2", "1", "3"]


# --- all pairs at once ---

IMAGES = np.arange(60) * 7 - 100


def board(seed, num_rows=14, *, bare_rows=5):
    """Rows of 1 to 5 seeds on images that overlap, near and far, in any order; some have no scores per image."""
    rng, rows = np.random.default_rng(seed), []
    difficulty = rng.normal(scale=20, size=len(IMAGES))
    sets = [np.arange(60), rng.permutation(60), np.arange(10, 55), np.array([3]), np.repeat(np.arange(20), 2)]
    kinds = ["exact", "upper bound", "estimate"]
    for _ in range(num_rows):
        chosen, num_seeds = sets[rng.integers(len(sets))], rng.integers(1, 6)
        values = 90 + rng.normal(scale=1) + difficulty[chosen] + rng.normal(scale=0.3, size=(num_seeds, 1))
        values = values + rng.normal(scale=10.0 ** rng.integers(-6, 1), size=(num_seeds, len(chosen)))
        rows.append(scored(matrix(values, IMAGES[chosen]), kind=kinds[rng.integers(3)]))
    for _ in range(bare_rows):
        values, error = 90 + rng.normal(scale=0.5, size=rng.integers(1, 4)), 0.2 if rng.random() < 0.7 else None
        rows.append(bare(values, error))
    return [rows[place] for place in rng.permutation(len(rows))]


def one_by_one(figures):
    """{(i, j): comparison}: one pair at a time."""
    pairs = itertools.combinations(range(len(figures)), 2)
    found = {(i, j): pair_tests.compare(figures[i], figures[j]) for i, j in pairs}
    return {pair: comparison for pair, comparison in found.items() if comparison is not None}


@pytest.mark.parametrize("seed", range(12))
def test_every_pair_has_the_p_value_of_the_test_of_that_pair_alone(seed):
    figures = board(seed)
    alone = one_by_one(figures)
    for alpha in (0.05, 1.0):
        tests = PairTests.joined(compare_pairs(figures, alpha=alpha))
        expected = {
            (pair if item.difference < 0 else pair[::-1]): item.p_value
            for pair, item in alone.items()
            if item.p_value <= alpha and item.difference != 0
        }
        values = dict(zip(zip(tests.lower.tolist(), tests.higher.tolist(), strict=True), tests.p_values, strict=True))
        assert values == {pair: pytest.approx(p_value, rel=1e-9, abs=1e-300) for pair, p_value in expected.items()}
        assert tests.num_tested == len(alone)
        assert tests.bases == {item.basis for item in alone.values()}


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e-8])
def test_models_that_differ_by_little_beside_their_images_have_the_paired_t_tests_p_value(scale):
    rng = np.random.default_rng(0)
    common = 100 * rng.normal(size=60) + 500
    rows = [common + scale * rng.normal(size=60) for _ in range(4)]
    tests = PairTests.joined(compare_pairs([scored(matrix(row)) for row in rows], alpha=1.0))
    for low, high, p_value in zip(tests.lower, tests.higher, tests.p_values, strict=True):
        # scores are rounded to 1e-13 themselves
        assert p_value == pytest.approx(stats.ttest_rel(rows[low], rows[high]).pvalue, rel=max(1e-9, 1e-11 / scale))
    assert tests.num_tested == 6


def test_rows_that_are_equal_or_a_constant_apart_are_as_certain_as_one_by_one():
    row = np.random.default_rng(1).normal(loc=500, size=60)
    figures = [scored(matrix([row] * count)) for count in (1, 2, 3)]
    figures += [scored(matrix([row + 0.1] * count)) for count in (1, 2)]
    tests = PairTests.joined(compare_pairs(figures, alpha=0.05))
    pairs = zip(tests.lower.tolist(), tests.higher.tolist(), tests.p_values.tolist(), strict=True)
    assert set(pairs) == {(low, high, 0.0) for low in (0, 1, 2) for high in (3, 4)}
    assert tests.num_tested == 10


def test_no_figures_and_a_single_one_have_no_tests():
    assert rank([]).intervals == ()
    assert [str(item) for item in rank([scored(matrix(np.ones((2, 60))))]).intervals] == ["1"]
