"""nll and bits-per-dim against tables, hand sums and the uniform distribution."""

import math
from functools import partial

import pytest
import torch

from harness import (
    BernoulliSplit,
    Dataset,
    Evaluation,
    ExactLikelihood,
    ImageSpec,
    ImportanceWeighted,
    NonFiniteScore,
    Split,
)
from harness.builtin.metrics.likelihood import IWAE, NLL, ON_ALL_DRAWS, BitsPerDim
from harness.discovery.manager import plugin_manager

BINARY = ImageSpec(1, 2, 2, levels=2)


class LookUp(ExactLikelihood):
    """A table of the log-probabilities of all 16 binary images of four pixels."""

    def __init__(self, spec, *, table=None):
        super().__init__(spec)
        table = torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        self.register_buffer("table", table.log_softmax(0))

    def log_prob(self, images):
        return self.table[index_of(images)]

    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        raise NotImplementedError


class Uniform(ExactLikelihood):
    def log_prob(self, images):
        return torch.full((len(images),), -self.spec.num_dimensions * math.log(self.spec.levels), dtype=torch.float64)

    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        raise NotImplementedError


def index_of(images):
    return (images.flatten(1).long() * torch.tensor([1, 2, 4, 8])).sum(1)


def images_of(spec, number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(spec.levels, (number, *spec.shape), generator=generator).to(torch.uint8)


def evaluate(metric, model, test, **options):
    data = Dataset("toy", model.spec, Split(images_of(model.spec, 3)), Split(images_of(model.spec, 4)), test)
    return metric().evaluate(Evaluation(model, data, **options))


class Returns(Uniform):
    def __init__(self, spec, make):
        super().__init__(spec)
        self.log_prob = make


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda images: torch.zeros(len(images), dtype=torch.int64), "not (7,) int64"),
        (lambda images: torch.zeros(len(images), dtype=torch.float16), "not (7,) float16"),
        (lambda images: torch.zeros(len(images), dtype=torch.complex64), "not (7,) complex64"),
        (lambda images: torch.zeros(len(images), 1), "not (7, 1) float32"),
        (lambda images: 0.0, "not float"),
    ],
)
def test_scores_of_another_type_or_shape_are_named(make, says):
    with pytest.raises(ValueError, match="log_prob must return") as caught:
        evaluate(NLL, Returns(BINARY, make), Split(images_of(BINARY, 7)))
    assert says in str(caught.value)


@pytest.mark.parametrize("metric", [NLL, BitsPerDim])
def test_one_log_probability_above_zero_is_impossible(metric):
    model = Returns(BINARY, lambda images: torch.where(torch.arange(len(images)) == 3, 0.01, -2.0))
    with pytest.raises(ValueError, match=r"log_prob is 0.01 nats for image 3, and above 0 for 1 images"):
        evaluate(metric, model, Split(images_of(BINARY, 7)))


def test_a_certain_model_may_round_to_a_little_above_zero():
    model = Returns(BINARY, lambda images: torch.full((len(images),), 4e-6))
    assert evaluate(NLL, model, Split(images_of(BINARY, 7))).value == pytest.approx(0, abs=1e-5)


def test_nll_is_the_hand_sum_over_the_whole_split_last_partial_batch_included():
    model, test = LookUp(BINARY), Split(images_of(BINARY, 7))
    by_hand = -sum(model.table[i].item() for i in index_of(test.images).tolist()) / 7
    score = evaluate(NLL, model, test, batch_size=3)
    assert score.value == pytest.approx(by_hand, rel=1e-14)
    assert (score.kind, score.protocol["images"], score.protocol["split"]) == ("exact", "7", "test")


def test_nll_does_not_depend_on_the_batch_size():
    model, test = LookUp(BINARY), Split(images_of(BINARY, 7))
    scores = [evaluate(NLL, model, test, batch_size=size) for size in (1, 2, 3, 7, 100)]
    for score in scores[1:]:
        assert torch.equal(score.per_image, scores[0].per_image)
        assert score.value == scores[0].value


def test_scores_an_image_are_kept_in_the_order_of_the_split():
    model, test = LookUp(BINARY), Split(images_of(BINARY, 9))
    score = evaluate(NLL, model, test, batch_size=4)
    assert torch.equal(score.per_image, -model.table[index_of(test.images)])


def test_the_standard_error_is_the_standard_deviation_over_images_over_root_n():
    model, test = LookUp(BINARY), Split(images_of(BINARY, 7))
    score = evaluate(NLL, model, test)
    values = [-model.table[i].item() for i in index_of(test.images).tolist()]
    mean = sum(values) / 7
    by_hand = math.sqrt(sum((value - mean) ** 2 for value in values) / 6 / 7)
    assert score.standard_error == pytest.approx(by_hand, rel=1e-12)


def test_a_single_image_has_no_standard_error():
    assert evaluate(NLL, LookUp(BINARY), Split(images_of(BINARY, 1))).standard_error is None


def test_the_uniform_distribution_over_8_bit_images_has_8_bits_a_dimension():
    spec = ImageSpec(3, 4, 4, levels=256)
    score = evaluate(BitsPerDim, Uniform(spec), Split(images_of(spec, 5)))
    assert score.value == pytest.approx(8.0, abs=1e-12)


def test_bits_a_dimension_are_nats_over_d_ln_2_image_by_image():
    model, test = LookUp(BINARY), Split(images_of(BINARY, 7))
    nats, bits = evaluate(NLL, model, test), evaluate(BitsPerDim, model, test)
    torch.testing.assert_close(bits.per_image, nats.per_image / (4 * math.log(2)), rtol=1e-14, atol=0)


def test_random_data_score_the_mean_over_their_five_draws():
    model = LookUp(BINARY)
    grey = torch.randint(256, (11, 1, 2, 2), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    test = BernoulliSplit(grey, num_draws=5, seed=4)
    score = evaluate(NLL, model, test, batch_size=4)
    by_draw = torch.stack([-model.table[index_of(test.draw(k).images)] for k in range(5)])
    torch.testing.assert_close(score.per_image, by_draw.mean(0), rtol=1e-14, atol=0)
    assert score.value == pytest.approx(by_draw.mean().item(), rel=1e-14)
    assert score.protocol["draws"] == "5"


class OfWeights(ImportanceWeighted, LookUp):
    """Its weights are the exact probabilities."""

    def log_importance_weights(self, images, num_samples):
        return self.log_prob(images).expand(num_samples, -1)


@pytest.mark.parametrize(("num_samples", "num_draws"), [(ON_ALL_DRAWS, 5), (ON_ALL_DRAWS + 1, 1)])
def test_many_weights_are_drawn_for_the_first_draw_of_random_data_alone(num_samples, num_draws):
    model = OfWeights(BINARY)
    grey = torch.randint(256, (11, 1, 2, 2), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    test = BernoulliSplit(grey, num_draws=5, seed=4)
    score = evaluate(partial(IWAE, num_samples=num_samples), model, test)
    by_draw = torch.stack([-model.table[index_of(test.draw(k).images)] for k in range(num_draws)])
    torch.testing.assert_close(score.per_image, by_draw.mean(0), rtol=1e-12, atol=0)
    assert score.protocol["draws"] == str(num_draws)


def test_random_data_say_which_share_of_the_variance_the_draws_are():
    model = LookUp(BINARY)
    grey = torch.randint(256, (11, 1, 2, 2), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    test = BernoulliSplit(grey, num_draws=5, seed=4)
    score = evaluate(NLL, model, test)
    values = torch.stack([-model.table[index_of(test.draw(k).images)] for k in range(5)])
    within = values.var(0, correction=1).mean()
    assert score.details["draw_sd_of_mean"] == pytest.approx((within / 11).sqrt().item(), rel=1e-12)
    share = within / 5 / values.mean(0).var(correction=1)
    assert score.details["draw_share_of_variance"] == pytest.approx(share.item(), rel=1e-12)


def test_one_impossible_image_is_an_error_not_an_infinite_mean():
    model, test = LookUp(BINARY), Split(images_of(BINARY, 7))
    model.table[index_of(test.images)[4]] = -math.inf
    with pytest.raises(NonFiniteScore, match="the first is image"):
        evaluate(NLL, model, test)


def test_the_validation_split_is_scored_where_it_is_asked_for():
    model = LookUp(BINARY)
    score = evaluate(NLL, model, Split(images_of(BINARY, 7)), split="valid")
    assert torch.equal(score.per_image, -model.table[index_of(images_of(BINARY, 4))])
    assert score.protocol["split"] == "valid"


def test_every_registered_metric_loads_under_the_name_it_is_registered_by():
    manager = plugin_manager(())
    names = ["iwae-5000", *(entry.name for entry in manager.entries("metric") if entry.pattern is None)]
    for name in names:
        entry, arguments = manager.find("metric", name)
        if entry.module.startswith("harness.builtin.metrics"):
            assert entry.load()(**arguments).name == name
    assert {"nll", "bits-per-dim", "negative-elbo", "iwae-5000", "active-units", "peak-memory"} <= set(names)
