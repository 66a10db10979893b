"""What a run and its figures are known by: keys of all that determines them.

The plan makes them, the child process checks that what it has imported and loaded gives the same: files may have been
edited in the meantime.
"""

import logging
from typing import Literal

from harness.discovery.loading import as_json, model_code, resolve
from harness.discovery.manager import PluginManager
from harness.interface.dataset import Dataset
from harness.interface.entries import STORED
from harness.interface.metric import Metric
from harness.interface.model import Model
from harness.interface.spec import Budget, RunSpec, place_of
from harness.records.record import RunRecord
from harness.support.names import digest_of


class Changed(Exception):
    """What a run or a figure depends on is no longer what was planned."""


def what_changed(record: RunRecord, plugins: PluginManager, data: Dataset) -> str | None:
    """Returns what of a run is not what it was when its record was planned: its code, or its data as loaded now."""
    if model_code(plugins, record.spec.model) != record.code:
        return f"the code of {record.spec.model!r}"
    return None if data.digest() == record.dataset_digest else f"the data of {record.spec.dataset!r}"


def warn_of_changes(record: RunRecord, plugins: PluginManager, data: Dataset) -> None:
    """Says in the log what has changed since a run that is looked at was trained."""
    if not record.spec.model.startswith(STORED) and (what := what_changed(record, plugins, data)) is not None:
        told = "%s: %s has changed since it was trained; this is of the weights of then, and of what there is today"
        logging.getLogger("harness").warning(told, record.run, what)


def named_by_content(spec: RunSpec, data: str, code: str) -> RunSpec:
    """Returns a spec whose data and samples are known by content if it says where: the same images are the same run."""
    place = place_of(spec.dataset)
    named = {} if place is None else {"dataset": f"{place[0]}:{data[:12]}"}
    if spec.model.startswith(STORED):
        named["model"] = f"{STORED}{code[:12]}"
    return spec.model_copy(update=named)


def run_key(spec: RunSpec, model: type[Model], *, data: str, code: str, checkpoint: str | None) -> str:
    """Returns the key of a run as ``named_by_content`` names it; ``data``, ``code`` and ``checkpoint`` are digests."""
    return digest_of(
        {
            **spec.model_dump(include={"model", "dataset", "seed", "precision", "threads"}),
            "hyperparameters": as_json(resolve(model, spec.hyperparameters)),
            "data": data,
            "budget": None if spec.checkpoint else str(Budget.parse(spec.budget or model.default_budget)),
            "code": code,
            "checkpoint": checkpoint,
        }
    )


def figure_key(
    record: RunRecord, metric: Metric, name: str, *, drawing: str, split: Literal["test", "valid"], where: str
) -> str:
    """Returns the key of the figure ``name`` on a split; ``where`` is the fingerprint of the hardware of a speed.

    ``drawing`` is the digest of the code that draws images: a metric that asks for no likelihood may look at them.
    """
    looks = split == "test" and metric.requires is Model and drawing != record.code
    at = [where] if metric.stage == "speed" else []
    return digest_of([record.key, *([drawing] if looks else []), name, metric.version, split, *at])
