"""Checkpoints: tensors in safetensors, everything else as JSON in the same file's header. Nothing is ever unpickled.

One file means one atomic rename: a checkpoint is the old one or the new one, never half of each.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from harness.support.files import write_atomically as write_atomically  # the trainer takes it from here

_EXTRA = "_extra_state"  # as torch.nn.Module names it


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, that does not fit the model, or that would not hold all of its state."""


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = f"{len(tensors)}:{name}"  # the number tells the keys 1 and "1" apart, and "a/b" from "b" in "a"
        order = _memory_order(value)
        value = value.detach().cpu()
        tensors[name] = (value if order is None else value.permute(order)).contiguous().clone()
        return {"tensor": name} if order is None else {"permuted": [name, order]}
    if isinstance(value, Mapping):
        return {"map": [[key, _pack(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_pack(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"{name}: a checkpoint holds tensors, numbers, strings, lists and mappings, not {type(value)}")


def _memory_order(value: Tensor) -> list[int] | None:
    """Returns the dimensions from the slowest to the fastest in memory, None where that is their own order.

    An optimizer's fused step takes for granted that its state lies in memory as its parameter does.
    """
    if value.is_contiguous():
        return None
    order = sorted(range(value.dim()), key=value.stride, reverse=True)
    return order if value.permute(order).is_contiguous() else None


def _unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    [(kind, content)] = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "permuted":
        name, order = content
        return tensors[name].permute(sorted(range(len(order)), key=order.__getitem__))
    if kind == "map":
        return {key: _unpack(item, tensors) for key, item in content}
    if kind in ("list", "tuple"):
        items = (_unpack(item, tensors) for item in content)
        return list(items) if kind == "list" else tuple(items)
    return content


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes nested mappings and lists of tensors, numbers and strings atomically to one safetensors file."""
    tensors: dict[str, Tensor] = {}
    structure = _pack(state, "state", tensors)
    text = json.dumps(structure)
    write_atomically(path, save(tensors, metadata={"structure": text, "sha256": _digest(text, tensors)}))


def check_state(state: Mapping[str, Any], *, whose: str) -> None:
    """Tries, in memory, to save and to load a state; a CheckpointError names what could not be."""
    tensors: dict[str, Tensor] = {}
    try:
        structure = _pack(state, whose, tensors)
        for name, value in tensors.items():
            _check_tensor(name, value)
        _unpack(json.loads(json.dumps(structure)), tensors)
    except (TypeError, RuntimeError) as error:
        raise CheckpointError(f"{whose} cannot be saved: {error}") from error


def _check_tensor(name: str, value: Any) -> None:
    """Tries to save none of a tensor's entries: its kind, layout and type are what may be wrong."""
    right = "a checkpoint holds dense tensors: keep it in a buffer, or in get_extra_state as one"
    if not isinstance(value, Tensor):
        raise CheckpointError(f"{name} cannot be saved: it is a {type(value).__name__}, {right}")
    try:
        save({name: value.detach().reshape(-1)[:0].cpu()})
    except Exception as error:  # of a sparse, quantized or lazy tensor: RuntimeError, KeyError, ValueError, ...
        found = f"{type(value).__name__}, {value.layout}, {value.dtype}".replace("torch.", "")
        raise CheckpointError(f"{name} cannot be saved: it is a tensor ({found}), {right}") from error


def load_state(path: Path) -> dict[str, Any]:
    """Reads what ``save_state`` wrote; a file that is truncated, changed, or not one of ours, is a CheckpointError."""
    tensors, metadata = read_tensors(path)
    if "sha256" in metadata and metadata["sha256"] != _digest(metadata.get("structure", ""), tensors):
        raise CheckpointError(f"{path}: it has changed since it was written")
    try:
        state: dict[str, Any] = _unpack(json.loads(metadata["structure"]), tensors)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({type(error).__name__}: {error})") from error
    return state


def _digest(structure: str, tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256(structure.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def save_weights(path: Path, model: nn.Module, metadata: Mapping[str, str] | None = None) -> None:
    """Writes a model's ``state_dict`` atomically to ``path``, a safetensors file, with ``metadata`` in its header."""
    state = model.state_dict()
    for name, value in state.items():
        _check_tensor(f"{type(model).__name__}: {name}", value)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    # empty metadata would give a header that safetensors itself cannot read where a model has no tensors
    write_atomically(path, save(tensors, metadata=dict(metadata) if metadata else None))


def check_weights(model: nn.Module) -> dict[str, torch.Size]:
    """Returns what a model's weights are, by name, if all of them can be saved and put back; else a CheckpointError."""
    own, again = model.state_dict(keep_vars=True), model.state_dict(keep_vars=True)
    for key, value in own.items():
        name = f"{type(model).__name__}: {key}"
        _check_tensor(name, value)
        if not _is_extra(key) and value.data_ptr() != again[key].data_ptr():
            raise CheckpointError(f"{name} cannot be put back: state_dict makes it anew, keep it in a buffer")
    return {key: value.shape for key, value in own.items()}


def _is_extra(name: str) -> bool:
    return name.rpartition(".")[2] == _EXTRA


def load_weights(path: Path, model: nn.Module) -> None:
    """Puts a safetensors file's tensors into a model, in place; buffers registered empty take the file's shapes.

    A CheckpointError says that the file cannot be read, or that names or shapes differ from the model's.
    """
    put_weights(read_tensors(path)[0], model, source=str(path))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors of a safetensors file, and what its header says besides; CheckpointError: it has none."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error


@torch.no_grad()
def put_weights(tensors: Mapping[str, Tensor], model: nn.Module, *, source: str) -> None:
    """Copies ``tensors``, by the names of the ``state_dict``, into a model in place: optimizers keep their references.

    ``source`` says in messages where they come from; where names or shapes differ, a CheckpointError names up to three.
    """
    own = model.state_dict(keep_vars=True)
    check_shapes(
        {name: value.shape for name, value in own.items()},
        {name: value.shape for name, value in tensors.items()},
        f"{source}: does not fit {type(model).__name__}",
    )
    for name, value in tensors.items():
        target = own[name]
        if _is_extra(name):
            model.get_submodule(name.rpartition(".")[0]).set_extra_state(value)
        elif target.shape == value.shape and 0 not in target.stride():
            target.copy_(value)
        else:  # registered empty, or expanded from fewer numbers
            target.data = value.to(target, copy=True)


def check_shapes(own: Mapping[str, torch.Size], found: Mapping[str, torch.Size], problem: str) -> None:
    """Compares a model's names and shapes with others; where they differ, a CheckpointError names up to three."""
    missing, unknown = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    if missing or unknown:
        late = "; what is saved has to be there when a model is constructed, or be no persistent buffer"
        raise CheckpointError(f"{problem}: missing {missing[:3]}, unknown {unknown[:3]}{'' if missing else late}")
    for name, shape in found.items():
        if own[name].numel() > 0 and own[name] != shape and not _is_extra(name):
            raise CheckpointError(f"{problem}: {name} has shape {tuple(shape)}, expected {tuple(own[name])}")
