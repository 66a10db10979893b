"""How trainings went: the points of their curves, with the images seen and the FLOPs spent up to each."""

from collections.abc import Iterable
from typing import NamedTuple

from harness.records.record import RunRecord

_MACHINE = (("{}", "device_name"), ("{} cores", "cores"), ("threads: {}", "threads"), ("torch {}", "torch"))


class TrainingCurve(NamedTuple):
    """The curve of one training: columns of one length, and the machine that its seconds are of.

    The columns are those of ``Curve``, and ``images`` seen and ``flops``; None where there is no such number.
    """

    record: RunRecord
    machine: str
    columns: dict[str, tuple[float | None, ...]]

    @property
    def has_validation(self) -> bool:
        """Whether it validated."""
        return any(score is not None for score in self.columns["valid"])


def curves_of(records: Iterable[RunRecord]) -> list[TrainingCurve]:
    """Returns the curves of the trainings that have one. FLOPs at a step are its share of ``flops-training``."""
    found = []
    for record in records:
        if (fit := record.fit) is None or (curve := fit.curve) is None:
            continue
        images, score = record.num_images.get("train"), record.scores.get("flops-training")
        each = score.value / fit.steps if score is not None and score.value and fit.steps else None
        columns: dict[str, tuple[float | None, ...]] = {
            "step": curve.step,
            "epoch": curve.epoch,
            "images": tuple(None if images is None else float(round(epoch * images)) for epoch in curve.epoch),
            "seconds": curve.seconds,
            "flops": tuple(None if each is None else step * each for step in curve.step),
            "loss": curve.loss,
            "valid": curve.valid,
        }
        stated = [form.format(record.environment[name]) for form, name in _MACHINE if record.environment.get(name)]
        found.append(TrainingCurve(record, ", ".join(stated) or "unknown machine", columns))
    return found
