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
    return [_curve(record) for record in records if record.fit is not None and record.fit.curve is not None]


def _curve(record: RunRecord) -> TrainingCurve:
    fit, score = record.fit, record.scores.get("flops-training")
    assert fit is not None
    assert fit.curve is not None
    curve, images = fit.curve, record.num_images.get("train")
    whole = score.value if score is not None and score.status == "done" else None
    columns: dict[str, tuple[float | None, ...]] = {
        "step": curve.step,
        "epoch": curve.epoch,
        "images": tuple(None if images is None else float(round(epoch * images)) for epoch in curve.epoch),
        "seconds": curve.seconds,
        "flops": tuple(None if whole is None or not fit.steps else whole * step / fit.steps for step in curve.step),
        "loss": curve.loss,
        "valid": curve.valid,
    }
    stated = [form.format(record.environment[name]) for form, name in _MACHINE if record.environment.get(name)]
    return TrainingCurve(record, ", ".join(stated) or "unknown machine", columns)
