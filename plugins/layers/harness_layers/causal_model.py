"""What models by masked convolutions share: outputs to conditionals, what is not seen, and the training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from harness import Autoregressive, Dataset, ImageSpec, Split, Trainer, mean_over
from harness_layers.causal import CausalConv2d
from harness_layers.chunks import in_chunks
from harness_layers.descent import Descent, descend
from harness_layers.pixels import entry_log_probs, image_logits, level_counts, scale, smoothed_outputs


class CausalModel(Autoregressive):
    r"""A product of conditionals, all of which one network gives at once. A subclass builds the network.

    .. math:: \log p(x) = \sum_k \log p(x_k | x_{<k})

    It is trained by Adam with betas 0.9 and 0.99, 200 steps of warm-up and half a cosine down to zero; its gradients
    are clipped by their norm.

    Args:
        spec: the sample space.
        learning_rate: of Adam, at its highest.
        batch_size: images in a step.
        max_gradient_norm: where gradients are clipped, in nats an image.
        validate_every: how often the validation split is scored, such as ``1 epoch``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    default_budget: ClassVar[str] = "20 epochs"
    output: CausalConv2d

    def __init__(self, spec: ImageSpec, *, learning_rate: float, batch_size: int, max_gradient_norm: float,
                 validate_every: str) -> None:  # fmt: skip
        super().__init__(spec)
        self.descent = Descent(
            learning_rate=learning_rate, batch_size=batch_size, betas=(0.9, 0.99), warm_up_steps=200,
            max_gradient_norm=max_gradient_norm, part_size=16, validate_every=validate_every,
        )  # fmt: skip

    @abstractmethod
    def outputs(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps (N, C, H, W) uint8, and labels (N,) int64 where there are any, to (N, C * O, H, W)."""

    @abstractmethod
    def spread(self, reached: Tensor) -> Tensor:
        """Follows zeros and ones (N, C, H, W) from the image to the outputs of its channels."""

    def output_layers(self) -> Sequence[CausalConv2d]:
        """Returns the layers that give outputs (N, C * O, ...): their biases start from the marginal frequencies."""
        return [self.output]

    def labels_of(self, images: Tensor, ordering: int) -> Tensor | None:
        """Returns the labels (N,) that an ordering scores images (N, C, H, W) with: none."""
        return None

    def training_labels(self, batch: Split) -> Tensor | None:
        """Returns the labels (N,) of N training images that the network is to see: none."""
        return None

    def scaled(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C, H, W) in [-1, 1], channels last in memory.

        A binary image has no zeros then: what lies outside of an image, which convolutions see as zeros, is no value.
        """
        return scale(images, self.spec.levels, self.dtype).contiguous(memory_format=torch.channels_last)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, levels, C, H, W)."""
        return image_logits(in_chunks(self.outputs, images, self.labels_of(images, ordering)), self.spec)

    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C, H, W) nats."""
        return entry_log_probs(in_chunks(self.outputs, images, self.labels_of(images, ordering)), images, self.spec)

    @torch.no_grad()
    def dependence(self, ordering: int = 0) -> Tensor | None:
        """Returns (D, D) bool, row i true where entry i sees entry j, by following each entry through the masks.

        It is None where that is the whole past.
        """
        size = self.spec.num_dimensions
        entries = torch.eye(size, device=self.device).view(size, *self.spec.shape)
        seen = self.spread(entries).flatten(1).T > 0  # (D, D), from entry j's column to row i
        steps = self.generation_steps().flatten().to(self.device)
        return None if torch.equal(seen, steps[:, None] > steps[None, :]) else seen.contiguous()

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Maximises the likelihood."""
        frequencies = smoothed_outputs(level_counts(data.train.draw(0).images, self.spec.levels).sum((2, 3)).T)
        with torch.no_grad():
            for layer in self.output_layers():
                assert layer.bias is not None
                layer.bias.copy_(frequencies.flatten())

        def loss(batch: Split) -> Tensor:
            outputs = self.outputs(batch.images, self.training_labels(batch))
            return -entry_log_probs(outputs, batch.images, self.spec).flatten(1).sum(1)

        descend(
            self, data, trainer, self.descent, loss,
            score=lambda split: -mean_over(split, self.log_prob, batch_size=100),
        )  # fmt: skip
