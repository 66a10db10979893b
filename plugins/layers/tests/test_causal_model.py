from __future__ import annotations

import pytest
import torch

from harness import ImageSpec
from harness_layers.causal_model import CausalModel
from harness_layers.chunks import in_chunks


class Linear(CausalModel):
    """Outputs that are linear in the entries that ``seen`` (D, D) says."""

    def __init__(self, spec: ImageSpec, seen: torch.Tensor) -> None:
        super().__init__(spec, learning_rate=1e-3, batch_size=8, max_gradient_norm=1.0, validate_every="1 epoch")
        self.register_buffer("seen", seen.float(), persistent=False)

    def outputs(self, images, labels=None):
        return self.spread(self.scaled(images))

    def spread(self, reached):
        return (reached.flatten(1) @ self.seen.T).view_as(reached)

    def output_layers(self):
        return []


def raster_past(spec):
    channels, height, width = spec.shape
    steps = torch.arange(spec.num_dimensions).view(height, width, channels).permute(2, 0, 1).flatten()
    return steps[:, None] > steps[None, :]


def test_a_network_that_sees_all_of_the_past_has_nothing_to_declare():
    spec = ImageSpec(3, 2, 2, 2)
    assert Linear(spec, raster_past(spec)).dependence() is None


def test_what_a_network_does_not_see_is_declared():
    seen = torch.zeros(4, 4)
    seen[3, 1] = 1
    assert torch.equal(Linear(ImageSpec(1, 2, 2, 2), seen).dependence(), seen > 0)


def test_chunks_are_put_together_in_order_with_their_labels():
    images, labels = torch.arange(21.0).view(21, 1), torch.arange(21)
    with torch.no_grad():
        assert torch.equal(in_chunks(lambda x, y: x[:, 0] + 100 * y, images, labels), images[:, 0] + 100 * labels)


@pytest.mark.parametrize("levels", [2, 5])
def test_black_is_minus_one_and_white_is_one_for_the_network(levels):
    spec = ImageSpec(1, 1, 2, levels)
    images = torch.tensor([0, levels - 1], dtype=torch.uint8).view(1, 1, 1, 2)
    assert Linear(spec, raster_past(spec)).scaled(images).flatten().tolist() == [-1, 1]
