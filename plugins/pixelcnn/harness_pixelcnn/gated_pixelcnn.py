"""Gated PixelCNN (van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves & Kavukcuoglu 2016, arXiv 1606.05328)."""

from __future__ import annotations

import copy
from typing import ClassVar, Self

import torch
from torch import Tensor

from harness import (
    Autoregressive,
    ClassConditional,
    Dataset,
    ImageSpec,
    Split,
    Trainer,
    Unsupported,
    mean_over,
)
from harness_layers.chunks import in_chunks
from harness_layers.gated_stack import GatedStack
from harness_layers.optimisation import check_positive, descend
from harness_layers.pixels import entry_log_probs, image_logits, marginal_outputs, num_outputs, scale
from harness_layers.reach import dependence_by


class GatedPixelCNN(Autoregressive):
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
        learning_rate, batch_size: of Adam.
        max_gradient_norm: where gradients are clipped, in nats an image.
        validate_every: such as ``1 epoch``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    default_budget: ClassVar[str] = "20 epochs"
    _classes: ClassVar[bool] = False

    def __init__(self, spec: ImageSpec, *, channels: int = 64, layers: int = 8, kernel: int = 3, head: int = 32,
                 learning_rate: float = 3e-3, batch_size: int = 32, max_gradient_norm: float = 50.0,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(spec)
        check_positive(channels=channels, head=head, learning_rate=learning_rate, batch_size=batch_size)
        check_positive(max_gradient_norm=max_gradient_norm)
        self.learning_rate, self.batch_size = learning_rate, batch_size
        self.max_gradient_norm, self.validate_every = max_gradient_norm, validate_every
        num_classes = spec.num_classes or 0 if self._classes else 0
        self.network = GatedStack(
            spec.channels, num_outputs(spec), features=channels, layers=layers, kernel=kernel, head=head,
            num_classes=num_classes,
        )  # fmt: skip
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def outputs(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps (N, C, H, W) uint8 and labels (N,) int64 to (N, C * O, H, W)."""
        outputs: Tensor = self.network(scale(images, self.spec.levels, self.dtype), labels)
        return outputs

    def _labels_of(self, images: Tensor, ordering: int) -> Tensor | None:
        return None

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, levels, C, H, W)."""
        labels = self._labels_of(images, ordering)
        return image_logits(in_chunks(self.outputs, images, labels), self.spec)

    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C, H, W) nats."""
        labels = self._labels_of(images, ordering)
        return entry_log_probs(in_chunks(self.outputs, images, labels), images, self.spec)

    def dependence(self, ordering: int = 0) -> Tensor | None:
        """Returns (D, D) bool where the reach of the kernels is less than the whole past, else None."""
        return dependence_by(self.network.spread, self.spec, self.device)

    def _training_labels(self, batch: Split) -> Tensor | None:
        return None

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Maximises the likelihood."""
        bias = self.network.output.bias
        assert bias is not None
        with torch.no_grad():
            bias.copy_(marginal_outputs(data.train, self.spec))

        def loss(batch: Split) -> Tensor:
            outputs = self.outputs(batch.images, self._training_labels(batch))
            return -entry_log_probs(outputs, batch.images, self.spec).flatten(1).sum(1)

        descend(
            self, data, trainer, loss, learning_rate=self.learning_rate, batch_size=self.batch_size,
            max_gradient_norm=self.max_gradient_norm, every=self.validate_every,
            score=lambda split: -mean_over(split, self.log_prob, batch_size=100),
        )  # fmt: skip


class ConditionalGatedPixelCNN(GatedPixelCNN, ClassConditional):
    """Gated PixelCNN given a label: a learned bias for every class, in both nonlinearities of every layer.

    Without a label it is the equal mixture over the classes: ordering y of ``conditional_logits`` is class y.

    Raises:
        Unsupported: a sample space without classes.
        ValueError: a hyperparameter out of its range.
    """

    _classes: ClassVar[bool] = True

    def __init__(self, spec: ImageSpec, *, channels: int = 64, layers: int = 8, kernel: int = 3, head: int = 32,
                 learning_rate: float = 3e-3, batch_size: int = 32, max_gradient_norm: float = 50.0,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        if not spec.num_classes:
            raise Unsupported("a class-conditional model needs a dataset with labels")
        super().__init__(
            spec, channels=channels, layers=layers, kernel=kernel, head=head, learning_rate=learning_rate,
            batch_size=batch_size, max_gradient_norm=max_gradient_norm, validate_every=validate_every,
        )  # fmt: skip
        self.num_orderings = spec.num_classes
        self.given: Tensor | None = None

    def condition_on(self, labels: Tensor) -> Self:
        """Takes (N,) int64 and returns a view of the model, with the same weights, for exactly N images."""
        outside = (labels < 0) | (labels >= (self.spec.num_classes or 0))
        if outside.any():
            raise ValueError(f"labels must be below {self.spec.num_classes}, not {labels[outside][0].item()}")
        view = copy.copy(self)
        view.num_orderings, view.given = 1, labels.to(self.device)
        return view

    def _labels_of(self, images: Tensor, ordering: int) -> Tensor | None:
        if self.given is None:
            return torch.full((len(images),), ordering, dtype=torch.int64, device=images.device)
        if len(self.given) != len(images):
            raise ValueError(f"a model conditioned on {len(self.given)} labels takes as many images, not {len(images)}")
        return self.given

    def _training_labels(self, batch: Split) -> Tensor | None:
        if batch.labels is None:
            raise Unsupported("a class-conditional model needs a dataset with labels")
        return batch.labels
