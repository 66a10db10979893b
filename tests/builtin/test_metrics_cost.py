"""Parameters and floating-point operations of models small enough to count by hand."""

import pytest
import torch
from torch import nn

from harness import Dataset, Evaluation, ExactLikelihood, ImageSpec, Model, Split, Unsupported, VariationalBound
from harness.builtin.metrics.cost import (
    FitSeconds,
    FlopsSampling,
    FlopsScoring,
    FlopsTraining,
    ParametersSampling,
    ParametersTraining,
)
from harness.interface.training import FitSummary

SPEC = ImageSpec(1, 2, 3, levels=256)
ENCODER, DECODER = 6 * 5 + 5, 5 * 7 + 7 + 7 * 6 + 6


class Autoencoder(VariationalBound):
    """6 -> 5 -> 7 -> 6; only the decoder draws."""

    def __init__(self, spec):
        super().__init__(spec)
        self.encoder = nn.Linear(6, 5)
        self.decoder = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def elbo(self, images):
        return -self.decoder(self.encoder(images.flatten(1).float())).square().sum(1)

    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        return self.decoder(torch.randn(num_samples, 5)).sigmoid().mul(255).to(torch.uint8).view(-1, 1, 2, 3)


def dataset_of(number, spec=SPEC):
    images = Split(torch.zeros(number, *spec.shape, dtype=torch.uint8))
    return Dataset("toy", spec, images, images, images)


def evaluate(metric, model, **options):
    return metric().evaluate(Evaluation(model, dataset_of(3, model.spec), **options))


def test_training_parameters_are_all_floating_point_entries_of_the_state():
    assert evaluate(ParametersTraining, Autoencoder(SPEC)).value == ENCODER + DECODER


def test_sampling_parameters_exclude_the_encoder():
    assert evaluate(ParametersSampling, Autoencoder(SPEC)).value == DECODER


def test_a_parameter_that_is_read_through_a_view_of_a_view_counts():
    class Viewed(Autoencoder):
        def sample(self, num_samples):
            row = self.encoder.weight.t()[1:3].detach().unsqueeze(0)
            return (torch.zeros(num_samples, 1, 2, 3) + row.sum()).to(torch.uint8)

    assert evaluate(ParametersSampling, Viewed(SPEC)).value == 6 * 5


def test_buffers_count_like_parameters():
    class Buffered(Autoencoder):
        def __init__(self, spec):
            super().__init__(spec)
            self.register_buffer("mean", torch.zeros(6))

        def sample(self, num_samples):
            return self.mean.expand(num_samples, 6).round().to(torch.uint8).view(-1, 1, 2, 3)

    assert evaluate(ParametersSampling, Buffered(SPEC)).value == 6


def test_tied_weights_count_once():
    class Tied(Autoencoder):
        def __init__(self, spec):
            super().__init__(spec)
            self.again = self.decoder[0]

    assert evaluate(ParametersTraining, Tied(SPEC)).value == ENCODER + DECODER
    assert evaluate(ParametersSampling, Tied(SPEC)).value == DECODER


def test_counting_leaves_the_random_numbers_alone():
    model = Autoencoder(SPEC)
    expected = torch.get_rng_state()
    for metric in (ParametersSampling, FlopsSampling, FlopsScoring):
        evaluate(metric, model)
    assert torch.equal(torch.get_rng_state(), expected)


def test_a_linear_layer_from_a_to_b_costs_2ab_operations_an_image():
    assert evaluate(FlopsSampling, Autoencoder(SPEC)).value == 2 * (5 * 7 + 7 * 6)
    score = evaluate(FlopsScoring, Autoencoder(SPEC))
    assert score.value == 2 * (6 * 5 + 5 * 7 + 7 * 6)
    assert (score.protocol["function"], score.protocol["batch size"]) == ("elbo", "1")


def test_a_convolution_costs_2_operations_a_tap_channel_pair_and_output_pixel():
    class Convolution(ExactLikelihood):
        def __init__(self, spec):
            super().__init__(spec)
            self.layer = nn.Conv2d(1, 4, 3, padding=1)

        def log_prob(self, images):
            return self.layer(images.float()).flatten(1).sum(1)

        def fit(self, data, trainer): ...

        def sample(self, num_samples):
            raise NotImplementedError

    score = evaluate(FlopsScoring, Convolution(SPEC))
    assert score.value == 2 * 9 * 1 * 4 * 6
    assert score.protocol["function"] == "log_prob"


def test_the_matrix_products_of_a_fused_recurrent_layer_are_counted():
    class Recurrent(ExactLikelihood):
        def __init__(self, spec):
            super().__init__(spec)
            self.layer = nn.LSTM(1, 3, batch_first=True)

        def log_prob(self, images):
            return self.layer(images.flatten(1).unsqueeze(2).float())[0].sum((1, 2))

        def fit(self, data, trainer): ...

        def sample(self, num_samples):
            raise NotImplementedError

    assert evaluate(FlopsScoring, Recurrent(SPEC)).value == 2 * 6 * (1 * 12 + 3 * 12)


def test_an_operation_without_a_rule_makes_the_figure_a_lower_bound_whose_protocol_names_it():
    class Solving(Autoencoder):
        def elbo(self, images):
            return torch.linalg.solve(torch.eye(6), self.encoder(images.flatten(1).float()).new_ones(6)).sum()[None]

    score = evaluate(FlopsScoring, Solving(SPEC))
    assert (score.value, score.kind) == (2 * 6 * 5, "lower bound")
    assert score.protocol["not counted"] == "aten._linalg_solve_ex"
    assert "not counted" not in evaluate(FlopsScoring, Autoencoder(SPEC)).protocol


class Regression(nn.Linear):
    """A linear layer that is trained by steps; what comes before and after them is not part of a step."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__(6, 4)

    def fit(self, data, trainer):
        self(data.train.draw(0).images.flatten(1).float())
        trainer.validate(lambda split: self(split.images.flatten(1).float()).sum().item())
        for batch in trainer.batches(data.train, batch_size=4):
            loss = self(batch.images.flatten(1).float()).square().mean()
            loss.backward()
            trainer.log(loss=loss)
        self(data.train.draw(0).images.flatten(1).float())


def test_training_costs_each_images_products_forwards_and_backwards_times_the_images_that_were_seen():
    data = dataset_of(10)  # batches of 4, 4 and 2
    fit = FitSummary(steps=9, epochs=3.0, seconds=1.0, checkpoint="last", valid_score=None, valid_step=None)
    score = FlopsTraining().evaluate(Evaluation(Regression(), data, fit=fit))
    an_image = 2 * (6 * 4) * 2  # the product, and the gradient of the weights; the images need none
    assert score.details["an_image"] == an_image
    assert (score.value, score.kind, score.protocol) == (an_image * 30, "estimate", {"steps counted": "10"})


@pytest.mark.parametrize("fit", [None, FitSummary(0, 0.0, 1.0, "last", None, None)], ids=["given", "closed-form"])
def test_a_training_without_steps_has_no_operations_of_training(fit):
    with pytest.raises(Unsupported, match="no step was trained"):
        FlopsTraining().evaluate(Evaluation(Regression(), dataset_of(10), fit=fit))


class Implicit(Model):
    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        return torch.zeros(num_samples, *self.spec.shape, dtype=torch.uint8)


def test_scoring_an_implicit_model_is_unsupported():
    with pytest.raises(Unsupported, match="neither a likelihood nor a bound"):
        evaluate(FlopsScoring, Implicit(SPEC))


def test_fit_seconds_are_those_of_the_training():
    fit = FitSummary(steps=40, epochs=2.0, seconds=12.5, checkpoint="last", valid_score=None, valid_step=None)
    score = evaluate(FitSeconds, Implicit(SPEC), fit=fit)
    assert (score.value, score.details["steps"]) == (12.5, 40)


def test_without_a_training_fit_seconds_are_unsupported():
    with pytest.raises(Unsupported, match="nothing was trained"):
        evaluate(FitSeconds, Implicit(SPEC))
