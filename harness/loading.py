"""Back from a run to its trained model."""

from __future__ import annotations

from harness.checkpoint import load_weights
from harness.components import build_model, load_dataset
from harness.coordinator import Settings
from harness.environment import choose_device
from harness.interface.data_folder import DataFolder
from harness.model import Model
from harness.plugins import plugin_manager
from harness.randomness import isolated_rng
from harness.record import RunRecord


def load_model(record: RunRecord, settings: Settings) -> Model:
    """Returns a run's trained model on its device, in evaluation mode.

    Raises:
        ValueError: the training is not complete, or its plugin or data are not there any more.
    """
    folder = settings.artifacts.folder(record.run)
    if folder.fit() is None:
        raise ValueError(f"run {record.run!r} has no trained weights: its status is {record.status}")
    plugins = plugin_manager(settings.blocked)
    data = load_dataset(plugins, record.spec.dataset, DataFolder.resolve(settings.data))
    device = choose_device(settings.device)
    with isolated_rng(record.spec.seed, device):
        model = build_model(plugins, record.spec, data, device)
    load_weights(folder.weights, model)
    return model.eval()
