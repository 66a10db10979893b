"""Checkpoints: what goes in comes out, what does not fit is named, and a crash leaves the old file."""

from __future__ import annotations

import math
import os
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from harness.support.checkpoint import (
    CheckpointError,
    load_state,
    load_weights,
    put_weights,
    save_state,
    save_weights,
    write_atomically,
)


def same(left, right):
    """Equality of type, structure and content, of tensors bit by bit."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return left == right


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"step": 3, "fraction": 0.1, "name": "a \N{GREEK SMALL LETTER ALPHA}", "flag": True, "nothing": None},
        {"list": [1, [2.5, None]], "tuple": (1, ("x",), []), "empty": ((), {}, [])},
        {0: {1: torch.arange(3)}, "0": "text", None: []},
        {"a/b": {"c.d": torch.ones(2, 2)}},
        {"scalar": torch.tensor(2.5, dtype=torch.float64), "none": torch.empty(0, 3), "bits": torch.tensor([True])},
        {"half": torch.ones(2, dtype=torch.bfloat16), "rng": torch.get_rng_state()},
        {"infinite": math.inf, "tiny": 5e-324, "large": 2**80},
    ],
    ids=["empty", "plain", "nested", "integer keys", "slashes", "odd shapes", "types", "extreme numbers"],
)
def test_nested_state_comes_back_as_it_was(tmp_path, state):
    save_state(tmp_path / "state.safetensors", state)
    assert same(load_state(tmp_path / "state.safetensors"), state)


def test_keys_that_read_alike_do_not_share_a_tensor(tmp_path):
    state = {1: torch.zeros(2), "1": torch.ones(2), "a": {"b": torch.zeros(1)}, "a/b": torch.ones(1)}
    save_state(tmp_path / "state.safetensors", state)
    assert same(load_state(tmp_path / "state.safetensors"), state)


def test_an_optimizers_state_goes_on_from_a_checkpoint_bit_for_bit(tmp_path):
    def steps(model, optimizer, number):
        for _ in range(number):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()

    model = linear()
    optimizer = torch.optim.Adam(model.parameters())
    steps(model, optimizer, 3)
    save_state(tmp_path / "state.safetensors", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    steps(model, optimizer, 3)
    resumed = linear(seed=1)
    again = torch.optim.Adam(resumed.parameters())
    state = load_state(tmp_path / "state.safetensors")
    put_weights(state["model"], resumed, source="state")
    again.load_state_dict(state["optimizer"])
    steps(resumed, again, 3)
    assert same(dict(resumed.state_dict()), dict(model.state_dict()))


def test_views_of_one_storage_are_saved_apart(tmp_path):
    whole = torch.arange(6.0).view(2, 3)
    state = {"whole": whole, "row": whole[1], "transposed": whole.T}
    save_state(tmp_path / "state.safetensors", state)
    assert same(load_state(tmp_path / "state.safetensors"), state)


def test_an_object_that_is_no_data_is_refused_by_its_place_in_the_state(tmp_path):
    with pytest.raises(TypeError, match=r"state/tracked/1: a checkpoint holds tensors, .* not <class 'object'>"):
        save_state(tmp_path / "state.safetensors", {"tracked": [0, object()]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("load", [load_state, lambda path: load_weights(path, linear())], ids=["state", "weights"])
def test_a_truncated_file_is_refused_by_its_path(tmp_path, kept, load):
    path = tmp_path / "cut.safetensors"
    save_state(path, {"weights": torch.randn(100)})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load(path)


@pytest.mark.parametrize("load", [load_state, lambda path: load_weights(path, linear())], ids=["state", "weights"])
def test_a_missing_file_is_refused_by_its_path(tmp_path, load):
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / "absent.safetensors"))):
        load(tmp_path / "absent.safetensors")


def test_one_letter_or_number_that_changed_in_a_state_is_noticed(tmp_path):
    path = tmp_path / "state"
    save_state(
        path, {"phase": 1, "half": torch.ones((), dtype=torch.bfloat16), "none": torch.empty(0), "x": torch.ones(3)}
    )
    content = path.read_bytes()
    assert load_state(path)["x"].tolist() == [1.0, 1.0, 1.0]
    for changed in (content.replace(b"phase", b"phasf"), content[:-1] + b"\x40"):
        path.write_bytes(changed)
        with pytest.raises(CheckpointError, match="it has changed since it was written"):
            load_state(path)


def test_a_safetensors_file_without_our_structure_is_refused_by_its_path(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"weights": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load_state(path)


def test_weights_are_a_plain_safetensors_file_under_their_own_names(tmp_path):
    model = linear()
    save_weights(tmp_path / "model.safetensors", model)
    content = load_file(tmp_path / "model.safetensors")
    assert same(dict(sorted(content.items())), dict(sorted(model.state_dict().items())))


def test_a_model_without_state_can_be_saved_and_loaded(tmp_path):
    save_weights(tmp_path / "empty.safetensors", nn.Identity())
    load_weights(tmp_path / "empty.safetensors", nn.Identity())
    assert load_file(tmp_path / "empty.safetensors") == {}


def test_loaded_weights_are_the_same_parameter_objects(tmp_path):
    source, target = linear(), linear(seed=1)
    save_weights(tmp_path / "model.safetensors", source)
    before = list(target.parameters())
    load_weights(tmp_path / "model.safetensors", target)
    assert all(old is new for old, new in zip(before, target.parameters(), strict=True))
    assert same(dict(target.state_dict()), dict(source.state_dict()))


def test_names_that_differ_are_listed():
    with pytest.raises(CheckpointError, match=r"there: does not fit Linear: missing \['bias'\], unknown \['scale'\]"):
        put_weights({"weight": torch.zeros(2, 3), "scale": torch.zeros(1)}, linear(), source="there")


def test_a_shape_that_differs_is_named_with_both_shapes():
    tensors = {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"there: weight has shape \(2, 4\), Linear expects \(2, 3\)"):
        put_weights(tensors, linear(), source="there")


def test_weights_that_do_not_fit_leave_the_model_as_it_was():
    model = linear()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError):
        put_weights({"bias": torch.zeros(2), "weight": torch.zeros(2, 4)}, model, source="there")
    assert same(dict(model.state_dict()), before)


class Memory(nn.Module):
    """Holds whatever images it was shown."""

    def __init__(self):
        super().__init__()
        self.register_buffer("images", torch.empty(0, dtype=torch.uint8))
        self.register_buffer("widths", torch.empty(0))


def test_a_buffer_registered_empty_takes_the_files_shape_and_content(tmp_path):
    fitted, fresh = Memory(), Memory()
    fitted.images = torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2)
    fitted.widths = torch.tensor([0.5, 2.0])
    save_weights(tmp_path / "memory.safetensors", fitted)
    load_weights(tmp_path / "memory.safetensors", fresh)
    assert same(dict(fresh.state_dict()), dict(fitted.state_dict()))


def test_a_buffer_registered_empty_keeps_the_models_type(tmp_path):
    fitted, fresh = Memory(), Memory().double()
    fitted.widths = torch.tensor([0.5, 2.0])
    save_weights(tmp_path / "memory.safetensors", fitted)
    load_weights(tmp_path / "memory.safetensors", fresh)
    assert same(fresh.widths, torch.tensor([0.5, 2.0], dtype=torch.float64))


def test_a_filled_buffer_shares_no_memory_with_its_source():
    fresh, source = Memory(), {"images": torch.zeros(2, dtype=torch.uint8), "widths": torch.ones(2)}
    put_weights(source, fresh, source="there")
    source["widths"].zero_()
    assert fresh.widths.tolist() == [1.0, 1.0]


def test_a_write_creates_missing_folders_and_leaves_nothing_beside_the_file(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "file", b"content")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_no_other_file(tmp_path, monkeypatch, failing):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(os, failing, fail)
    if failing == "replace":
        monkeypatch.setattr(type(path), "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_saved_state_lies_in_memory_as_it_did(tmp_path):
    state = {
        "channels last": torch.randn(4, 3, 2, 5).contiguous(memory_format=torch.channels_last),
        "transposed": torch.randn(3, 4).T,
        "a part": torch.randn(4, 6)[:, ::2],
        "contiguous": torch.randn(2, 3),
    }
    save_state(tmp_path / "state.safetensors", state)
    loaded = load_state(tmp_path / "state.safetensors")
    for name, value in state.items():
        assert torch.equal(loaded[name], value)
        if name != "a part":
            assert loaded[name].stride() == value.stride()


def test_adam_goes_on_as_if_uninterrupted_from_saved_state_where_weights_lie_channels_last(tmp_path):
    def trained(stop):
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        adam = torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
        for step in range(6):
            if step == stop:
                save_state(tmp_path / "state.safetensors", adam.state_dict())
                adam.load_state_dict(load_state(tmp_path / "state.safetensors"))
            torch.manual_seed(step)
            adam.zero_grad()
            layer(torch.randn(2, 3, 5, 5)).square().sum().backward()
            adam.step()
        return layer.weight.detach()

    assert torch.equal(trained(stop=3), trained(stop=None))
