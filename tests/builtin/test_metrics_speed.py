"""Throughput, latency and memory of models whose speed and allocations are known."""

import time

import pytest
import torch

import harness
from harness import Autoregressive, Dataset, Evaluation, ExactLikelihood, ImageSpec, Split, Unsupported
from harness.builtin.metrics import cost, fastest
from harness.builtin.metrics.fastest import FastestSampling
from harness.profiling.certificate import CertificateFailed
from harness.profiling.timing import Sweep, Timing
from harness_pixelcnn.gated_pixelcnn import GatedPixelCNN

SPEC = ImageSpec(1, 2, 2, levels=2)


class Sleeper(ExactLikelihood):
    """Sleeps 10 ms a call, whatever the batch size, and 10 ms a training step of 4 images."""

    def log_prob(self, images):
        time.sleep(0.01)
        return torch.zeros(len(images))

    def sample(self, num_samples):
        time.sleep(0.01)
        return torch.zeros(num_samples, *self.spec.shape, dtype=torch.uint8)

    def fit(self, data, trainer):
        for _ in trainer.batches(data.train, batch_size=4):
            time.sleep(0.01)


def evaluation(model):
    images = Split(torch.zeros(10, *model.spec.shape, dtype=torch.uint8))
    train = Split(torch.zeros(32, *model.spec.shape, dtype=torch.uint8))
    return Evaluation(model, Dataset("toy", model.spec, train, images, images))


@pytest.mark.parametrize("metric", [cost.ScoringThroughput, cost.SamplingThroughput])
def test_throughput_is_the_best_over_the_batch_sizes(metric):
    score = metric().evaluate(evaluation(Sleeper(SPEC)))
    assert 256 / 0.02 < score.value <= 256 / 0.01
    assert score.protocol["batch size"] == "256"
    assert 4 / 0.02 < score.details["batch_4_median"] <= 4 / 0.01


def test_latency_is_the_median_time_of_a_single_image():
    score = cost.SamplingLatency().evaluate(evaluation(Sleeper(SPEC)))
    assert 0.01 <= score.value < 0.02
    assert score.details["q25_seconds"] <= score.value <= score.details["q75_seconds"]


def test_training_throughput_is_batch_size_over_step_time():
    score = cost.TrainingThroughput().evaluate(evaluation(Sleeper(SPEC)))
    assert 4 / 0.02 < score.value <= 4 / 0.01
    assert score.protocol["batch size"] == "4"


@pytest.mark.parametrize(
    "metric", [cost.ScoringThroughput, cost.SamplingThroughput, cost.SamplingLatency, cost.TrainingThroughput]
)
@pytest.mark.parametrize(("share", "said"), [(0.52, "others used about 50% of the processors"), (0.01, None)])
def test_a_speed_says_how_much_others_worked_and_in_its_protocol_where_that_matters(metric, share, said, monkeypatch):
    monkeypatch.setattr(harness.OthersLoad, "__exit__", lambda load, *_: setattr(load, "share", share))
    score = metric().evaluate(evaluation(Sleeper(SPEC)))
    assert score.protocol.get("load") == said
    assert score.details["others_load"] == share


def test_a_closed_form_fit_has_no_training_throughput():
    class ClosedForm(Sleeper):
        def fit(self, data, trainer): ...

    with pytest.raises(Unsupported, match="closed form"):
        cost.TrainingThroughput().evaluate(evaluation(ClosedForm(SPEC)))


def test_a_score_names_its_best_batch_size_its_quartiles_and_what_was_not_measured():
    sweep = Sweep({1: Timing(0.5, 0.4, 0.625, 9), 4: Timing(1.0, 0.8, 2.0, 4)}, {16: "a call would take about 3 s"})
    score = cost.throughput_score(sweep, {"sampler": "raster"})
    assert score.value == 4.0
    assert (score.details["batch_4_q25"], score.details["batch_4_q75"]) == (2.0, 5.0)
    assert score.details["batch_1_q25"] == pytest.approx(1.6)
    assert score.standard_error == pytest.approx(4.0 * 1.2533 * 1.2 / 1.349 / 2, rel=1e-3)
    assert score.protocol["batch size"] == "4"
    assert score.protocol["not measured"] == "batch size 16: a call would take about 3 s"


class Allocator(Sleeper):
    """Drawing n images holds 3 tensors of n x 1000 float32 at a time; scoring holds one."""

    def __init__(self, spec):
        super().__init__(spec)
        self.register_buffer("state", torch.zeros(300))

    def sample(self, num_samples):
        first = torch.empty(num_samples, 1000)
        second = first.view(-1) + 1
        third = second * 2
        del first, second
        fourth = third + 1
        del third
        return fourth[:, None].reshape(num_samples, 1000)[:, :4].to(torch.uint8).view(-1, *self.spec.shape)

    def log_prob(self, images):
        return torch.zeros(len(images), 1000).sum(1)


def test_peak_memory_counts_what_lives_at_the_same_time():
    score = cost.PeakMemory().evaluate(evaluation(Allocator(SPEC)))
    assert score.details["state_bytes"] == 1200
    assert score.details["sampling_bytes"] == 1200 + 3 * 64 * 1000 * 4
    assert score.details["scoring_bytes"] == 1200 + 64 * 1000 * 4 + 64 * 4
    assert score.value == score.details["sampling_bytes"]


def test_a_sampler_that_does_not_end_is_watched_for_a_while(monkeypatch):
    class Endless(Allocator):
        def sample(self, num_samples):
            while True:
                torch.zeros(num_samples, 1000)

    monkeypatch.setattr(cost, "_MEMORY_SECONDS", 0.05)
    score = cost.PeakMemory().evaluate(evaluation(Endless(SPEC)))
    assert score.details["sampling_bytes"] == 1200 + 64 * 1000 * 4
    assert score.protocol["cut off"].startswith("sampling ")  # and scoring, where the machine is busy


class Certified(Autoregressive):
    """Fair coins, drawn at once; or their opposite, which no forward pass confirms."""

    def __init__(self, spec, *, lies=False, default="fast"):
        super().__init__(spec)
        self.lies, self.default = lies, default

    def conditional_logits(self, images, ordering=0):
        return torch.zeros(len(images), self.spec.levels, *self.spec.shape)

    def samplers(self):
        found = {"fast": self._fast, **super().samplers()}
        return {self.default: found[self.default], **found}

    def _fast(self, num_samples, *, noise=None, known=None, mask=None, trace=None):
        images = (self.draw_noise(num_samples) if noise is None else noise).gumbel.argmax(1).to(torch.uint8)
        return 1 - images if self.lies else images

    def fit(self, data, trainer): ...


@pytest.mark.parametrize("metric", [cost.SamplingThroughput, cost.SamplingLatency])
def test_the_speed_of_a_fast_sampler_comes_with_its_certificate(metric):
    score = metric().evaluate(evaluation(Certified(SPEC)))
    assert score.protocol["certificate"] == "holds"
    assert score.details["certificate_entries"] == int(score.protocol["batch size"]) * 4
    assert score.details["certificate_within_rounding"] == 0


@pytest.mark.parametrize("metric", [cost.SamplingThroughput, cost.SamplingLatency])
def test_a_sampler_that_is_not_confirmed_has_no_speed(metric):
    with pytest.raises(CertificateFailed, match="Certified's sampler 'fast' are not confirmed by a forward pass"):
        metric().evaluate(evaluation(Certified(SPEC, lies=True)))


class Choice(Certified):
    """Its default is slow, and right even where ``fast`` lies."""

    def samplers(self):
        return {"slow": self._slow, **super().samplers()}

    def _slow(self, num_samples, **options):
        images = self._fast(num_samples, **options)
        return 1 - images if self.lies else images


@pytest.fixture
def quick(monkeypatch):
    """Samplers take the seconds of their names for 4 images, whatever the machine does."""
    takes = {"_fast": 0.01, "_slow": 0.1}

    def sweep(draw, **_):
        seconds = takes.get(getattr(draw, "__name__", ""), 1.0)
        return Sweep({4: Timing(seconds, seconds, seconds, 3)}, {})

    monkeypatch.setattr(harness, "sweep_batch_sizes", sweep, raising=False)


def test_the_fastest_sampler_that_is_confirmed_counts_and_every_other_has_its_figure(quick):
    score = FastestSampling().evaluate(evaluation(Choice(SPEC)))
    assert (score.protocol["sampler"], score.protocol["certificate"]) == ("fast", "holds")
    assert score.protocol["sampler raster"] == "is the definition"
    assert score.value == score.details["fast images/s"] == 400.0
    assert (score.details["slow images/s"], score.details["slow batch size"]) == (40.0, 4.0)


def test_a_faster_sampler_that_is_wrong_is_named_and_never_counts(quick):
    score = FastestSampling().evaluate(evaluation(Choice(SPEC, lies=True)))
    assert (score.protocol["sampler"], score.value) == ("slow", 40.0)
    assert score.protocol["sampler fast"].startswith("not confirmed: ")
    assert "fast images/s" not in score.details


def test_a_naive_raster_that_would_take_long_is_left_out_unless_no_other_counts(quick, monkeypatch):
    monkeypatch.setattr(fastest, "_SECONDS", 0.0)
    score = FastestSampling().evaluate(evaluation(Choice(SPEC)))
    assert score.protocol["sampler raster"].startswith("left out: an image would take about ")
    score = FastestSampling().evaluate(evaluation(Certified(SPEC, lies=True)))
    assert (score.protocol["sampler"], "certificate" in score.protocol) == ("raster", False)


def test_a_model_without_alternatives_is_drawn_by_its_default_sampler(quick):
    score = FastestSampling().evaluate(evaluation(Sleeper(SPEC)))
    assert score.protocol["sampler"] == "default"
    assert score.value == score.details["default images/s"]


def test_a_strangers_sampler_counts_and_the_model_does_not_keep_it(quick, install_plugin):
    text = """
        from harness import SamplerEntry, hookimpl

        def swift(model, num_samples, /, **options):
            return model.samplers()["raster"](num_samples, **options)

        @hookimpl
        def register_samplers():
            return [SamplerEntry("swift", model="gated-pixelcnn", target="harness_swift:swift")]
    """
    install_plugin("swift", {"harness_swift.py": text}, entry_points={"swift": "harness_swift"})
    model = GatedPixelCNN(SPEC, channels=2, layers=0)
    score = FastestSampling().evaluate(evaluation(model))
    assert score.protocol["sampler swift"].startswith("holds: ")
    assert list(model.samplers()) == ["raster"]


def test_the_naive_raster_is_the_definition_and_needs_no_certificate():
    score = cost.SamplingLatency().evaluate(evaluation(Certified(SPEC, lies=True, default="raster")))
    assert "certificate" not in score.protocol
