"""Measuring generation speed: every sampler of every model, at every size and batch size, in interleaved rounds."""

import datetime
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.benchmark import timer

from harness.interface.model import Autoregressive, Model
from harness.interface.spec import ImageSpec
from harness.profiling.contest import SamplerCall, forward_pass, run_rounds
from harness.profiling.profile import RASTER, GenerationProfile, Measurement
from harness.profiling.resources import gemm_peak
from harness.profiling.timing import Clock
from harness.support.environment import describe_environment, fingerprint, hardware, on_threads
from harness.support.names import digest_of
from harness.support.observers import OthersLoad
from harness.support.randomness import derive_seed, isolated_rng

NUM_CLASSES = 10  # for models that need labels


@dataclass(frozen=True)
class Profiled:
    """A model to profile; of a trained one with its ``run``, that run's figures, and ``spec``, its one sample space.

    ``make`` may raise a ValueError. The codes are digests. ``samplers`` and ``sizes`` are other than the profile's.
    """

    label: str
    model: str
    make: Callable[[ImageSpec], Model]
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    sampler_codes: Mapping[str, str] = field(default_factory=dict)
    spec: ImageSpec | None = None
    run: str | None = None
    bits_per_dim: float | None = None
    likelihood_kind: str | None = None
    samplers: tuple[str, ...] | None = None
    sizes: tuple[int, ...] | None = None


@dataclass
class GenerationRun:
    """One measuring of a profile; measurements that are ``known`` and need not be repeated are ``kept``."""

    profile: GenerationProfile
    models: Sequence[Profiled]
    device: torch.device
    on_measurement: Callable[[Measurement], None]
    known: Sequence[Measurement] = ()
    clock: Clock = timer
    kept: list[Measurement] = field(default_factory=list, init=False)
    made: list[Measurement] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.found = {measurement.cell: measurement for measurement in self.known}

    def check(self) -> None:
        """Raises ValueError for a sampler that no model has, or a model of no size, before anything is measured."""
        have: dict[str, set[str]] = {model.label: set() for model in self.models}
        reasons: dict[str, str] = {}
        for spec, models in self._spaces():
            for model in models:
                if isinstance(built := self._build(model, spec), str):
                    reasons.setdefault(model.label, built)
                else:
                    have[model.label].update(built.samplers())
        for label, names in have.items():
            if not names:
                raise ValueError(f"{label}: {reasons[label]}")
        wanted = [(model.samplers, have[model.label], f"{model.label} has no", "it has") for model in self.models]
        wanted.append((self.profile.samplers, set().union(*have.values()), "no model here has a", "there are"))
        for samplers, names, who, words in wanted:
            if missing := [name for name in samplers or () if name not in names]:
                raise ValueError(f"{who} sampler {missing[0]!r}, {words}: {', '.join(sorted(names))}")

    def run(self) -> None:
        """Measures what is not known yet, from small to large; hands over what it has when it is interrupted."""
        with on_threads(threads := self.profile.threads):
            environment = describe_environment(self.device, threads)
            environment.pop("command", None)  # it may hold folders of this machine, and measurements are published
            words = {"fingerprint": fingerprint(self.device, threads), "hardware": hardware(self.device, threads)}
            self._machine = {**words, "environment": environment}
            self._gemm = gemm_peak(self.device)
            for spec, models in self._spaces():
                self._measure_space(spec, models)

    def _build(self, model: Profiled, spec: ImageSpec) -> Model | str:
        """Returns the model, or why it cannot be had."""
        try:
            with isolated_rng(derive_seed(self.profile.seed, "initialisation"), self.device):
                return model.make(model.spec or spec).to(self.device).eval()
        except ValueError as error:  # Unsupported is one
            return str(error)

    def _spaces(self) -> list[tuple[ImageSpec, list[Profiled]]]:
        """Sample spaces with the models to profile there, the smallest first."""
        profile = self.profile
        wanted: dict[tuple[int, ...], tuple[ImageSpec, list[Profiled]]] = {}
        for model in self.models:
            sizes = model.sizes or profile.sizes
            specs = [ImageSpec(profile.channels, n, n, profile.levels, NUM_CLASSES) for n in sizes]
            for spec in [model.spec] if model.spec is not None else specs:
                key = (spec.height * spec.width, *spec.shape, spec.levels)
                wanted.setdefault(key, (spec, []))[1].append(model)
        return [wanted[key] for key in sorted(wanted)]

    def _measure_space(self, spec: ImageSpec, models: Sequence[Profiled]) -> None:
        batch_sizes, built = sorted(self.profile.batch_sizes), list[tuple[Profiled, Model]]()
        for model in models:
            if not isinstance(found := self._build(model, spec), str):
                built.append((model, found))
                continue
            names = model.samplers or self.profile.samplers or ("any",)
            for batch_size, name in itertools.product(batch_sizes, names):
                self._hand_over(self._asked(model, spec, batch_size, name), status="skipped", reason=found)
        for batch_size in batch_sizes:
            self._measure_batch(built, batch_size)

    def _measure_batch(self, built: Sequence[tuple[Profiled, Model]], batch_size: int) -> None:
        profile, calls = self.profile, list[SamplerCall]()
        for profiled, model in built:
            forward = forward_pass(model, batch_size, profile.seed) if isinstance(model, Autoregressive) else None
            names = list(model.samplers())
            for name in profiled.samplers or profile.samplers or names:
                asked = self._asked(profiled, model.spec, batch_size, name)
                if self._is_known(asked):
                    continue
                why_not = self._too_long(asked)
                if name not in names:
                    why_not = f"{profiled.model} has no sampler {name!r}, it has: {', '.join(names)}"
                if why_not:
                    self._hand_over(asked, status="skipped", reason=why_not)
                else:
                    calls.append(SamplerCall(model, asked, profile, forward))
        contenders = [*dict.fromkeys(call.forward for call in calls if call.forward is not None), *calls]
        load = OthersLoad()
        try:
            with load:
                run_rounds(contenders, rounds=profile.rounds, budget_seconds=profile.budget_seconds, clock=self.clock)
            for call in calls:
                call.finish()
        finally:
            for call in calls:
                if call.seconds or call.problem is not None:
                    self._hand_over(call.asked, others_load=load.share, **call.outcome(self._gemm))

    def _asked(self, profiled: Profiled, spec: ImageSpec, batch_size: int, sampler: str) -> dict[str, Any]:
        """What a measurement says whatever comes out: what was asked for, of whom and where."""
        hyperparameters, space = dict(profiled.hyperparameters), [*spec.shape, spec.levels]
        place = [self._machine["fingerprint"], profiled.model, hyperparameters, profiled.run]
        cell = digest_of([*place, space, batch_size, sampler])[:16]
        codes = [profiled.code, profiled.sampler_codes.get(sampler)]
        return {
            "cell": cell, "key": digest_of([cell, *codes, self.profile.rounds, self.profile.seed])[:16],
            "label": profiled.label, "model": profiled.model, "hyperparameters": hyperparameters,
            "weights": "initial" if profiled.run is None else "trained", "run": profiled.run,
            "channels": spec.channels, "height": spec.height, "width": spec.width, "levels": spec.levels,
            "batch_size": batch_size, "sampler": sampler, "bits_per_dim": profiled.bits_per_dim,
            "likelihood_kind": profiled.likelihood_kind, **self._machine,
        }  # fmt: skip

    def _is_known(self, asked: dict[str, Any]) -> bool:
        before = self.found.get(asked["cell"])
        if before is None or before.status != "done" or not before.complete or before.key != asked["key"]:
            return False
        said = {name: asked[name] for name in ("label", "bits_per_dim", "likelihood_kind")}
        self.found[before.cell] = kept = before.model_copy(update=said)
        self.kept.append(kept)
        return True

    def _too_long(self, asked: dict[str, Any]) -> str:
        """Foresees what a call would take, where that is more than twice the budget; a naive raster is extrapolated."""
        same = {name: asked[name] for name in ("label", "sampler", "fingerprint", "channels", "levels")}
        measured = [item for item in self.found.values() if item.shown and same.items() <= vars(item).items()]
        expected, near = foresee(measured, asked["height"] * asked["width"], asked["batch_size"])
        budget = self.profile.budget_seconds
        if asked["sampler"] == RASTER or near is None or expected <= 2 * budget:
            return ""
        where = f"{near.size}, batch {near.batch_size}"
        return f"a call would take about {expected:.2g} s, to judge by {where}; the budget is {budget:g} s"

    def _hand_over(self, asked: dict[str, Any], *, reason: str = "", **measured: Any) -> None:
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        measurement = Measurement(**asked, **measured, reason=" ".join(reason.split()), created=created)
        self.made.append(measurement)
        self.found[measurement.cell] = measurement
        self.on_measurement(measurement)


def foresee(measured: Sequence[Measurement], pixels: int, batch_size: int) -> tuple[float, Measurement | None]:
    """Foresees the seconds of a call, proportional to pixels and images, from the nearest smaller measurement."""
    smaller = [item for item in measured if item.pixels <= pixels and item.batch_size <= batch_size]
    if not smaller:
        return 0.0, None
    near = max(smaller, key=lambda item: (item.batch_size, item.pixels))
    return near.median_seconds * (pixels / near.pixels) * (batch_size / near.batch_size), near
