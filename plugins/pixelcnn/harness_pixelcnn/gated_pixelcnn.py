"""Gated PixelCNN (van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves & Kavukcuoglu 2016, arXiv 1606.05328)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from harness import ClassConditional, ImageSpec, Split, Unsupported
from harness_layers.causal import CausalConv2d
from harness_layers.causal_model import CausalModel
from harness_layers.checks import check_positive
from harness_layers.gated_stack import GatedStack
from harness_layers.pixels import num_outputs


class GatedPixelCNN(CausalModel):
    r"""A product of conditionals by a convolutional network of two stacks, without a blind spot.

    .. math:: p(x) = \prod_k p(x_k | x_{<k}), \quad h' = h + U (tanh(W_f * \cdot) \odot \sigma(W_g * \cdot))

    Pixels are drawn in raster order, the channels of a pixel one after another. What lies beyond the reach of the
    stacked kernels is not seen, and ``dependence`` says so. Reference: van den Oord et al. 2016, arXiv 1606.05328.

    Args:
        spec: any sample space.
        channels: P, the number of maps of each stack; at least the number of channels of the image.
        layers: gated layers after the first, whose kernel is 7.
        kernel: odd, of the layers after the first.
        head: maps of the 1x1 layer before the outputs.
        learning_rate, batch_size, max_gradient_norm, validate_every: see ``CausalModel``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    def __init__(self, spec: ImageSpec, *, channels: int = 64, layers: int = 8, kernel: int = 3, head: int = 32,
                 learning_rate: float = 3e-3, batch_size: int = 32, max_gradient_norm: float = 50.0,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(
            spec, learning_rate=learning_rate, batch_size=batch_size, max_gradient_norm=max_gradient_norm,
            validate_every=validate_every,
        )  # fmt: skip
        check_positive(channels=channels, head=head)
        num_classes = self.num_classes(spec)
        self.num_orderings = max(1, num_classes)
        self.network = GatedStack(
            spec.channels, num_outputs(spec), features=channels, layers=layers, kernel=kernel, head=head,
            num_classes=num_classes,
        )  # fmt: skip
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def num_classes(cls, spec: ImageSpec) -> int:
        """Returns how many classes the network is conditioned on: none."""
        return 0

    def outputs(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps (N, C, H, W) uint8 and labels (N,) int64 to (N, C * O, H, W)."""
        outputs: Tensor = self.network(self.scaled(images), labels)
        return outputs

    def spread(self, reached: Tensor) -> Tensor:
        """Follows zeros and ones (N, C, H, W) from the image to the outputs of its channels."""
        return self.network.spread(reached)

    def output_layers(self) -> Sequence[CausalConv2d]:
        """Returns the only one."""
        return [self.network.output]


class ConditionalGatedPixelCNN(GatedPixelCNN, ClassConditional):
    """Gated PixelCNN given a label: a learned bias for every class, in both nonlinearities of every layer.

    Without a label it is the equal mixture over the classes: ordering y of ``conditional_logits`` is class y.

    Raises:
        Unsupported: a sample space without classes.
        ValueError: a hyperparameter out of its range.
    """

    given: Tensor | None = None

    @classmethod
    def num_classes(cls, spec: ImageSpec) -> int:
        """Returns how many classes a dataset has."""
        if not spec.num_classes:
            raise Unsupported("a class-conditional model needs a dataset with labels")
        return spec.num_classes

    def condition_on(self, labels: Tensor) -> Self:
        """Takes (N,) int64 and returns a view of the model, with the same weights, for exactly N images."""
        outside = (labels < 0) | (labels >= (self.spec.num_classes or 0))
        if outside.any():
            raise ValueError(f"labels must be below {self.spec.num_classes}, not {labels[outside][0].item()}")
        view = copy.copy(self)
        view.num_orderings, view.given = 1, labels.to(self.device)
        return view

    def labels_of(self, images: Tensor, ordering: int) -> Tensor | None:
        """Returns (N,) int64: the labels that the model is conditioned on, or class ``ordering`` for every image."""
        if self.given is None:
            return torch.full((len(images),), ordering, dtype=torch.int64, device=images.device)
        if len(self.given) != len(images):
            raise ValueError(f"a model conditioned on {len(self.given)} labels takes as many images, not {len(images)}")
        return self.given

    def training_labels(self, batch: Split) -> Tensor | None:
        """Returns the labels (N,) of N training images."""
        if batch.labels is None:
            raise Unsupported("a class-conditional model needs a dataset with labels")
        return batch.labels
