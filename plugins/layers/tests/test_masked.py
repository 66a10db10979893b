from __future__ import annotations

import pytest
import torch

from harness_layers import masked
from harness_layers.degrees import draw_degrees
from harness_layers.masked import MaskedMLP


@pytest.fixture(params=[1, 2**16], ids=["in parts", "whole"])
def _parts(request, monkeypatch):
    monkeypatch.setattr(masked, "_LARGE", request.param)


def test_degrees_of_a_wide_layer_cover_every_value_and_of_a_narrow_one_are_spread_evenly():
    generator = torch.Generator().manual_seed(0)
    wide, narrow = draw_degrees(100, [150, 10], generator)
    assert set(wide.tolist()) == set(range(1, 100))
    gaps = narrow.sort().values.diff()
    assert gaps.min() >= 9
    assert gaps.max() <= 10


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize(("size", "hidden"), [(1, [4]), (2, [3]), (7, [4, 30]), (9, [20])])
def test_outputs_depend_on_earlier_entries_alone_and_on_all_of_them_where_layers_are_wide(size, hidden):
    network = MaskedMLP(size, 2, hidden).double()
    for weight in network.parameters():
        torch.nn.init.uniform_(weight, 0.1, 1)  # positive, as the inputs: so every unit is active
    x = torch.rand(size, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda row: network(row[None])[0].sum(1), x)
    past = torch.ones(size, size).tril(-1) > 0
    assert not (jacobian[~past] > 0).any()
    if min(hidden) >= size - 1:
        assert torch.equal(jacobian > 0, past)


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize(("size", "hidden"), [(1, [4]), (2, [3]), (7, [4, 30]), (9, [20])])
def test_entry_by_entry_gives_the_outputs_of_one_pass(size, hidden):
    network = MaskedMLP(size, 2, hidden).double()
    seen = []

    def entry(index, outputs):
        seen.append(outputs)
        return outputs.sum(0).sin() + index

    x = network.one_by_one(entry, 1).expand(3, -1)
    torch.testing.assert_close(torch.stack(seen)[..., 0], network(x)[1], atol=1e-12, rtol=0)
