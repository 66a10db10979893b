"""Back from a run to its trained model."""

from __future__ import annotations

from harness.discovery.loading import build_model, load_dataset
from harness.discovery.manager import plugin_manager
from harness.interface.data_folder import DataFolder
from harness.interface.model import Model
from harness.records.record import RunRecord
from harness.running.settings import Settings
from harness.support.checkpoint import load_weights
from harness.support.environment import choose_device
from harness.support.randomness import isolated_rng


def load_model(record: RunRecord, settings: Settings) -> Model:
    """Returns a run's trained model on its device, in evaluation mode.

    Raises:
        ValueError: the training is not complete, or its plugin or data are not there any more.
    """
    folder = settings.artifacts.folder(record.run)
    if folder.fit() is None:
        raise ValueError(f"run {record.run!r} has no trained weights: its status is {record.status}")
    plugins = plugin_manager(settings.blocked).at(folder.code_folder())
    data = load_dataset(plugins, record.spec.dataset, DataFolder.resolve(settings.data))
    device = choose_device(settings.device)
    with isolated_rng(record.spec.seed, device):
        model = build_model(plugins, record.spec, data, device, everyones_samplers=True)
    load_weights(folder.weights, model)
    return model.eval()
