from __future__ import annotations

import pytest
import torch

from harness import ImageSpec, Unsupported
from harness_flows.iaf import IAF
from harness_flows.maf import MAF


def test_iaf_refuses_images_whose_density_would_take_too_many_passes():
    with pytest.raises(Unsupported, match="each of 65 entries"):
        IAF(ImageSpec(channels=1, height=5, width=13, levels=2))


def test_iaf_is_maf_whose_steps_are_turned_around():
    spec = ImageSpec(channels=1, height=1, width=3, levels=4)
    maf, iaf = (make(spec, layers=1, hidden=[4]).double().eval() for make in (MAF, IAF))
    for weight in maf.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    own, turned = maf.steps[2], iaf.steps[2]
    turned.step.load_state_dict(own.state_dict())
    x = torch.randn(5, 3, dtype=torch.float64)
    z, log_det = own(x)
    back, minus = turned(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(minus, -log_det)
