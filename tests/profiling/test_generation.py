"""Profiles of generation speed, on a clock that is turned by hand: every figure is known beforehand."""

import pytest
import torch

from harness import Autoregressive, ImageSpec, Model, SamplingTrace, Unsupported
from harness.profiling import contest, generation
from harness.profiling.contest import Contender, first_passes, run_rounds
from harness.profiling.files import values_of
from harness.profiling.generation import GenerationRun, Profiled, foresee
from harness.profiling.profile import (
    GenerationProfile,
    ProfileError,
    append_measurement,
    merge_measurements,
    read_measurements,
    write_measurements,
)
from harness.profiling.tables import tables_of


class HandClock:
    """Shows the time that has been put on it."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


class Timed(Autoregressive):
    """Entries are independent; a forward pass takes 0.1 s an image, ``fast`` 0.2 s an image, whatever the size."""

    def __init__(self, spec, *, clock, lies=False, orderings=1, fast=0.2):
        if spec.height == 5:
            raise Unsupported("5x5 is not a multiple of two")
        super().__init__(spec)
        self.clock, self.lies, self.num_orderings, self.fast, self.calls = clock, lies, orderings, fast, 0

    def conditional_logits(self, images, ordering=0):
        self.clock.wait(0.1 * len(images))
        return torch.zeros(len(images), self.spec.levels, *self.spec.shape)

    def samplers(self):
        return {"fast": self._fast, **super().samplers()}

    def _fast(self, num_samples, *, noise=None, known=None, mask=None, trace=None):
        self.calls += 1
        self.clock.wait(self.fast * num_samples)
        trace = trace or SamplingTrace()
        trace.network_evaluations += 3
        trace.sequential_depth += 2
        images = noise.gumbel.argmax(1).to(torch.uint8)
        return 1 - images if self.lies else images

    def fit(self, data, trainer): ...


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(generation, "gemm_peak", lambda device: 1e9)
    monkeypatch.setattr(generation, "describe_environment", lambda device, threads: {})
    monkeypatch.setattr(contest.SamplerCall, "_look", lambda self: None)
    return HandClock()


def profile(**changes):
    return GenerationProfile(
        **{"models": [{"name": "timed"}], "sizes": [4], "batch_sizes": [2], "rounds": 3, "budget_seconds": 100.0}
        | changes
    )


def row(clock, label="timed", model="timed", code="", **settings):
    made = []

    def make(spec):
        made.append(Timed(spec, clock=clock, **settings))
        return made[-1]

    return Profiled(label, model, make, code=code), made


def measure(clock, profile, rows, known=()):
    found = []
    run = GenerationRun(profile, rows, torch.device("cpu"), known=known, on_measurement=found.append, clock=clock)
    run.run()
    return found, run


def by_sampler(found):
    return {item.sampler: item for item in found}


def figures(item):
    [tables] = tables_of([item])
    return values_of(tables, item)


# --- rounds ---


class Waiting(Contender):
    """Takes so many seconds of a clock, and says in which round."""

    def __init__(self, clock, seconds, said=lambda number: None):
        super().__init__(lambda noise, trace: (said(noise), clock.wait(seconds)))

    def _prepare(self, number):
        return number


def test_rounds_are_interleaved_and_every_other_one_runs_backwards():
    clock, order = HandClock(), []
    pair = [Waiting(clock, 1.0, lambda number, name=name: order.append((number, name))) for name in "ab"]
    run_rounds(pair, rounds=3, budget_seconds=100.0, clock=clock)
    timed = [item for item in order if item[0] > 0]
    assert timed == [(1, "a"), (1, "b"), (2, "b"), (2, "a"), (3, "a"), (3, "b")]
    assert pair[0].seconds == [1.0, 1.0, 1.0]


def test_rounds_are_as_many_as_the_budget_holds():
    clock = HandClock()
    slow = Waiting(clock, 3.0)
    run_rounds([slow], rounds=5, budget_seconds=12.5, clock=clock)
    assert len(slow.seconds) == 2  # two calls of warm-up and two rounds take 12 s
    assert slow.complete


def test_a_first_call_beyond_the_budget_is_the_measurement():
    clock = HandClock()
    slow = Waiting(clock, 30.0)
    run_rounds([slow], rounds=5, budget_seconds=12.0, clock=clock)
    assert (slow.seconds, slow.warmed_up, slow.complete) == ([30.0], False, True)


def test_short_calls_are_timed_several_at_a_time():
    clock = HandClock()
    quick = Waiting(clock, 2**-10)
    run_rounds([quick], rounds=2, budget_seconds=12.0, clock=clock)
    assert quick.calls == 20
    assert quick.seconds == [2**-10, 2**-10]


# --- the naive raster, extrapolated ---


@pytest.mark.parametrize(("budget", "passes"), [(2.0, 2), (8.0, 3), (9.5, 3), (9.7, None), (100.0, None)])
def test_a_raster_beyond_the_budget_is_timed_for_as_many_passes_as_its_rounds_hold(clock, budget, passes):
    model, _ = row(clock)  # 16 passes of 0.6 s
    [raster], _ = measure(clock, profile(budget_seconds=budget, samplers=["raster"], batch_sizes=[6]), [model])
    assert raster.extrapolated_from == passes


def test_extrapolation_multiplies_by_the_passes_that_are_left_out():
    clock = HandClock()
    part = Waiting(clock, 8.0)
    part.part = (4, 784)
    run_rounds([part], rounds=2, budget_seconds=100.0, clock=clock)
    assert part.seconds == [8.0 * 784 / 4] * 2


def test_the_first_passes_of_a_raster_are_so_many_of_those_that_it_makes():
    model = Timed(ImageSpec(1, 4, 4, levels=2), clock=HandClock())
    noise, trace = model.draw_noise(2), SamplingTrace()
    first_passes(model, 3)(2, noise=noise, trace=trace)
    assert trace.network_evaluations == 3


@pytest.mark.parametrize("orderings", [1, 3])
def test_an_extrapolated_raster_has_the_seconds_and_passes_of_the_whole(clock, orderings):
    model, _ = row(clock, orderings=orderings)
    found, _ = measure(clock, profile(budget_seconds=2.0, samplers=["raster"], batch_sizes=[6]), [model])
    [raster] = found
    passes = raster.full_passes
    assert passes % 16 == 0
    assert raster.extrapolated_from < passes
    # each ordering's passes are over its own images alone: 0.1 s an image, 16 passes
    assert raster.median_seconds == pytest.approx(6 * 0.1 * 16)
    assert raster.certificate.status == "by definition"
    if orderings == 1:
        assert (raster.network_evaluations, raster.sequential_depth) == (16, 16)
        assert figures(raster)["forward_ratio"] == pytest.approx(16.0)


# --- figures ---


def test_a_measurement_has_median_ratio_depth_and_certificate(clock):
    model, _ = row(clock)
    found, _ = measure(clock, profile(), [model])
    fast, raster = by_sampler(found)["fast"], by_sampler(found)["raster"]
    assert fast.median_seconds == pytest.approx(0.4)
    assert figures(fast)["images_per_second"] == pytest.approx(5.0)
    assert figures(fast)["forward_ratio"] == pytest.approx(2.0)
    assert (fast.network_evaluations, fast.sequential_depth) == (3, 2)
    assert fast.default
    assert fast.certificate.status == "holds"
    assert fast.certificate.entries == 4096  # two calls of warm-up and three rounds of 32 entries, and untimed ones
    assert raster.median_seconds == pytest.approx(0.2 * 16)
    assert raster.extrapolated_from is None


def test_a_sampler_without_its_certificate_has_no_figure(clock):
    model, _ = row(clock, lies=True)
    found, _ = measure(clock, profile(samplers=["fast"]), [model])
    assert (found[0].status, found[0].seconds, found[0].shown) == ("failed certificate", (), False)
    assert "160 of 160 entries are not what the noise gives" in found[0].reason


def test_a_model_that_shares_no_noise_is_timed_and_its_certificate_does_not_apply(clock):
    class Plain(Model):
        def fit(self, data, trainer): ...

        def sample(self, num_samples):
            clock.wait(0.3)
            return torch.zeros(num_samples, *self.spec.shape, dtype=torch.uint8)

    found, _ = measure(clock, profile(), [Profiled("plain", "plain", Plain)])
    assert found[0].median_seconds == pytest.approx(0.3)
    assert found[0].certificate.status == "does not apply"
    assert "forward_ratio" not in figures(found[0])


def test_a_size_that_a_model_cannot_do_is_a_skipped_row_with_its_reason(clock):
    model, _ = row(clock)
    found, _ = measure(clock, profile(sizes=[4, 5], samplers=["fast"]), [model])
    assert [(item.height, item.status) for item in found] == [(4, "done"), (5, "skipped")]
    assert found[1].reason == "5x5 is not a multiple of two"


def test_a_sampler_that_raises_is_a_failed_row_and_the_others_go_on(clock):
    class Broken(Timed):
        def _fast(self, num_samples, **_):
            raise RuntimeError("no such kernel")

    broken = Profiled("broken", "broken", lambda spec: Broken(spec, clock=clock))
    model, _ = row(clock)
    found, _ = measure(clock, profile(samplers=["fast"]), [broken, model])
    assert {item.label: item.status for item in found} == {"broken": "failed", "timed": "done"}
    assert "no such kernel" in found[0].reason


def test_a_sampler_that_one_of_several_models_lacks_is_a_skipped_row(clock):
    model, _ = row(clock)

    class Slow(Timed):
        def samplers(self):
            return Autoregressive.samplers(self)

    found, _ = measure(
        clock, profile(samplers=["fast"]), [Profiled("slow", "slow", lambda s: Slow(s, clock=clock)), model]
    )
    assert found[0].status == "skipped"
    assert "has no sampler 'fast', it has: raster" in found[0].reason


def test_what_no_model_can_do_is_an_error_before_anything_is_measured(clock):
    model, _ = row(clock)
    for changes, message in (
        ({"samplers": ["cached"]}, "no model here has a sampler 'cached'"),
        ({"sizes": [5]}, "timed: 5x5 is not a multiple of two"),
    ):
        run = GenerationRun(profile(**changes), [model], torch.device("cpu"), on_measurement=print, clock=clock)
        with pytest.raises(ValueError, match=message):
            run.check()


def test_a_call_that_would_take_too_long_is_left_out_with_what_it_is_judged_by(clock):
    model, _ = row(clock, fast=1.0)
    found, _ = measure(clock, profile(samplers=["fast"], batch_sizes=[2, 16], budget_seconds=7.0), [model])
    assert [item.status for item in found] == ["done", "skipped"]
    assert found[1].reason == "a call would take about 16 s, to judge by 4x4, batch 2; the budget is 7 s"


def test_a_call_is_foreseen_in_proportion_to_pixels_and_images(clock):
    model, _ = row(clock)
    found, _ = measure(clock, profile(samplers=["fast"]), [model])
    assert foresee(found, 64, 4)[0] == pytest.approx(0.4 * 4 * 2)
    assert foresee(found, 4, 2) == (0.0, None)


# --- interruption, and going on ---


def interrupt_after(model, calls):
    whole = model._fast

    def fast(num_samples, **settings):
        if model.calls >= calls:
            raise KeyboardInterrupt
        return whole(num_samples, **settings)

    model._fast = fast


def test_an_interrupted_contest_keeps_the_rounds_that_were_timed(clock):
    found, made = [], []

    def make(spec):
        made.append(Timed(spec, clock=clock))
        interrupt_after(made[-1], calls=4)  # two of warm-up, two rounds
        return made[-1]

    run = GenerationRun(
        profile(rounds=5), [Profiled("timed", "timed", make)], torch.device("cpu"),
        on_measurement=found.append, clock=clock,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        run.run()
    fast = by_sampler(found)["fast"]
    assert fast.seconds == pytest.approx((0.4, 0.4))
    assert not fast.complete
    assert fast.shown


def test_a_second_start_measures_what_is_missing_and_nothing_twice(clock):
    model, _ = row(clock)
    first, _ = measure(clock, profile(), [model])
    again, _ = row(clock)
    found, run = measure(clock, profile(batch_sizes=[2, 4]), [again], known=first)
    assert [item.batch_size for item in found] == [4, 4]
    assert [item.cell for item in run.kept] == [item.cell for item in first]


def test_what_was_interrupted_is_measured_again(clock):
    model, _ = row(clock)
    first, _ = measure(clock, profile(samplers=["fast"]), [model])
    half = [first[0].model_copy(update={"complete": False})]
    found, run = measure(clock, profile(samplers=["fast"]), [row(clock)[0]], known=half)
    assert (len(found), run.kept) == (1, [])


@pytest.mark.parametrize("changed", ["code", "rounds"])
def test_other_code_and_other_rounds_are_measured_again(clock, changed):
    first, _ = measure(clock, profile(samplers=["fast"]), [row(clock)[0]])
    other = row(clock, code="other" if changed == "code" else "")[0]
    rounds = 4 if changed == "rounds" else 3
    found, _ = measure(clock, profile(samplers=["fast"], rounds=rounds), [other], known=first)
    assert [item.cell for item in found] == [first[0].cell]


def test_a_row_of_another_label_is_the_same_measurement(clock):
    first, _ = measure(clock, profile(samplers=["fast"]), [row(clock)[0]])
    found, run = measure(clock, profile(samplers=["fast"]), [row(clock, label="renamed")[0]], known=first)
    assert (found, run.kept[0].label) == ([], "renamed")


# --- the file ---


def test_measurements_come_back_from_their_file_the_last_of_each_cell(clock, tmp_path):
    found, _ = measure(clock, profile(), [row(clock)[0]])
    file = tmp_path / "measurements.jsonl"
    for item in (*found, found[0].model_copy(update={"seconds": (9.0,)})):
        append_measurement(file, item)
    back = read_measurements(file)
    assert [item.seconds for item in back] == [(9.0,), found[1].seconds]
    write_measurements(file, back)
    assert read_measurements(file) == back


def test_a_line_that_was_cut_off_is_left_out_and_the_next_one_is_whole(clock, tmp_path):
    found, _ = measure(clock, profile(), [row(clock)[0]])
    file = tmp_path / "measurements.jsonl"
    append_measurement(file, found[0])
    with file.open("a") as out:
        out.write('{"batch_size": 1, "ce')
    assert read_measurements(file) == found[:1]
    append_measurement(file, found[1])
    assert read_measurements(file) == found


def test_a_line_that_is_no_measurement_is_named(tmp_path):
    file = tmp_path / "measurements.jsonl"
    file.write_text('{"cell": 1}\n')
    with pytest.raises(ValueError, match="line 1: not a measurement"):
        read_measurements(file)


def test_of_two_files_the_later_measurement_of_a_cell_counts(clock):
    [old], _ = measure(clock, profile(samplers=["fast"]), [row(clock)[0]])
    new = old.model_copy(update={"created": "2999-01-01T00:00:00+00:00", "seconds": (1.0,)})
    elsewhere = old.model_copy(update={"cell": "other", "fingerprint": "other"})
    assert merge_measurements([[new, elsewhere], [old]]) == [new, elsewhere]


# --- the profile ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"models": []}, "models has to hold at least 1"),
        ({"models": [{"label": "x"}]}, "name a model by 'name', or a trained one by 'run'"),
        ({"models": [{"run": "x", "sizes": [8]}]}, "a run has hyperparameters and a size of its own"),
        ({"models": [{"name": "a"}, {"name": "a"}]}, "two models are labelled 'a'"),
        ({"models": [{"name": "a"}], "sizes": [8, 8]}, "none of them twice"),
        ({"models": [{"name": "a"}], "baseline": "b"}, "baseline 'b' is none of the models: a"),
        ({"models": [{"name": "a"}], "levels": 1}, "levels has to be at least 2, not 1"),
        ({"models": [{"name": "a"}], "batchsizes": [1]}, "unknown key .batchsizes. .did you mean .batch_sizes"),
    ],
)
def test_a_profile_that_cannot_be_used_is_said_in_a_line(content, message):
    with pytest.raises(ProfileError, match=message):
        GenerationProfile.make(content, source="x.toml")


def test_a_suite_of_trainings_is_no_profile(tmp_path):
    (tmp_path / "digits.toml").write_text("title = 'x'\n")
    with pytest.raises(ProfileError, match="a profile begins with: profile = 'generation'"):
        GenerationProfile.read(tmp_path / "digits.toml")
