"""VQ-VAE with an autoregressive prior (van den Oord, Vinyals & Kavukcuoglu 2017, arXiv 1711.00937)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import Dataset, ImageSpec, Split, Trainer, VariationalBound, mean_over
from harness_layers.checks import check_at_least, check_positive
from harness_layers.descent import Descent, descend
from harness_layers.gated_stack import FIRST_KERNEL, GatedLayer, GatedStack
from harness_layers.pixels import by_entry, draw_levels, entry_log_probs, num_outputs, scale
from harness_layers.schedules import Schedule
from harness_vae.pixel_decoder import Downsampler, Upsampler, blocks, halved

_STARTED_FROM = 1000


class CodePrior(GatedStack):
    """A Gated PixelCNN over maps of codes (N, h, w) in {0, ..., K-1}, which it sees as learned vectors.

    Args:
        num_codes: K.
        channels: the number of maps of each stack, and the width of the vectors.
        layers: gated layers after the first.
    """

    def __init__(self, num_codes: int, *, channels: int, layers: int) -> None:
        super().__init__(1, num_codes, features=channels, layers=layers, kernel=3, head=channels)
        group = torch.zeros(channels, dtype=torch.int64)
        self._layers[0] = GatedLayer(group, group, kernel=FIRST_KERNEL, first=True)
        self.vectors = nn.Embedding(num_codes, channels)

    def logits(self, codes: Tensor) -> Tensor:
        """Maps (N, h, w) int64 to (N, K, h, w), unnormalised log-probabilities of each code given those before it."""
        outputs: Tensor = self(self.vectors(codes).permute(0, 3, 1, 2))
        return outputs

    def log_prob(self, codes: Tensor) -> Tensor:
        """Maps (N, h, w) int64 to (N,) nats."""
        return -F.cross_entropy(self.logits(codes), codes, reduction="none").flatten(1).sum(1)

    @torch.no_grad()
    def draw(self, num_samples: int, size: tuple[int, int]) -> Tensor:
        """Returns (num_samples, *size) int64, drawn in raster order by an evaluation for each code."""
        codes = torch.zeros(num_samples, *size, dtype=torch.int64, device=self.vectors.weight.device)
        for row in range(size[0]):
            for column in range(size[1]):
                logits = self.logits(codes[:, : row + 1])[..., row, column]
                codes[:, row, column] = logits.softmax(1).multinomial(1)[:, 0]
        return codes


class VQVAE(VariationalBound):
    r"""A map of discrete codes, the nearest vectors of a codebook, under independent pixels; a PixelCNN as their prior.

    .. math:: \log p(x) \ge \log p(x | z(x)) + \log p(z(x)), \quad z_j(x) = argmin_k |e_j(x) - c_k|^2

    The bound has both terms, of the one map of codes that a deterministic encoder e gives: p(x) is a sum over all
    maps. Its gap is not seen by more samples, as there is nothing to draw. Codes have a quarter of the image's height
    and width. The loss is minus the bound, plus :math:`|sg(e) - c|^2 + \beta |e - sg(c)|^2`, with gradients straight
    through to the encoder and none from the prior, which is trained at the same time. Reference: van den Oord et al.
    2017, arXiv 1711.00937, which trains the prior afterwards.

    Args:
        spec: any sample space.
        codes: K, the size of the codebook.
        code_size: the width of its vectors.
        commitment: beta.
        width: maps of encoder and decoder at half the image's size; twice as many at a quarter.
        prior_channels, prior_layers: maps of each stack of the prior, and its gated layers after the first.
        learning_rate, batch_size, schedule, max_gradient_norm, validate_every: see ``Descent``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    def __init__(self, spec: ImageSpec, *, codes: int = 64, code_size: int = 16, commitment: float = 0.25,
                 width: int = 32, prior_channels: int = 32, prior_layers: int = 4, learning_rate: float = 2e-3,
                 batch_size: int = 32, schedule: Schedule = "cosine", max_gradient_norm: float | None = 50.0,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(spec)
        check_positive(codes=codes, code_size=code_size, width=width, prior_channels=prior_channels)
        check_at_least(0, commitment=commitment, prior_layers=prior_layers)
        self.descent = Descent(
            learning_rate=learning_rate, batch_size=batch_size, schedule=schedule, betas=(0.9, 0.99),
            warm_up_steps=200, max_gradient_norm=max_gradient_norm, part_size=16, validate_every=validate_every,
        )  # fmt: skip
        self.commitment, self.grid = commitment, halved(spec, 2)
        self.encoder = nn.Sequential(Downsampler(spec.channels, (width, 2 * width)), nn.Conv2d(2 * width, code_size, 1))
        self.codebook = nn.Parameter(torch.randn(codes, code_size))
        self.decoder = nn.Sequential(
            Upsampler(code_size, spec, (2 * width, width, width), dense=False),
            nn.Conv2d(width, spec.channels * num_outputs(spec), 1),
        )
        self.prior = CodePrior(codes, channels=prior_channels, layers=prior_layers)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def sampling_depth(self) -> int:
        """An evaluation for each code, and one for the pixels."""
        return self.grid[0] * self.grid[1] + 1

    def encoded(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to e, (N, code_size, h, w): what is quantised."""
        maps: Tensor = self.encoder(scale(images, self.spec.levels, self.dtype))
        return maps

    def nearest(self, encoded: Tensor) -> Tensor:
        """Maps (N, code_size, h, w) to (N, h, w) int64: the code whose vector is nearest."""
        vectors = encoded.permute(0, 2, 3, 1)  # |e - c|^2 = |e|^2 - 2 e.c + |c|^2
        return (self.codebook.square().sum(1) - 2 * vectors @ self.codebook.T).argmin(-1)

    def codes_of(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, h, w) int64."""
        return self.nearest(self.encoded(images))

    def vectors_of(self, codes: Tensor) -> Tensor:
        """Maps (N, h, w) int64 to (N, code_size, h, w)."""
        return self.codebook[codes].permute(0, 3, 1, 2)

    def log_likelihood(self, images: Tensor, vectors: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and vectors (N, code_size, h, w) to (N,) nats: log p(x | z)."""
        return entry_log_probs(self.decoder(vectors), images, self.spec).flatten(1).sum(1)

    def elbo(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: log p(x | z(x)) + log p(z(x)), nothing of which is random."""
        codes = self.codes_of(images)
        return self.log_likelihood(images, self.vectors_of(codes)) + self.prior.log_prob(codes)

    def loss(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,): what is minimised."""
        encoded = self.encoded(images)
        codes = self.nearest(encoded.detach())
        vectors = self.vectors_of(codes)
        through = encoded + (vectors - encoded).detach()  # the decoder's gradient goes to the encoder as it is
        apart = (vectors - encoded.detach()).square() + self.commitment * (encoded - vectors.detach()).square()
        return apart.flatten(1).sum(1) - self.log_likelihood(images, through) - self.prior.log_prob(codes)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Minimises the loss; the weights with the best bound on the validation split are kept.

        The codebook starts from encoded training images: a vector that is never the nearest would never move.
        """
        with torch.no_grad():
            some = self.encoded(data.train.draw(0).images[:_STARTED_FROM].to(self.device))
            vectors = some.permute(0, 2, 3, 1).flatten(0, 2)
            self.codebook.copy_(vectors[torch.randint(len(vectors), (len(self.codebook),))])

        def loss(batch: Split) -> Tensor:
            return self.loss(batch.images)

        descend(self, data, trainer, self.descent, loss, score=lambda split: -mean_over(split, self.elbo))

    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: codes from the prior, then pixels."""
        return torch.cat([self._sample_block(size) for size in blocks(num_samples)])

    @torch.no_grad()
    def _sample_block(self, num_samples: int) -> Tensor:
        vectors = self.vectors_of(self.prior.draw(num_samples, self.grid))
        return draw_levels(by_entry(self.decoder(vectors), self.spec), dim=2)
