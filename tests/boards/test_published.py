import ast
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import harness.boards.published
from harness.boards.published import (
    CONVERSIONS,
    TAGS,
    MeasuredFigure,
    PublishedFigure,
    load_published,
    tolerance,
    verdict,
)

PATH = Path(__file__).parents[2] / "leaderboards" / "published.toml"
FIGURES = load_published(PATH)

ROW = """
[{slug}]
label = "NADE"
dataset = "mnist-static"
metric = "nll"
split = "test"
kind = "exact"
value = 88.33
printed = "88.33"
unit = "nats"
tags = ["2"]
verified = true
"""


@pytest.fixture
def published_file(tmp_path):
    def write(old="", new="", slug="nade"):
        path = tmp_path / "published.toml"
        path.write_text(ROW.format(slug=slug).replace(old, new) if old else ROW.format(slug=slug))
        return path

    return write


def figure(**changes):
    fields = {
        "slug": "nade",
        "label": "NADE",
        "dataset": "mnist-static",
        "metric": "nll",
        "split": "test",
        "kind": "exact",
        "value": 88.33,
        "printed": "88.33",
        "unit": "nats",
        "tags": ("2",),
        "verified": True,
        "model": "nade",
        "hyperparameters": {"hidden": 500},
        "epochs": 200.0,
    }
    return PublishedFigure(**{**fields, **changes})


def measured(value=88.33, **changes):
    ours = MeasuredFigure(
        "nade", "mnist-static", "nll", "test", "exact", value, hyperparameters={"hidden": 500, "lr": 0.1}, epochs=200.0
    )
    return replace(ours, **changes)


# --- the file ---


@pytest.mark.parametrize("slug", FIGURES)
def test_the_value_is_its_conversion_of_the_printed_digits(slug):
    published = FIGURES[slug]
    decimals = len(repr(published.value).partition(".")[2])
    dimensions = {"mnist": 784, "fashion-mnist": 784, "imagenet64": 12288, "celeba": 12288}
    size = dimensions.get(published.dataset, 784 if published.dataset.startswith("mnist") else 3072)
    converted = CONVERSIONS[published.conversion](float(published.printed), size)
    assert published.value == round(converted, decimals)


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_every_conversion_is_used(conversion):
    assert any(published.conversion == conversion for published in FIGURES.values())


def test_a_density_in_the_unit_interval_becomes_bits_of_the_integer_image():
    # A density that is constant over [0, 1]^D spreads 8 bits over every entry, and its log is zero.
    assert CONVERSIONS["nats-in-unit-interval-to-bits-per-dim"](0.0, 784) == 8
    rng, size = np.random.default_rng(0), 5
    log_density_of_levels = rng.normal(size=1000)  # of x in [0, 256)^D
    scaled = log_density_of_levels + size * math.log(256)  # of x / 256
    expected = -log_density_of_levels.mean() / (size * math.log(2))
    assert CONVERSIONS["nats-in-unit-interval-to-bits-per-dim"](scaled.mean(), size) == pytest.approx(expected)


def test_a_density_in_the_symmetric_interval_becomes_bits_of_the_integer_image():
    rng, size = np.random.default_rng(1), 5
    log_density_of_levels = rng.normal(size=1000)
    scaled = log_density_of_levels + size * math.log(128)  # of x / 128 - 1
    expected = -log_density_of_levels.mean() / (size * math.log(2))
    assert CONVERSIONS["nats-in-symmetric-interval-to-bits-per-dim"](scaled.mean(), size) == pytest.approx(expected)


def test_a_unit_variance_density_a_pixel_becomes_bits_per_dim():
    log2_density_of_levels = -4.2  # an entry
    scaled = 3 * (log2_density_of_levels + math.log2(64.15))  # three entries of x / 64.15
    assert CONVERSIONS["bits-per-cifar10-pixel-to-bits-per-dim"](scaled, 3072) == pytest.approx(4.2)


@pytest.mark.parametrize(
    ("slug", "value"),
    [
        ("nice-cifar10", 4.477),
        ("deep-diffusion-cifar10", 4.203),
        ("nice-mnist", 4.356),
        ("vae-diagonal-covariance-dynamic-vlb", 84.08),
        ("vae-diagonal-covariance-dynamic", 81.08),
        ("made-2hl-32-masks", 86.64),
        ("nade", 88.33),
        ("eonade-2hl-128", 85.10),
        ("iwae-1l-k50-static", 87.10),
        ("vae-1l-k1-static", 88.71),
        ("iwae-2l-k50-dynamic", 82.90),
        ("sn-gan-cnn-cifar10-fid", 29.3),
    ],
)
def test_known_figures_are_in_the_file(slug, value):
    assert FIGURES[slug].value == value


def test_tags_are_known_and_memory_is_never_verified():
    for published in FIGURES.values():
        assert set(published.tags) <= set(TAGS)
        assert published.verified == ("?" not in published.tags)


def test_exactly_the_figures_from_memory_are_unverified():
    flows = {f"flow-table-{flow}-k{k}" for flow in ("planar", "nice") for k in (10, 20, 40)} | {"flow-table-diagonal"}
    rows = {"dbm-2hl", "eonade-2hl-128", "dlgm", "made-2hl-32-masks", "row-lstm"}
    assert {slug for slug, published in FIGURES.items() if not published.verified} == flows | rows


def test_densities_on_dequantized_pixels_are_bounds_however_they_are_printed():
    for name in ("multivariate-gaussian", "nice", "realnvp", "deep-gmm", "ride"):
        rows = [published for slug, published in FIGURES.items() if slug.startswith(f"{name}-")]
        assert rows
        assert {published.kind for published in rows} == {"upper bound"}


def test_the_same_number_in_two_tables_stays_two_figures():
    static, dynamic = FIGURES["vae-iaf"], FIGURES["draw-vgp-dynamic-vlb"]
    assert static.value == dynamic.value == 79.88
    assert (static.dataset, static.metric) != (dynamic.dataset, dynamic.metric)


def test_the_iwae_rows_are_trained_for_the_sum_of_its_schedule():
    rows = [published for published in FIGURES.values() if published.metric == "iwae-5000"]
    assert len(rows) == 24
    assert {published.epochs for published in rows} == {sum(3**i for i in range(8))}


def test_training_with_one_sample_is_one_objective_under_two_names():
    for layers in (1, 2):
        for data in ("static", "dynamic"):
            assert FIGURES[f"vae-{layers}l-k1-{data}"].value == FIGURES[f"iwae-{layers}l-k1-{data}"].value


# --- loading ---


def test_a_row_is_read_as_it_is_written(published_file):
    published = load_published(published_file())["nade"]
    assert (published.value, published.printed, published.tags, published.model) == (88.33, "88.33", ("2",), None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('unit = "nats"', 'unit = "nats"\nvalu = 3', "nade: unknown key 'valu' \\(did you mean 'value'"),
        ('tags = ["2"]', 'tags = ["Q"]', "nade: tags.0 has to be 'P', 'C', '2', 'L' or '\\?', not 'Q'"),
        ('tags = ["2"]', "tags = []", "nade: tags has to hold at least 1"),
        ('tags = ["2"]', 'tags = ["?"]', "nade: verified = true contradicts the tags \\?"),
        ("verified = true", "verified = false", "nade: verified = false contradicts the tags 2"),
        ("verified = true\n", "", "nade: verified is missing"),
        ('"exact"', '"exakt"', "nade: kind has to be 'exact', .* not 'exakt'"),
        ('"nll"', '"nlls"', "nade: metric has to match .* not 'nlls'"),
        ('"mnist-static"', '"mnist-statik"', "nade: dataset 'mnist-statik' is not one of mnist, mnist-static"),
        ("value = 88.33", "value = 88.3301", "nade: value 88.3301 is not identity of 88.33, which is 88.33"),
        ("value = 88.33", 'value = "88.33"', "nade: value has to be a number, not '88.33'"),
        (
            'unit = "nats"',
            'unit = "nats"\nconversion = "flip"',
            "nade: conversion 'flip' is not one of identity, negate",
        ),
        ('unit = "nats"', 'unit = "nats"\nover = "splits"', "nade: over = 'splits' needs a standard_deviation"),
        ('unit = "nats"', 'unit = "nats"\nslug = "x"', "nade: must be a table \\[nade\\] without a key 'slug'"),
        ("[nade]", "[NADE]", "NADE: slug has to match"),
        ("[nade]", "[nade", "published.toml: "),
        ("[nade]", "stray = 3\n[nade]", "stray: must be a table"),
    ],
)
def test_a_mistake_in_the_file_is_named(published_file, old, new, message):
    with pytest.raises(ValueError, match=message):
        load_published(published_file(old, new))


def test_all_mistakes_are_named_at_once(tmp_path):
    path = tmp_path / "published.toml"
    rows = ROW.format(slug="first") + ROW.format(slug="second")
    path.write_text(rows.replace('"exact"', '"exakt"').replace('"nats"', "3"))
    with pytest.raises(ValueError, match=r"first: kind.*first: unit.*second: kind.*second: unit"):
        load_published(path)


# --- verdicts ---


def test_the_published_value_is_reproduced():
    assert verdict(measured(), figure()).judgement == "reproduced"


def test_rounding_of_the_printed_digits_is_allowed_for():
    assert verdict(measured(88.335), figure()).judgement == "reproduced"
    assert verdict(measured(88.336), figure()).judgement != "reproduced"


@pytest.mark.parametrize("printed", ["4.70", "8.00"])
def test_trailing_zeros_count_as_printed_digits(printed):
    published = figure(value=float(printed), printed=printed)
    assert published.half_digit == pytest.approx(0.005)


def test_half_a_digit_is_carried_through_the_conversion():
    assert FIGURES["deep-diffusion-cifar10"].half_digit == pytest.approx(
        0.005 / 3 + abs(math.log2(64.15) - 1.8 - 4.203)
    )
    assert FIGURES["iaf-depth-2-width-320-dynamic"].half_digit == pytest.approx(0.005)


def test_the_tolerance_adds_the_trainings_of_both_sides_in_quadrature():
    published = figure(standard_deviation=0.04, over="trainings")
    assert tolerance(measured(standard_deviation=0.03), published) == pytest.approx(2 * 0.05)


def test_a_spread_over_splits_is_no_spread_over_trainings():
    published = figure(standard_deviation=5.0, over="splits")
    assert tolerance(measured(), published) == pytest.approx(0.005)


def test_a_spread_over_something_unknown_does_not_widen_the_tolerance():
    assert tolerance(measured(), figure(standard_deviation=47.5)) == pytest.approx(0.005)


def test_a_figure_far_better_than_published_says_so():
    found = verdict(measured(80.0), figure())
    assert found.judgement == "reproduced"
    assert "better than published by 8.3" in found.reason


def test_worse_after_as_much_training_is_not_reproduced():
    assert verdict(measured(90.0), figure()).judgement == "not reproduced"


def test_worse_after_less_training_is_under_trained():
    found = verdict(measured(90.0, epochs=20.0), figure())
    assert found.judgement == "under-trained"
    assert "20 epochs against 200" in found.reason


@pytest.mark.parametrize(("seconds", "judgement"), [(3600.0, "under-trained"), (86400.0, "not reproduced")])
def test_worse_than_a_row_of_unknown_training_is_under_trained_after_less_than_a_day(seconds, judgement):
    found = verdict(measured(90.0, epochs=20.0, seconds=seconds), figure(epochs=None))
    assert found.judgement == judgement
    assert "published training length unknown" in found.reason
    assert ("ours 60 min" in found.reason) == (judgement == "under-trained")


def test_a_training_of_minutes_of_as_many_epochs_is_not_under_trained():
    assert verdict(measured(90.0, epochs=200.0, seconds=60.0), figure()).judgement == "not reproduced"


def test_a_closed_form_is_never_under_trained():
    found = verdict(measured(90.0, epochs=None), figure(epochs=None))
    assert found.judgement == "not reproduced"
    assert "training length" not in found.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "made"}, "model: ours is made, the published one nade"),
        ({"dataset": "mnist-dynamic"}, "dataset: ours is mnist-dynamic, the published one mnist-static"),
        ({"metric": "bits-per-dim"}, "metric: ours is bits-per-dim, the published one nll"),
        ({"split": "valid"}, "split: ours is valid, the published one test"),
        ({"kind": "upper bound"}, "kind: ours is upper bound, the published one exact"),
        ({"hyperparameters": {"hidden": 50}}, "hyperparameter hidden: ours is 50, the published one 500"),
        ({"hyperparameters": {}}, "hyperparameter hidden: ours does not state it, the published one is 500"),
        ({"hyperparameters": None}, "hyperparameter hidden: ours does not state it, the published one is 500"),
    ],
)
def test_what_is_not_comparable_says_what_differs(changes, reason):
    found = verdict(measured(**changes), figure())
    assert (found.judgement, found.reason) == ("not comparable", reason)


def test_bounds_of_different_sample_numbers_are_not_comparable():
    ours, published = measured(metric="iwae-50"), figure(metric="iwae-5000")
    assert verdict(ours, published).reason == "metric: ours is iwae-50, the published one iwae-5000"


def test_a_source_that_does_not_name_its_split_cannot_be_reproduced():
    assert verdict(measured(), figure(split=None)).judgement == "not comparable"


def test_tuples_and_lists_of_hyperparameters_are_the_same():
    ours = measured(hyperparameters={"hidden": (8000, 8000)})
    assert verdict(ours, figure(hyperparameters={"hidden": [8000, 8000]})).judgement == "reproduced"


def test_a_row_for_no_model_of_ours_takes_any_model():
    assert verdict(measured(model="other"), figure(model=None)).judgement == "reproduced"


def test_an_unverified_figure_is_never_confirmed_without_saying_so():
    found = verdict(measured(), figure(tags=("?",), verified=False))
    assert found.judgement == "reproduced"
    assert found.reason.endswith("the published figure is unverified")


@pytest.mark.parametrize(("value", "judgement"), [(9.0, "reproduced"), (6.16, "reproduced"), (5.0, "not reproduced")])
def test_a_higher_inception_score_is_better(value, judgement):
    published = FIGURES["dcgan-cifar10-is"]
    ours = MeasuredFigure("dcgan", "cifar10", "inception-score", "test", "estimate", value)
    assert verdict(ours, published).judgement == judgement


def test_published_figures_import_no_torch():
    tree = ast.parse(Path(harness.boards.published.__file__).read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name for name in names if str(name).startswith(("torch", "harness"))} == {
        "harness.interface.spec",
        "harness.suites.toml",
        "harness.support.names",
        "harness.support.numbers",
    }
