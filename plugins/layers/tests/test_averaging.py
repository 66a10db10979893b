from __future__ import annotations

import copy

import torch
from torch import nn

from harness_layers.averaging import update_average


def test_an_average_starts_short_and_reaches_its_decay():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = copy.deepcopy(network)
    expected = {name: value.clone() for name, value in average.state_dict().items()}
    for step in range(1, 6):
        network(torch.randn(4, 2)).sum().backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        update_average(average, network, decay=0.25, num_steps=step)
        kept = min(0.25, (1 + step) / (10 + step))  # 2/11, then 1/4
        for name, value in network.state_dict().items():
            if value.is_floating_point():  # running statistics too
                expected[name] = kept * expected[name] + (1 - kept) * value
    for name, value in average.state_dict().items():
        torch.testing.assert_close(value, expected[name])
