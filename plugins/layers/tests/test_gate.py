from __future__ import annotations

import pytest
import torch

from harness_layers.gate import gated


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_gate_is_tanh_times_sigmoid_and_passes_gradcheck(memory_format):
    pre = torch.randn(2, 6, 3, 4, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    a, b = pre.chunk(2, dim=1)
    torch.testing.assert_close(gated(pre), a.tanh() * b.sigmoid(), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(gated, [pre])


def test_a_gate_is_finite_where_its_inputs_are_large():
    pre = torch.tensor([-1e4, 1e4]).view(1, 2, 1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(gated(pre).sum(), pre)
    assert gated(pre).item() == -1
    assert gradient.isfinite().all()
