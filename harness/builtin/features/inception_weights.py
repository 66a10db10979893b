"""Where the weights of the FID's Inception network come from, and how they are read without trusting them."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from harness import CheckpointError, DataFolder, RemoteFile, put_weights
from harness.builtin.features.inception import Inception

VARIABLE = "HARNESS_INCEPTION"

OFFICIAL = RemoteFile(
    "inception/pt_inception-2015-12-05-6726825d.pth",
    (
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    ),
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
"""The published port of the TensorFlow graph of 2015-12-05; both projects serve the same file."""


def load_inception(folder: DataFolder | None) -> Inception:
    """Returns the network with its weights.

    They are taken from the file that ``HARNESS_INCEPTION`` names: a ``.safetensors`` file, whose content then names
    itself by the digest in each figure's protocol, or the official ``.pth``. Without that variable, from the data
    folder, which downloads the official file if need be. A ``.pth`` is a pickle: it is looked at only if its SHA-256
    is the official one, and then by torch's unpickler that knows tensors alone.

    Raises:
        ValueError: the named file is not there, or is of another kind.
        CheckpointError: its tensors are not those of the network.
        DataCorrupt: a ``.pth`` with another SHA-256.
        DataUnavailable: not in the data folder, and it cannot be downloaded.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        content = (folder or DataFolder.resolve()).read(OFFICIAL)
        return _network(_official_tensors(content), OFFICIAL.path)
    path = Path(named).expanduser()
    if path.suffix not in (".safetensors", ".pth") or not path.is_file():
        raise ValueError(f"{VARIABLE} is {named!r}: it must name a .safetensors or .pth file that is there")
    content = path.read_bytes()
    if path.suffix == ".pth":
        OFFICIAL.verify(content, named)
        return _network(_official_tensors(content), named)
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{named}: not a readable safetensors file ({error})") from error
    return _network(tensors, named)


def _official_tensors(verified: bytes) -> dict[str, Tensor]:
    """Reads the official file; only content whose digest was verified may come here."""
    tensors = torch.load(io.BytesIO(verified), map_location="cpu", weights_only=True)
    assert isinstance(tensors, dict)
    return tensors


def _network(tensors: Mapping[str, Tensor], source: str) -> Inception:
    net = Inception()
    counters = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
    # how many batches the statistics were taken over is of no use, and some copies leave it out
    put_weights({**tensors, **counters}, net, source=source)
    return net
