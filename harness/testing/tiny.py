"""A dataset and a model that are made in no time: noisy templates, and coins with every capability."""

import math

import torch
from torch import Tensor, nn

from harness.interface.dataset import Dataset, Split
from harness.interface.model import Autoregressive, ImportanceWeighted, Inference
from harness.interface.spec import ImageSpec
from harness.interface.training import Trainer
from harness.support.randomness import generator

_TEMPLATES = 3
_NOISE = 0.15
_SPREAD = 1.2  # of the proposal, against the prior
_SIZES = {"train": 240, "valid": 40, "test": 60}


def tiny_dataset(spec: ImageSpec, *, seed: int = 0) -> Dataset:
    """Returns copies of random templates, 15 % of entries drawn anew; labels, if any, name the template."""
    random = generator(seed, "templates")
    count = min(spec.num_classes or _TEMPLATES, 10)
    templates = torch.randint(spec.levels, (count, *spec.shape), generator=random, dtype=torch.uint8)
    splits = {}
    for name, size in _SIZES.items():
        random = generator(seed, name)
        which = torch.randint(count, (size,), generator=random)
        others = torch.randint(spec.levels, (size, *spec.shape), generator=random, dtype=torch.uint8)
        redrawn = torch.rand(size, *spec.shape, generator=random) < _NOISE
        splits[name] = Split(torch.where(redrawn, others, templates[which]), which if spec.num_classes else None)
    return Dataset("tiny", spec, **splits, split_protocol="independent draws")


class Coins(Autoregressive, ImportanceWeighted, Inference):
    r"""Independent entries, and a latent coin that changes nothing: p(x) = sum_h p(h) prod_d p_d(x_d), h in R.

    Importance weights vary a little, as q(h | x) is no posterior: log w = log p(x) + log p(h) - log q(h | x).
    """

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.table = nn.Parameter(torch.zeros(spec.levels, *spec.shape))

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """One unit."""
        return (1,)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Gradient steps on the likelihood."""
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        trainer.track(optimizer=optimizer)
        for batch in trainer.batches(data.train, batch_size=80):
            loss = -self.log_prob(batch.images).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            trainer.log(loss=loss)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, levels, C, H, W)."""
        return self.table.expand(len(images), *self.table.shape)

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (num_samples, N) nats: q(h | x) is a normal, wider than the prior."""
        centre = self.encode(images).squeeze(1)
        noise = torch.randn(num_samples, len(images), dtype=self.dtype, device=self.device)
        latents = centre + _SPREAD * noise
        log_proposal = -0.5 * noise.square() - math.log(_SPREAD)
        return self.log_prob(images) - 0.5 * latents.square() - log_proposal

    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, 1)."""
        return images.flatten(1).to(self.dtype).mean(1, keepdim=True) / self.spec.levels

    def decode(self, latents: Tensor) -> Tensor:
        """Maps (N, 1) to (N, C, H, W), the expected image in levels."""
        values = torch.arange(self.spec.levels, dtype=self.dtype, device=self.device).view(-1, 1, 1, 1)
        return (self.table.softmax(0) * values).sum(0).expand(len(latents), *self.spec.shape)
