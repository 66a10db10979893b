"""Measuring generation speed: every sampler of every model, at every size and batch size, in interleaved rounds."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.benchmark import timer

from harness.interface.model import Model, Unsupported
from harness.interface.spec import ImageSpec
from harness.profiling.contest import Contest, Entrant
from harness.profiling.flops import gemm_peak
from harness.profiling.measurement import RASTER, Measurement, foresee
from harness.profiling.profile import GenerationProfile
from harness.profiling.timing import Clock
from harness.support.digest import digest_of
from harness.support.environment import describe_environment, fingerprint, hardware
from harness.support.randomness import derive_seed, isolated_rng

NUM_CLASSES = 10  # for models that need labels


@dataclass(frozen=True)
class Profiled:
    """A model to profile.

    Attributes:
        label: as tables print it.
        model: its registered name.
        make: constructs it for a sample space, trained where ``spec`` is given; raises Unsupported or ValueError.
        hyperparameters: what differs from its defaults.
        code: the digest of its code.
        sampler_codes: those of the samplers that plugins registered for it, by name.
        spec: the one space of a trained model.
        run: whose weights it has.
        bits_per_dim, likelihood_kind: of that run.
        samplers, sizes: other than the profile's.
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


@dataclass(frozen=True)
class _Machine:
    device: torch.device
    fingerprint: str
    hardware: str
    environment: Mapping[str, Any]
    gemm: float


class GenerationRun:
    """One measuring of a profile.

    Args:
        profile: what to measure.
        models: its rows.
        device: where.
        known: measurements that need not be repeated.
        on_measurement: is given each measurement as soon as it is made; also known ones, with ``repeated`` False.
        clock: gives seconds, once the accelerator is done.
    """

    def __init__(
        self,
        profile: GenerationProfile,
        models: Sequence[Profiled],
        device: torch.device,
        *,
        known: Sequence[Measurement] = (),
        on_measurement: Callable[[Measurement], None],
        clock: Clock = timer,
    ) -> None:
        self.profile, self.models, self.clock = profile, models, clock
        self.device, self.on_measurement = device, on_measurement
        self.found = {measurement.cell: measurement for measurement in known}
        self.kept: list[Measurement] = []
        self.made: list[Measurement] = []

    def check(self) -> None:
        """Finds what no model of the profile can do before anything is measured.

        Raises:
            ValueError: a sampler that no model has, or a model that can do none of the sizes; the message says which
                there are, or why.
        """
        have: dict[str, set[str]] = {}
        reasons: dict[str, str] = {}
        for spec, models in self._spaces():
            for model in models:
                try:
                    have.setdefault(model.label, set()).update(self._build(model, spec).samplers())
                except ValueError as error:
                    have.setdefault(model.label, set())
                    reasons.setdefault(model.label, str(error))
        for model in self.models:
            if not have[model.label]:
                raise ValueError(f"{model.label}: {reasons[model.label]}")
            for name in model.samplers or ():
                if name not in have[model.label]:
                    raise ValueError(
                        f"{model.label} has no sampler {name!r}, it has: {', '.join(sorted(have[model.label]))}"
                    )
        every = set().union(*have.values())
        for name in self.profile.samplers or ():
            if name not in every:
                raise ValueError(f"no model here has a sampler {name!r}, there are: {', '.join(sorted(every))}")

    def _build(self, model: Profiled, spec: ImageSpec) -> Model:
        with isolated_rng(derive_seed(self.profile.seed, "initialisation"), self.device):
            return model.make(model.spec or spec).to(self.device).eval()

    def run(self) -> None:
        """Measures what is not known yet, sizes and batch sizes from small to large.

        Raises:
            KeyboardInterrupt: what was measured until then has been handed over.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(self.profile.threads)
        try:
            device, count = self.device, self.profile.threads
            self._machine = _Machine(
                device, fingerprint(device, count), hardware(device, count), _environment(device, count),
                gemm_peak(device),
            )  # fmt: skip
            for spec, models in self._spaces():
                self._measure_space(spec, models)
        finally:
            torch.set_num_threads(threads)

    def _spaces(self) -> Iterator[tuple[ImageSpec, list[Profiled]]]:
        """Sample spaces with the models to profile there, the smallest first."""
        profile = self.profile
        wanted: dict[tuple[int, int, int, int, int], tuple[ImageSpec, list[Profiled]]] = {}
        for model in self.models:
            sizes = sorted(model.sizes or profile.sizes)
            specs = [ImageSpec(profile.channels, n, n, profile.levels, NUM_CLASSES) for n in sizes]
            for spec in [model.spec] if model.spec is not None else specs:
                key = (spec.height * spec.width, *spec.shape, spec.levels)
                wanted.setdefault(key, (spec, []))[1].append(model)
        for key in sorted(wanted):
            yield wanted[key]

    def _measure_space(self, spec: ImageSpec, models: Sequence[Profiled]) -> None:
        built: list[tuple[Profiled, Model]] = []
        for model in models:
            try:
                built.append((model, self._build(model, spec)))
            except ValueError as error:  # Unsupported is one
                names = model.samplers or self.profile.samplers or ("any",)
                for batch_size in sorted(self.profile.batch_sizes):
                    for name in names:
                        self._skip(model, spec, batch_size, name, str(error))
        for batch_size in sorted(self.profile.batch_sizes):
            self._measure_batch(built, batch_size)

    def _measure_batch(self, built: Sequence[tuple[Profiled, Model]], batch_size: int) -> None:
        contest = Contest(batch_size, self.profile, self.clock)
        owners: list[tuple[Profiled, Entrant]] = []
        for profiled, model in built:
            names = list(model.samplers())
            for name in profiled.samplers or self.profile.samplers or names:
                if self._is_known(profiled, model.spec, batch_size, name):
                    continue
                if name not in names:
                    reason = f"{profiled.model} has no sampler {name!r}, it has: {', '.join(names)}"
                elif (late := self._too_long(profiled, model.spec, batch_size, name)) is not None:
                    reason = late
                else:
                    owners.append((profiled, contest.enter(model, name)))
                    continue
                self._skip(profiled, model.spec, batch_size, name, reason)
        try:
            contest.run()
        finally:
            for profiled, entrant in owners:
                if entrant.contender.seconds or entrant.contender.problem is not None:
                    measured = self._measured_of(entrant)
                    self._hand_over(self._made(profiled, entrant.model.spec, batch_size, entrant.sampler, **measured))

    # --- what is known ---

    def _is_known(self, profiled: Profiled, spec: ImageSpec, batch_size: int, sampler: str) -> bool:
        before = self.found.get(self._cell(profiled, spec, batch_size, sampler))
        if before is None or before.status != "done" or not before.complete:
            return False
        if before.key != self._key(profiled, before.cell, sampler):
            return False
        again = {
            "label": profiled.label, "bits_per_dim": profiled.bits_per_dim, "likelihood_kind": profiled.likelihood_kind,
        }  # fmt: skip
        self.kept.append(before.model_copy(update=again))
        self.found[before.cell] = self.kept[-1]
        return True

    def _too_long(self, profiled: Profiled, spec: ImageSpec, batch_size: int, sampler: str) -> str | None:
        """Foresees what a call would take, where that is more than twice the budget; a naive raster is extrapolated."""
        if sampler == RASTER:
            return None
        expected, near = foresee(self._measured(profiled, spec, sampler), spec.height * spec.width, batch_size)
        budget = self.profile.budget_seconds
        if near is None or expected <= 2 * budget:
            return None
        where = f"{near.height}x{near.width}, batch {near.batch_size}"
        return f"a call would take about {expected:.2g} s, to judge by {where}; the budget is {budget:g} s"

    def _measured(self, profiled: Profiled, spec: ImageSpec, sampler: str) -> list[Measurement]:
        same = (profiled.label, sampler, self._machine.fingerprint, spec.channels, spec.levels)
        return [
            item
            for item in self.found.values()
            if item.shown and (item.label, item.sampler, item.fingerprint, item.channels, item.levels) == same
        ]

    def _cell(self, profiled: Profiled, spec: ImageSpec, batch_size: int, sampler: str) -> str:
        parts = [
            self._machine.fingerprint, profiled.model, dict(profiled.hyperparameters), profiled.run,
            [*spec.shape, spec.levels], batch_size, sampler,
        ]  # fmt: skip
        return digest_of(parts)[:16]

    def _key(self, profiled: Profiled, cell: str, sampler: str) -> str:
        codes = [profiled.code, profiled.sampler_codes.get(sampler)]
        return digest_of([cell, *codes, self.profile.rounds, self.profile.seed])[:16]

    # --- what is made of it ---

    def _hand_over(self, measurement: Measurement) -> None:
        self.made.append(measurement)
        self.found[measurement.cell] = measurement
        self.on_measurement(measurement)

    def _skip(self, profiled: Profiled, spec: ImageSpec, batch_size: int, sampler: str, reason: str) -> None:
        self._hand_over(self._made(profiled, spec, batch_size, sampler, status="skipped", reason=reason))

    def _made(
        self, profiled: Profiled, spec: ImageSpec, batch_size: int, sampler: str, *, reason: str = "", **measured: Any
    ) -> Measurement:
        cell, machine = self._cell(profiled, spec, batch_size, sampler), self._machine
        return Measurement(
            cell=cell, key=self._key(profiled, cell, sampler), label=profiled.label, model=profiled.model,
            hyperparameters=dict(profiled.hyperparameters), weights="initial" if profiled.run is None else "trained",
            run=profiled.run, channels=spec.channels, height=spec.height, width=spec.width, levels=spec.levels,
            batch_size=batch_size, sampler=sampler, reason=" ".join(reason.split()),
            bits_per_dim=profiled.bits_per_dim, likelihood_kind=profiled.likelihood_kind,
            fingerprint=machine.fingerprint, hardware=machine.hardware, environment=dict(machine.environment),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), **measured,
        )  # fmt: skip

    def _measured_of(self, entrant: Entrant) -> dict[str, Any]:
        """What a measurement says of an entrant: its figures, or why there are none."""
        contender, certificate = entrant.contender, entrant.certificate
        if isinstance(contender.problem, Unsupported):
            return {"status": "skipped", "reason": str(contender.problem)}
        if contender.problem is not None:
            return {"status": "failed", "reason": f"{type(contender.problem).__name__}: {contender.problem}"}
        if certificate.status == "fails":
            return {
                "status": "failed certificate", "reason": str(contender.certificate), "certificate": certificate
            }  # fmt: skip
        timed, total = contender.part or (None, None)
        return {
            "default": entrant.is_default, "complete": contender.complete, "seconds": tuple(contender.seconds),
            "calls": contender.calls, "warmed_up": contender.warmed_up, "extrapolated_from": timed,
            "full_passes": total, "forward_flops": entrant.forward_flops,
            "forward_seconds": () if entrant.forward is None else tuple(entrant.forward.seconds),
            "gemm_flops_per_second": self._machine.gemm, "network_evaluations": contender.network_evaluations,
            "sequential_depth": contender.sequential_depth, "peak_memory_bytes": entrant.peak_memory_bytes,
            "memory_cut_off": entrant.memory_cut_off, "certificate": certificate,
            "precision": str(entrant.model.dtype).removeprefix("torch."),
        }  # fmt: skip


def _environment(device: torch.device, threads: int) -> dict[str, Any]:
    """What was typed is left out: it may hold folders of this machine, and measurements are published."""
    return {name: value for name, value in describe_environment(device, threads).items() if name != "command"}
