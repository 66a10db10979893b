"""What a model costs: learned numbers and operations, whatever the machine; and its speed and memory on this one.

Speeds are estimated after a warm-up, in bounded time.
"""

import copy
import dataclasses
import functools
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar, Literal

import torch
from torch import Tensor

import harness

MEMORY_BATCH_SIZE = 64
_MEMORY_SECONDS = 2.0
_STEPS = 10


class _Cost(harness.Metric):
    board = "cost"
    stage: ClassVar[Literal["cost", "speed"]] = "cost"

    @contextmanager
    def _isolated(self, evaluation: harness.Evaluation, *purpose: str) -> Iterator[None]:
        seed = harness.derive_seed(evaluation.seed, self.name, *purpose)
        with harness.isolated_rng(seed, evaluation.device), torch.no_grad():
            yield


class ParametersTraining(_Cost):
    """The number of floating-point entries of the model's ``state_dict``; tied tensors count once."""

    name = "parameters-training"
    header = "Parameters trained"
    unit = "parameters"

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Counts the entries; exact."""
        return harness.Score(float(sum(tensor.numel() for tensor in _floating(evaluation))), None, "exact")


class ParametersSampling(_Cost):
    """The number of floating-point entries of those ``state_dict`` tensors that are read while two images are drawn.

    A tensor counts whole as soon as one operation reads any part of the memory that it lives in.
    """

    name = "parameters-sampling"
    header = "Parameters sampling"
    unit = "parameters"

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Draws two images and counts what was read; exact."""
        model, state, touched = evaluation.model, _floating(evaluation), harness.TouchedStorages()
        with self._isolated(evaluation), touched:
            model.sample(2)
        used = sum(tensor.numel() for tensor in state if tensor in touched)
        return harness.Score(float(used), None, "exact", protocol={"sampler": harness.default_sampler(model)})


def _floating(evaluation: harness.Evaluation) -> list[Tensor]:
    return [x for x in harness.unique_tensors(evaluation.model.state_dict().values()) if x.is_floating_point()]


class _Flops(_Cost):
    """Counts the multiply-adds of matrix products, convolutions and attention as two operations each.

    Where an operation ran that has no rule, the figure is a lower bound, and the protocol names the operation.
    """

    unit = "FLOPs"
    version = "2"  # 1 left out products in place, those with a vector, and triangular solves

    @abstractmethod
    def _call(self, evaluation: harness.Evaluation) -> tuple[dict[str, str], Callable[[], object]]:
        """Returns what the protocol says of the call, and the call whose operations are counted."""

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        protocol, call = self._call(evaluation)
        with self._isolated(evaluation):
            flops = harness.count_flops(call)
        precision = str(evaluation.model.dtype).removeprefix("torch.")
        protocol = {"batch size": "1", "precision": precision, **protocol}
        if flops.not_counted:
            protocol["not counted"] = ", ".join(flops.not_counted)
        kind: harness.ScoreKind = "lower bound" if flops.not_counted else "exact"
        return harness.Score(float(flops), None, kind, protocol=protocol, details={"batch_size": 1.0})


class FlopsScoring(_Flops):
    """The floating-point operations of scoring one image, at batch 1: ``log_prob``, or one draw of the bound.

    The image is the split's first; a model with neither is ``Unsupported``.
    """

    name = "flops-scoring"
    header = "FLOPs scoring"

    def _call(self, evaluation: harness.Evaluation) -> tuple[dict[str, str], Callable[[], object]]:
        function, score = harness.scorer(evaluation.model)
        images = evaluation.split.draw(0).images[:1].to(evaluation.device)
        return {"function": function}, lambda: score(images)


class FlopsSampling(_Flops):
    """The floating-point operations of drawing one image, at batch 1, by the model's default sampler."""

    name = "flops-sampling"
    header = "FLOPs sampling"

    def _call(self, evaluation: harness.Evaluation) -> tuple[dict[str, str], Callable[[], object]]:
        return {"sampler": harness.default_sampler(evaluation.model)}, lambda: evaluation.model.sample(1)


class FlopsTraining(_Cost):
    """The floating-point operations of the whole training, forwards and backwards, without its validation.

    Ten steps of the model's own ``fit`` are counted after a first one; all images of the training count as theirs do,
    which makes it an estimate where steps differ. A training without steps is ``Unsupported``.
    """

    name = "flops-training"
    header = "FLOPs training"
    unit = "FLOPs"

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Counts the steps on copies of the model; the details hold the operations of one image."""
        fit, data, seed = evaluation.fit, evaluation.data, harness.derive_seed(evaluation.seed, self.name)
        if fit is None or fit.steps == 0:
            raise harness.Unsupported("no step was trained: a closed form, or weights from a checkpoint")
        flops, images = harness.step_flops(evaluation.model, data, steps=_STEPS, seed=seed)
        protocol = {"steps counted": str(_STEPS)}
        if flops.not_counted:
            protocol["not counted"] = ", ".join(flops.not_counted)
        kind: harness.ScoreKind = "lower bound" if flops.not_counted else "estimate"
        value = flops / images * fit.epochs * len(data.train)
        return harness.Score(value, None, kind, protocol=protocol, details={"an_image": flops / images})


class FitSeconds(_Cost):
    """The seconds spent in ``fit``, validation and resumptions included."""

    name = "fit-seconds"
    header = "Training time"
    unit = "s"

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Reads the figure from the training's summary; a model that was not trained here has none."""
        fit = evaluation.fit
        if fit is None:
            raise harness.Unsupported("nothing was trained: the weights come from a checkpoint")
        details = {"steps": float(fit.steps), "epochs": fit.epochs}
        protocol = {"device": evaluation.device.type, "threads": str(torch.get_num_threads())}
        return harness.Score(fit.seconds, None, "estimate", protocol=protocol, details=details)


class Speed(_Cost):
    """Measured on one machine, alone among the runs of a store."""

    board = "throughput"
    stage = "speed"

    def _score(
        self, evaluation: harness.Evaluation, value: float, error: float | None, details: dict[str, float],
        protocol: dict[str, str],
    ) -> harness.Score:  # fmt: skip
        machine = harness.speed_protocol(evaluation.device, evaluation.model.dtype)
        return harness.Score(value, error, "estimate", None, {**machine, **protocol}, details)

    def _under(self, load: harness.OthersLoad, score: harness.Score) -> harness.Score:
        """Says how much others worked meanwhile; where it matters, in the protocol too."""
        protocol = {**score.protocol, **({"load": load.words} if load.words else {})}
        return dataclasses.replace(score, protocol=protocol, details={**score.details, "others_load": load.share})

    def _certified(self, score: harness.Score, evaluation: harness.Evaluation, batch_size: int) -> harness.Score:
        """Confirms an autoregressive model's default sampler, or raises; a full pass for each step is the measure."""
        model, name = evaluation.model, harness.default_sampler(evaluation.model)
        if not isinstance(model, harness.Autoregressive) or name == "raster":
            return score
        what = f"the images of {type(model).__name__}'s sampler {name!r} are not confirmed by a forward pass"
        found = self._confirmed(evaluation, model.samplers()[name], batch_size, what)
        counts = {"entries": found.entries, "within_rounding": found.within_rounding}
        details = {**score.details, **{f"certificate_{what}": float(count) for what, count in counts.items()}}
        return dataclasses.replace(score, protocol={**score.protocol, "certificate": "holds"}, details=details)

    def _confirmed(
        self, evaluation: harness.Evaluation, draw: harness.BoundSampler, batch_size: int, what: str
    ) -> harness.Certificate:
        """Confirms a batch by one forward pass of an autoregressive model; ``what`` begins the error if it fails."""
        model = evaluation.model
        assert isinstance(model, harness.Autoregressive)
        with self._isolated(evaluation, "certificate"):
            noise = model.draw_noise(batch_size)
            found = harness.certify(model, draw(batch_size, noise=noise), noise)
        found.require(what)
        return found


class _Throughput(Speed):
    """Images a second at the best of several batch sizes; the details hold median and quartiles at each."""

    unit = "images/s"
    higher_is_better = True
    draws = False  # whether what is timed is the model's default sampler

    @abstractmethod
    def _call(self, evaluation: harness.Evaluation) -> tuple[dict[str, str], Callable[[int], object]]:
        """Returns what the protocol says of the function, and the function of a batch size that is timed."""

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Times the batch sizes 1, 4, 16, 64 and 256, for about a quarter of a second each and four seconds in all."""
        protocol, call = self._call(evaluation)
        with self._isolated(evaluation), harness.OthersLoad() as load:
            sweep = harness.sweep_batch_sizes(call)
        machine = harness.speed_protocol(evaluation.device, evaluation.model.dtype)
        score = self._under(load, throughput_score(sweep, {**machine, **protocol}))
        return self._certified(score, evaluation, sweep.best) if self.draws else score


def throughput_score(sweep: harness.Sweep, protocol: dict[str, str]) -> harness.Score:
    """Turns a sweep into the score of its best batch size, in images a second."""
    details: dict[str, float] = {}
    for size, timing in sweep.timings.items():
        details[f"batch_{size}_median"] = size / timing.median_seconds
        details[f"batch_{size}_q25"] = size / timing.q75_seconds
        details[f"batch_{size}_q75"] = size / timing.q25_seconds
        details[f"batch_{size}_blocks"] = float(timing.blocks)
    best = sweep.timings[sweep.best]
    value, error = sweep.best / best.median_seconds, best.standard_error_seconds
    protocol = {**protocol, "batch size": str(sweep.best), **_warm_up(best)}
    if sweep.dropped:
        protocol["not measured"] = "; ".join(f"batch size {size}: {reason}" for size, reason in sweep.dropped.items())
    error = None if error is None else value * error / best.median_seconds  # relatively, that of the time
    return harness.Score(value, error, "estimate", None, protocol, details)


def _warm_up(timing: harness.Timing) -> dict[str, str]:
    return {"warm-up": "one call" if timing.warmed_up else "none, a call takes too long"}


class ScoringThroughput(_Throughput):
    """Images a second through ``log_prob``, or through one draw of the bound where there is no likelihood."""

    name = "scoring-throughput"
    header = "Scoring"

    def _call(self, evaluation: harness.Evaluation) -> tuple[dict[str, str], Callable[[int], object]]:
        function, score = harness.scorer(evaluation.model)
        images = evaluation.split.draw(0).images[:256].to(evaluation.device)

        @functools.cache
        def batch(size: int) -> Tensor:
            return images[torch.arange(size, device=images.device) % len(images)]

        return {"function": function}, lambda size: score(batch(size))


class SamplingThroughput(_Throughput):
    """Images a second drawn by the model's default sampler."""

    name = "sampling-throughput"
    header = "Sampling"
    draws = True

    def _call(self, evaluation: harness.Evaluation) -> tuple[dict[str, str], Callable[[int], object]]:
        return {"sampler": harness.default_sampler(evaluation.model)}, evaluation.model.sample


class SamplingLatency(Speed):
    """The median of the seconds that it takes the model's default sampler to draw a single image."""

    name = "sampling-latency"
    header = "Latency"
    unit = "s"

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Draws single images for about a second, after a warm-up; the details hold the quartiles."""
        with self._isolated(evaluation), harness.OthersLoad() as load:
            timing = harness.time_calls(lambda: evaluation.model.sample(1), max_seconds=1.0)
        details = {"q25_seconds": timing.q25_seconds, "q75_seconds": timing.q75_seconds, "blocks": float(timing.blocks)}
        protocol = {"sampler": harness.default_sampler(evaluation.model), "batch size": "1", **_warm_up(timing)}
        score = self._score(evaluation, timing.median_seconds, timing.standard_error_seconds, details, protocol)
        return self._certified(self._under(load, score), evaluation, 1)


class TrainingThroughput(Speed):
    """Images a second through the steps of the model's own ``fit``, validation left out, at its own batch size."""

    name = "training-throughput"
    header = "Training"
    unit = "images/s"
    higher_is_better = True

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Trains a copy of the model for up to 200 steps or a second and a half."""
        double = evaluation.model.dtype is torch.float64
        precision: Literal["float64", "float32"] = "float64" if double else "float32"
        with harness.OthersLoad() as load:
            times = harness.step_seconds(evaluation.model, evaluation.data, seed=evaluation.seed, precision=precision)
        an_image = harness.Timing.of([time / images for time, images in zip(times.seconds, times.images, strict=True)])
        value, error = 1 / an_image.median_seconds, an_image.standard_error_seconds
        details = {"q25": 1 / an_image.q75_seconds, "q75": 1 / an_image.q25_seconds, "blocks": float(an_image.blocks)}
        details["steps"] = float(times.steps)
        protocol = {"batch size": f"{sum(times.images) / times.steps:.4g}", "warm-up": "one step"}
        error = None if error is None else value**2 * error
        return self._under(load, self._score(evaluation, value, error, details, protocol))


class PeakMemory(Speed):
    """The model's own bytes plus the most that is allocated at one time while a batch of 64 is drawn, or scored.

    On an accelerator the allocator's own peak is read. On a CPU the storages that operations return are added up while
    they live, which leaves out scratch space inside one kernel; the resident set is not used, it never shrinks. The
    computation is watched for two seconds at most: a sampler of many steps repeats itself.
    """

    name = "peak-memory"
    unit = "bytes"

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Returns the larger of the two peaks; the details hold each, and the model's own bytes."""
        model = copy.deepcopy(evaluation.model)  # a sampler that is cut off may leave its caches behind
        state, images = harness.state_bytes(model), evaluation.split.draw(0).images
        images = images[torch.arange(MEMORY_BATCH_SIZE) % len(images)].to(evaluation.device)
        calls: dict[str, Callable[[], object]] = {"sampling": lambda: model.sample(MEMORY_BATCH_SIZE)}
        with suppress(harness.Unsupported):  # an implicit model only draws
            calls["scoring"] = functools.partial(harness.scorer(model)[1], images)
        details, cut = {}, []
        with self._isolated(evaluation):
            for what, call in calls.items():
                peak = harness.working_memory(call, evaluation.device, max_seconds=_MEMORY_SECONDS)
                details[f"{what}_bytes"] = float(state + peak.num_bytes)
                cut += [] if peak.finished else [what]
        protocol = {
            "sampler": harness.default_sampler(model), "batch size": str(MEMORY_BATCH_SIZE),
            "measured by": "allocator" if harness.has_statistics(evaluation.device) else "storages of operations",
        }  # fmt: skip
        if cut:
            protocol["cut off"] = f"{' and '.join(cut)} after {_MEMORY_SECONDS:g} s"
        value = max(details.values())
        return self._score(evaluation, value, None, {**details, "state_bytes": float(state)}, protocol)
