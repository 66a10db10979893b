"""The fastest way to draw from a model: all samplers that anyone registered for it are timed, and must be confirmed."""

import copy
import dataclasses
import math

import torch

import harness
from harness.builtin.metrics.cost import Speed, throughput_score

RASTER = "raster"
_SECONDS = 2.0  # for each sampler
_CERTIFIED_ENTRIES = 4096  # at least, where so many images at a time were timed


class FastestSampling(Speed):
    """Images a second by the fastest of the model's samplers, other plugins' among them, each at its best batch size.

    Of an autoregressive model a sampler counts only if a forward pass confirms its images; the naive raster, which is
    their definition, is timed only if that is quick or no other counts. What another model draws nothing confirms: its
    default alone counts. The protocol says of each sampler what became of it; the details hold its images a second, and
    at which batch size, if it counts.
    """

    name = "fastest-sampling"
    header = "Fastest sampler"
    unit = "images/s"
    higher_is_better = True

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Times each sampler for about two seconds, a slow one for a single call."""
        model, others = evaluation.model, harness.with_samplers(copy.copy(evaluation.model))  # it keeps what it has
        found, said, errors = dict[str, harness.Score](), dict[str, str](), list[Exception]()
        with harness.OthersLoad() as load:
            for name, draw in sorted({**others.samplers(), **model.samplers()}.items(), key=lambda it: it[0] == RASTER):
                try:
                    found[name], words = self._timed(evaluation, name, draw, others_count=bool(found))
                except Exception as error:  # somebody else's code: whatever it raises is what became of this sampler
                    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                    words = f"{'left out: ' if isinstance(error, harness.Unsupported) else kind}{error}"
                    errors.append(error)
                said[f"sampler {name}"] = " ".join(words.split())
        if not found:
            raise errors[0]
        best = max(found, key=lambda name: found[name].value)
        details = dict(found[best].details)
        for name, score in found.items():
            details |= {f"{name} images/s": score.value, f"{name} batch size": float(score.protocol["batch size"])}
        protocol = {**found[best].protocol, "sampler": best, **said}
        return self._under(load, dataclasses.replace(found[best], protocol=protocol, details=details))

    def _timed(
        self, evaluation: harness.Evaluation, name: str, draw: harness.BoundSampler, *, others_count: bool
    ) -> tuple[harness.Score, str]:
        """Returns a sampler's score, and what confirms it; raises what is wrong with it, or why it is left out."""
        model = evaluation.model
        machine = harness.speed_protocol(evaluation.device, model.dtype)
        if not isinstance(model, harness.Autoregressive) and name != harness.default_sampler(model):
            raise harness.Unsupported("nothing confirms what it draws")
        if isinstance(model, harness.Autoregressive) and name == RASTER and others_count:
            _require_quick(model)
        with self._isolated(evaluation, name):
            sweep = harness.sweep_batch_sizes(draw, total_seconds=_SECONDS)
        if not isinstance(model, harness.Autoregressive):
            return throughput_score(sweep, machine), "does not apply"
        if name == RASTER:
            return throughput_score(sweep, machine), "is the definition"
        enough = math.ceil(_CERTIFIED_ENTRIES / math.prod(model.spec.shape))
        sizes = {sweep.best, next((size for size in sweep.timings if size >= enough), max(sweep.timings))}
        entries = sum(self._confirmed(evaluation, draw, size, "not confirmed").entries for size in sorted(sizes))
        return throughput_score(sweep, {**machine, "certificate": "holds"}), f"holds: {entries:,} entries"


@torch.no_grad()
def _require_quick(model: harness.Autoregressive) -> None:
    """Raises Unsupported where an image by the naive raster, a forward pass for each step, is foreseen to take long."""
    image = torch.zeros(1, *model.spec.shape, dtype=torch.uint8, device=model.device)
    timing = harness.time_calls(lambda: model.conditional_logits(image), max_seconds=0.05)
    if (expected := timing.median_seconds * len(torch.unique(model.generation_steps(0)))) > _SECONDS:
        raise harness.Unsupported(f"an image would take about {expected:.2g} s")
