"""The arithmetic of timing, on a clock that is turned by hand; and the calibration of a budget in minutes."""

import time

import pytest
import torch

from harness import Dataset, ImageSpec, Model, Split, Unsupported
from harness.profiling.timing import Timing, step_seconds, sweep_batch_sizes, time_calls
from harness.running.calibration import calibrate_steps

SPEC = ImageSpec(1, 2, 2, levels=2)


class HandClock:
    """Shows the time that has been put on it."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


def dataset(num_train):
    split = Split(torch.zeros(4, *SPEC.shape, dtype=torch.uint8))
    return Dataset("toy", SPEC, Split(torch.zeros(num_train, *SPEC.shape, dtype=torch.uint8)), split, split)


def test_the_first_call_is_warm_up_and_is_not_counted():
    clock, durations = HandClock(), iter([0.9])
    timing = time_calls(lambda: clock.wait(next(durations, 0.1)), max_seconds=1.0, clock=clock)
    assert timing.median_seconds == pytest.approx(0.1)
    assert timing.q75_seconds == pytest.approx(0.1)
    assert timing.warmed_up


def test_a_call_longer_than_the_time_allowed_is_made_once():
    clock, calls = HandClock(), []
    timing = time_calls(lambda: (calls.append(1), clock.wait(7.0)), max_seconds=1.0, clock=clock)
    assert len(calls) == 1
    assert (timing.median_seconds, timing.warmed_up, timing.standard_error_seconds) == (7.0, False, None)


def test_short_calls_are_timed_in_blocks_within_the_time_allowed():
    clock = HandClock()
    timing = time_calls(lambda: clock.wait(1e-4), max_seconds=1.0, clock=clock)
    assert timing.median_seconds == pytest.approx(1e-4)
    assert timing.calls == 500 or timing.calls == 499
    assert clock.now == pytest.approx(101.0, abs=0.1)


def test_median_and_quartiles_are_those_of_the_blocks_divided_by_their_calls():
    timing = Timing.of([5.0, 1.0, 2.0, 3.0, 4.0], calls=10)
    assert timing.median_seconds == pytest.approx(0.3)
    assert (timing.q25_seconds, timing.q75_seconds) == (pytest.approx(0.2), pytest.approx(0.4))


def test_the_standard_error_of_the_median_is_that_of_normal_noise():
    noise = torch.randn(400, 101, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 50
    observed = torch.tensor([Timing.of(row.tolist()).median_seconds for row in noise]).std().item()
    errors = [Timing.of(row.tolist()).standard_error_seconds for row in noise]
    assert sum(errors) / len(errors) == pytest.approx(observed, rel=0.1)


def test_a_sweep_measures_every_batch_size_of_a_fast_function():
    clock = HandClock()
    sweep = sweep_batch_sizes(lambda size: clock.wait(0.001), clock=clock)
    assert list(sweep.timings) == [1, 4, 16, 64, 256]
    assert (sweep.best, sweep.dropped) == (256, {})


def test_a_sweep_leaves_out_the_batch_sizes_that_take_too_long():
    clock = HandClock()
    sweep = sweep_batch_sizes(lambda size: clock.wait(0.1 * size), total_seconds=4.0, clock=clock)
    assert list(sweep.timings) == [1, 4, 16]
    assert list(sweep.dropped) == [64, 256]
    assert sweep.dropped[64] == "a call would take about 6.4 s"
    assert clock.now < 104.0


def test_a_sweep_follows_a_function_whose_time_hardly_grows():
    clock = HandClock()
    sweep = sweep_batch_sizes(lambda size: clock.wait(0.3 + 0.0001 * size), total_seconds=4.0, clock=clock)
    assert list(sweep.timings) == [1, 4, 16, 64, 256]


def test_a_sweep_stops_where_memory_ends():
    def call(size):
        clock.wait(0.001)
        if size > 16:
            raise torch.OutOfMemoryError

    clock = HandClock()
    sweep = sweep_batch_sizes(call, clock=clock)
    assert list(sweep.timings) == [1, 4, 16]
    assert sweep.dropped[64] == "out of memory"
    assert 256 in sweep.dropped


class Steps(Model):
    """A fit that takes given time on a clock: set-up, and so much a step of five images; it also moves a weight."""

    def __init__(self, spec, *, wait=time.sleep, an_image=0.01, validation=0.0):
        super().__init__(spec)
        self.wait, self.an_image, self.validation = wait, an_image, validation
        self.weight = torch.nn.Parameter(torch.zeros(3))

    def __deepcopy__(self, memo):
        copied = Steps(self.spec, wait=self.wait, an_image=self.an_image, validation=self.validation)
        copied.load_state_dict(self.state_dict())
        return copied

    def score(self, split):
        self.wait(self.validation)
        return 0.0

    def fit(self, data, trainer):
        self.wait(0.05)
        trainer.validate(self.score, every="4 steps")
        for batch in trainer.batches(data.train, batch_size=5):
            self.wait(self.an_image * len(batch))
            self.weight.data += torch.rand(3)

    def sample(self, num_samples):
        raise NotImplementedError


def test_step_times_are_those_of_the_steps_without_set_up_and_validation():
    clock = HandClock()
    times = step_seconds(Steps(SPEC, wait=clock.wait, validation=10.0), dataset(20), max_steps=30, clock=clock)
    assert times.seconds == pytest.approx([0.05] * 30)
    assert times.images == pytest.approx([5.0] * 30)
    assert times.steps == 30


def test_step_timing_ends_with_its_seconds():
    clock = HandClock()
    times = step_seconds(Steps(SPEC, wait=clock.wait), dataset(20), max_seconds=0.49, clock=clock)
    assert times.steps == 10


def test_images_a_second_hold_over_an_epoch_with_a_smaller_last_batch():
    clock = HandClock()
    times = step_seconds(Steps(SPEC, wait=clock.wait), dataset(12), max_steps=30, clock=clock)
    assert sum(times.images) / sum(times.seconds) == pytest.approx(100.0)
    assert times.images[0] == pytest.approx(4.0)


def test_timing_changes_neither_the_model_nor_the_random_numbers():
    model, clock = Steps(SPEC, wait=HandClock().wait), HandClock()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    step_seconds(model, dataset(20), max_steps=5, clock=clock)
    calibrate_steps(Steps(SPEC, an_image=0.0002), dataset(20), 1.0, max_seconds=0.1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model.weight, torch.zeros(3))


def test_a_fit_without_steps_is_unsupported():
    class ClosedForm(Steps):
        def fit(self, data, trainer): ...

        def __deepcopy__(self, memo):
            return ClosedForm(self.spec)

    with pytest.raises(Unsupported, match="closed form"):
        step_seconds(ClosedForm(SPEC), dataset(20))
    assert calibrate_steps(ClosedForm(SPEC), dataset(20), 3.0) == 1


def test_a_fit_of_a_single_step_is_unsupported():
    class OneStep(Steps):
        def fit(self, data, trainer):
            next(iter(trainer.batches(data.train, batch_size=5)))
            trainer.step = 1

        def __deepcopy__(self, memo):
            return OneStep(self.spec)

    with pytest.raises(Unsupported, match="1 step"):
        step_seconds(OneStep(SPEC), dataset(20))


@pytest.mark.parametrize("max_seconds", [0.8, 0.1])
def test_minutes_become_steps_validation_included(max_seconds):
    # 5 ms a step and 40 ms a validation every 4 steps: 15 ms a step, 4000 steps a minute; without validation 12,000.
    # Fewer on a machine that is busy with something else.
    model = Steps(SPEC, an_image=0.001, validation=0.04)
    steps = calibrate_steps(model, dataset(20), 1.0, max_seconds=max_seconds)
    assert 400 < steps <= 4100


def test_a_validation_that_is_not_due_in_time_is_counted_all_the_same():
    class Rare(Steps):
        def fit(self, data, trainer):
            trainer.validate(self.score, every="40 steps")
            for _ in trainer.batches(data.train, batch_size=5):
                self.wait(0.005)

        def __deepcopy__(self, memo):
            return Rare(self.spec, validation=self.validation)

    # 5 ms a step and 0.4 s every 40 steps: 15 ms a step, or more on a busy machine
    steps = calibrate_steps(Rare(SPEC, validation=0.4), dataset(20), 1.0, max_seconds=0.12)
    assert 400 < steps <= 4100


def test_twice_the_minutes_are_twice_the_steps_and_no_budget_is_less_than_a_step():
    model = Steps(SPEC, an_image=0.001)
    one, two = (calibrate_steps(model, dataset(20), minutes, max_seconds=0.2) for minutes in (1.0, 2.0))
    assert two / one == pytest.approx(2.0, rel=0.5)
    assert calibrate_steps(model, dataset(20), 1e-6, max_seconds=0.05) == 1


def test_minutes_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        calibrate_steps(Steps(SPEC), dataset(20), 0.0)
