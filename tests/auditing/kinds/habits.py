"""Right models with habits of public code: they print, warn, cache, go through NumPy, and write their own gradients."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import torch
from museum.autoregressive import MADE
from museum.mixtures import DiscretizedLogistic
from scipy import special
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ExactLikelihood, ImageSpec

from .common import Trained, TrainedTable, as_logits, at_most_entries, draw_rows, every_image, number_of, sequence
from .registry import kind


@kind("masked dense network")
class Talkative(MADE):
    """Prints its size, its progress and its warnings."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        print(f"{sum(value.numel() for value in self.parameters())} parameters")

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        print(".", end="", file=sys.stderr)
        return super().conditional_logits(images, ordering)

    def fit(self, data, trainer) -> None:  # type: ignore[no-untyped-def]
        print("training")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.warn("a learning rate is not given", stacklevel=2)
            super().fit(data, trainer)
        print("done")


@kind("logistic regressions")
class CachedMask(Trained):
    """Makes its mask when it is first needed, for as many entries as there are; it is in no checkpoint."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256, 4)
        size = spec.num_dimensions
        self.weight = nn.Parameter(torch.randn(spec.levels, size, size) / size**0.5)
        self.register_buffer("mask", None, persistent=False)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        values = sequence(images)
        if self.mask is None or self.mask.dtype != self.dtype:
            self.mask = torch.ones(values.shape[1], values.shape[1], dtype=self.dtype).tril(-1)
        centred = values.to(self.dtype) - (self.spec.levels - 1) / 3
        return as_logits(torch.einsum("lij,nj->nil", self.weight * self.mask, centred), self.spec)


@kind("energy by a network")
class CachedPartition(TrainedTable):
    """Sums over all images once for each version of its weights, which it remembers in evaluation."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("everything", every_image(spec), persistent=False)
        self.network = nn.Sequential(nn.Linear(spec.num_dimensions, 12), nn.Softplus(), nn.Linear(12, 1, bias=False))
        self.cache: tuple[tuple[int, ...], Tensor] | None = None

    def scores(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,)."""
        return self.network(images.flatten(1).to(self.dtype)).squeeze(1)

    def log_partition(self) -> Tensor:
        """Returns (), from the cache where the weights are the same tensors of the same version."""
        if self.training or torch.is_grad_enabled():
            return self.scores(self.everything).logsumexp(0)
        version = tuple(number for value in self.parameters() for number in (value.data_ptr(), value._version))
        if self.cache is None or self.cache[0] != version or self.cache[1].dtype != self.dtype:
            self.cache = version, self.scores(self.everything).logsumexp(0)
        return self.cache[1]

    def log_prob(self, images: Tensor) -> Tensor:
        return self.scores(images) - self.log_partition()

    @torch.inference_mode()
    def sample(self, num_samples: int) -> Tensor:
        return self.everything[draw_rows(self.scores(self.everything), num_samples)]


@kind("independent entries")
class ThroughNumPy(ExactLikelihood):
    """Scores by NumPy and SciPy, in float64 whatever the weights; no gradients, since counts are its fit."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("counts", torch.ones(*spec.shape, spec.levels, dtype=torch.int64))

    def fit(self, data, trainer) -> None:  # type: ignore[no-untyped-def]
        self.counts += F.one_hot(data.train.images.long(), self.spec.levels).sum(0)

    def log_prob(self, images: Tensor) -> Tensor:
        table = special.log_softmax(np.log(self.counts.numpy()), axis=-1)
        index = images.numpy().astype(np.int64)[..., None]
        chosen = np.take_along_axis(np.broadcast_to(table, (len(images), *table.shape)), index, axis=-1)
        return torch.from_numpy(chosen.reshape(len(images), -1).sum(axis=1))

    def sample(self, num_samples: int) -> Tensor:
        probs = (self.counts / self.counts.sum(-1, keepdim=True)).numpy()
        uniform = torch.rand(num_samples, *self.spec.shape, 1, dtype=torch.float64).numpy()
        return torch.from_numpy((uniform > probs.cumsum(-1)[..., :-1]).sum(-1).astype(np.uint8))


class _Swish(torch.autograd.Function):
    """x sigmoid(x), whose derivative is written by hand to save memory."""

    @staticmethod
    def forward(context, value):  # type: ignore[no-untyped-def]
        context.save_for_backward(value)
        return value * value.sigmoid()

    @staticmethod
    def backward(context, gradient):  # type: ignore[no-untyped-def]
        (value,) = context.saved_tensors
        share = value.sigmoid()
        return gradient * (share * (1 + value * (1 - share)))


@kind("masked dense network")
class OwnGradient(MADE):
    """Its activation is a function with a derivative of its own, and its blocks are computed twice to save memory."""

    def network(self, inputs: Tensor, ordering: int) -> Tensor:
        into, out, direct = self.masks(ordering)
        levels = self.spec.levels
        hidden = _Swish.apply(F.linear(inputs, self.first.weight * into, self.first.bias))
        hidden = torch.utils.checkpoint.checkpoint(torch.tanh, hidden, use_reentrant=False)
        logits = F.linear(hidden, self.last.weight * out.repeat(levels, 1), self.last.bias)
        logits = logits + F.linear(inputs, self.direct * direct.repeat(levels, 1))
        return logits.view(len(inputs), levels, *self.spec.shape)


@kind("masked dense network")
class SingleLogits(MADE):
    """Its logits and their softmax are float32 whatever its weights are, as under mixed precision."""

    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        logits = self.conditional_logits(images, ordering).float()
        return -F.cross_entropy(logits, images.long(), reduction="none")

    def log_prob(self, images: Tensor) -> Tensor:
        return self.conditional_log_probs(images).flatten(1).sum(1)


@kind("masked dense network")
class Chunked(MADE):
    """Scores a few images at a time, so that memory does not grow."""

    def log_prob(self, images: Tensor) -> Tensor:
        return torch.cat([super(Chunked, self).log_prob(part) for part in images.split(7)])


@kind("discretized logistics")
class SingleConstants(DiscretizedLogistic):
    """Edges and logarithms are looked up in tables of float32."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("lower", torch.linspace(-0.5, spec.levels - 1.5, spec.levels))
        self.register_buffer("upper", torch.linspace(0.5, spec.levels - 0.5, spec.levels))

    def edges(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.lower[images.long()], self.upper[images.long()]


@kind("table of all images")
class TwoHeads(TrainedTable):
    """Has a second table that nothing reads, weights that are frozen, and a scale that was never trained."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("everything", every_image(spec), persistent=False)
        self.logits = nn.Parameter(torch.zeros(len(self.everything)))
        self.unused = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.randn(len(self.everything)), requires_grad=False)

    def log_probs(self) -> Tensor:
        """Returns (M,)."""
        return (self.logits + self.frozen).log_softmax(0)

    def log_prob(self, images: Tensor) -> Tensor:
        return self.log_probs().index_select(0, number_of(images, self.spec))

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        return self.everything[draw_rows(self.log_probs(), num_samples)]


@kind("masked dense network")
class ZeroHead(MADE):
    """Its last layers begin at zero, so that an untrained model is uniform, and a gate at zero hides a branch."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.gate = nn.Parameter(torch.zeros(()))

    def network(self, inputs: Tensor, ordering: int) -> Tensor:
        return super().network(inputs, ordering) + self.gate * super().network(inputs.square() - inputs, ordering)
