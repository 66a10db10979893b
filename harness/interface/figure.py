"""What a figure is made of: a model, with everything that a picture of it may need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.interface.dataset import Dataset
from harness.interface.model import Model

if TYPE_CHECKING:
    from harness.records.record import RunRecord


@dataclass(frozen=True)
class ShownModel:
    """A model to draw a picture of: the first seed of a board's row that is trained, or a model as it is initialised.

    Attributes:
        label: the row's, as boards print it.
        model: in evaluation mode, on the CPU.
        data: the dataset that it was trained on; of a model that is not trained, random images.
        seed: of the training.
        record: of the run; None of a model that is not trained.
    """

    label: str
    model: Model
    data: Dataset
    seed: int = 0
    record: RunRecord | None = None
