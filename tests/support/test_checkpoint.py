"""Checkpoints: what goes in comes out, what does not fit is named, and a crash leaves the old file."""

from __future__ import annotations

import math
import os
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from harness.support.checkpoint import (
    CheckpointError,
    check_state,
    check_weights,
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
    with pytest.raises(CheckpointError, match=r"Linear: weight has shape \(2, 4\), expected \(2, 3\)"):
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


class Holding(nn.Module):
    """A layer, and whatever else."""

    def __init__(self, **buffers):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        for name, value in buffers.items():
            self.register_buffer(name, value)


class Telling(Holding):
    """Keeps something beside its tensors."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    def get_extra_state(self):
        return self.state

    def set_extra_state(self, state):
        self.state = state


class Computing(Holding):
    """Makes what it saves anew at each call."""

    def state_dict(self, *args, **options):
        return super().state_dict(*args, **options) | {"double": 2 * self.layer.weight.detach()}


class Lazy(Holding):
    def __init__(self):
        super().__init__()
        self.late = nn.LazyLinear(4)


UNSAVABLE = {
    "extra state": (lambda: Telling({"seen": 3}), "Telling: _extra_state cannot be saved: it is a dict"),
    "sparse": (lambda: Holding(adjacency=torch.eye(3).to_sparse()), "Holding: adjacency cannot be .* sparse_coo"),
    "quantized": (
        lambda: Holding(codes=torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)),
        "Holding: codes cannot be saved: .* qint8",
    ),
    "without memory": (lambda: Holding(scale=torch.ones(3, device="meta")), "Holding: scale cannot be saved"),
    "lazy": (Lazy, "Lazy: late.weight cannot be saved: it is a tensor .UninitializedParameter"),
    "made anew": (Computing, "Computing: double cannot be put back: state_dict makes it anew"),
}


@pytest.mark.parametrize("name", UNSAVABLE)
@pytest.mark.filterwarnings("ignore")  # of lazy modules and of quantized tensors, which torch is about to drop
def test_weights_that_could_not_be_saved_and_put_back_are_named_when_they_are_tried(name):
    make, message = UNSAVABLE[name]
    with pytest.raises(CheckpointError, match=message):
        check_weights(make())


def test_an_extra_state_that_is_a_tensor_is_handed_to_the_module_that_has_it(tmp_path):
    model, other = nn.Sequential(Telling(torch.tensor([3, 4]))), nn.Sequential(Telling(torch.tensor([0])))
    check_weights(model)
    save_weights(tmp_path / "weights.safetensors", model)
    load_weights(tmp_path / "weights.safetensors", other)
    assert other[0].state.tolist() == [3, 4]


def test_shared_transposed_and_expanded_tensors_are_kept(tmp_path):
    def make(value):
        model = Holding(turned=torch.full((2, 3), value).T, expanded=torch.full((1, 3), value).expand(2, 3))
        model.again = model.layer
        return model

    model, other = make(1.0), make(2.0)
    check_weights(model)
    save_weights(tmp_path / "weights.safetensors", model)
    load_weights(tmp_path / "weights.safetensors", other)
    assert same(dict(other.state_dict()), dict(model.state_dict()))
    assert other.again is other.layer


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"n": {"kind": torch.float32}}, "counter/n/kind: .* not <class 'torch.dtype'>"),
        ({"n": {1, 2}}, "counter/n: .* not <class 'set'>"),
        ({"n": np.ones(2)}, "counter/n: .* not <class 'numpy.ndarray'>"),
        ({"n": torch.eye(2).to_sparse()}, "counter cannot be saved"),
        ({(1, 2): 3}, "counter cannot be saved: unhashable"),
    ],
    ids=["dtype", "set", "array", "sparse", "a tuple as a key"],
)
def test_a_state_that_could_not_be_saved_and_loaded_is_named_when_it_is_tried(state, message):
    with pytest.raises(CheckpointError, match=message):
        check_state(state, whose="counter")


def test_numbers_of_numpy_are_kept_as_numbers(tmp_path):
    state = {"n": np.int64(3), "x": np.float32(0.5), "b": np.bool_(True)}
    check_state(state, whose="counter")
    save_state(tmp_path / "state.safetensors", state)
    assert same(load_state(tmp_path / "state.safetensors"), {"n": 3, "x": 0.5, "b": True})


def test_what_torchs_optimizers_and_schedulers_keep_can_be_saved():
    model = linear()
    for make in (torch.optim.Adam, torch.optim.LBFGS, torch.optim.Adafactor, torch.optim.RMSprop):
        optimizer = make(model.parameters())
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step(lambda: model(torch.ones(1, 3)).sum())
        check_state(optimizer.state_dict(), whose="the optimizer")
    schedules = torch.optim.lr_scheduler
    first = schedules.ConstantLR(optimizer)
    for scheduler in (
        schedules.MultiStepLR(optimizer, [2, 4]),
        schedules.OneCycleLR(optimizer, 0.1, total_steps=9),
        schedules.ReduceLROnPlateau(optimizer),
        schedules.SequentialLR(optimizer, [first, schedules.CosineAnnealingLR(optimizer, 3)], [2]),
        schedules.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
        torch.optim.swa_utils.AveragedModel(model),
    ):
        check_state(scheduler.state_dict(), whose="the schedule")
