"""Right models that read entries as a sequence: transformers, recurrent networks, causal convolutions, state spaces."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec

from .common import Trained, as_logits, at_most_entries, sequence, signed
from .registry import kind


class Block(nn.Module):
    """Attention to the past and a small network, each after a layer norm and beside a skip (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """Maps (N, T, width) to the same; ``bias`` (heads, T, T) is added to the scores of attention."""
        queries, keys, values = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.first(tokens)).chunk(3, 2)
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, is_causal=bias is None)
        tokens = tokens + self.project(mixed.transpose(1, 2).flatten(2))
        return tokens + self.mlp(self.second(tokens))


@kind("transformer")
class PixelTransformer(Trained):
    """A decoder over entries with learned positions and a token that starts (Chen et al. 2020, image GPT)."""

    def __init__(self, spec: ImageSpec, *, width: int = 8, heads: int = 2) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256)
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.embedding = nn.Embedding(spec.levels, width)
        self.positions = nn.Parameter(0.02 * torch.randn(spec.num_dimensions, width))
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, spec.levels, bias=False)

    def tokens(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D, width): what is known before each entry."""
        embedded = self.embedding(sequence(images)[:, :-1])
        return torch.cat([self.start.expand(len(images), 1, -1), embedded], 1) + self.positions

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        return self.logits_of(self.tokens(images))

    def logits_of(self, tokens: Tensor) -> Tensor:
        """Maps (N, D, width) to (N, levels, C, H, W)."""
        for block in self.blocks:
            tokens = block(tokens)
        return as_logits(self.head(self.norm(tokens)), self.spec)


@kind("transformer")
class TiedTransformer(PixelTransformer):
    """Its output layer is its embedding, and distance is a penalty on attention (Press et al. 2021, ALiBi)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.head.weight = self.embedding.weight
        distance = torch.arange(spec.num_dimensions)[:, None] - torch.arange(spec.num_dimensions)
        slopes = 2.0 ** -torch.arange(3, 5)  # gentle: ALiBi's own for two heads of eight
        bias = (-slopes[:, None, None] * distance).masked_fill(distance < 0, -torch.inf)
        self.register_buffer("bias", bias, persistent=False)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        tokens = self.tokens(images)
        for block in self.blocks:
            tokens = block(tokens, self.bias.to(tokens))
        return as_logits(self.head(self.norm(tokens)), self.spec)


@kind("transformer")
class TorchTransformer(PixelTransformer):
    """Made of torch's own layers, with rotating positions that were computed in float32 (Vaswani et al. 2017)."""

    def __init__(self, spec: ImageSpec, *, width: int = 8) -> None:
        super().__init__(spec)
        del self.blocks, self.positions
        layer = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        angles = torch.arange(spec.num_dimensions)[:, None] * 100.0 ** -(torch.arange(0, width, 2) / width)
        self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], 1))

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        tokens = self.tokens(images)
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], dtype=tokens.dtype)
        return as_logits(self.head(self.norm(self.encoder(tokens, mask=mask, is_causal=True))), self.spec)

    def fit(self, data, trainer) -> None:  # type: ignore[no-untyped-def]
        self.train()
        super().fit(data, trainer)
        self.eval()


@kind("recurrent network")
class PixelGRU(Trained):
    """A recurrent network over entries, whose first state is learned (Cho et al. 2014, arXiv 1406.1078)."""

    cell = nn.GRU

    def __init__(self, spec: ImageSpec, *, width: int = 24) -> None:
        super().__init__(spec)
        at_most_entries(spec, 64)
        self.embedding = nn.Embedding(spec.levels + 1, 4)
        self.first = nn.Parameter(0.1 * torch.randn(1, 1, width))
        self.network = self.cell(4, width, batch_first=True)
        self.head = nn.Linear(width, spec.levels)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        before = F.pad(sequence(images)[:, :-1], (1, 0), value=self.spec.levels)  # a token of its own that starts
        states, _ = self.network(self.embedding(before), self.first.expand(-1, len(images), -1).contiguous())
        return as_logits(self.head(states), self.spec)


@kind("recurrent network")
class PixelLSTM(PixelGRU):
    """The same with memory cells, whose forget gates begin open (Theis & Bethge 2015, arXiv 1506.03478)."""

    cell = nn.LSTM

    def __init__(self, spec: ImageSpec, *, width: int = 24) -> None:
        super().__init__(spec, width=width)
        with torch.no_grad():
            self.network.bias_ih_l0[width : 2 * width] = 2.0

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        before = F.pad(sequence(images)[:, :-1], (1, 0), value=self.spec.levels)
        state = self.first.expand(-1, len(images), -1).contiguous()
        states, _ = self.network(self.embedding(before), (state.tanh(), state))
        return as_logits(self.head(states), self.spec)


@kind("dilated causal convolutions")
class WaveNet(Trained):
    """Gated causal convolutions over the sequence of entries, dilated ever more (van den Oord et al. 2016, 1609.03499).

    It sees a window of the past, and declares it.
    """

    dilations = (1, 2, 4, 8)

    def __init__(self, spec: ImageSpec, *, width: int = 6) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256)
        self.first = nn.Conv1d(spec.levels, width, 2)
        self.gates = nn.ModuleList([nn.Conv1d(width, 2 * width, 2, dilation=each) for each in self.dilations])
        self.skips = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in self.dilations])
        self.residuals = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in self.dilations])
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(width, width, 1), nn.ELU(), nn.Conv1d(width, spec.levels, 1))

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        values = F.one_hot(sequence(images), self.spec.levels).to(self.dtype).transpose(1, 2)  # (N, levels, D)
        features = self.first(F.pad(values, (2, 0))[:, :, :-1])
        total = torch.zeros_like(features)
        for dilation, gate, skip, residual in zip(self.dilations, self.gates, self.skips, self.residuals, strict=True):
            one, other = gate(F.pad(features, (dilation, 0))).chunk(2, 1)
            gated = one.tanh() * other.sigmoid()
            total, features = total + skip(gated), features + residual(gated)
        return as_logits(self.head(total).transpose(1, 2), self.spec)

    def dependence(self, ordering: int = 0) -> Tensor:
        steps = self.generation_steps(ordering).flatten()
        gap = steps[:, None] - steps
        return (gap > 0) & (gap <= 2 + sum(self.dilations))


@kind("state space by FFT")
class StateSpace(Trained):
    """A diagonal linear system of the entries, as one long convolution by FFT, which rounds (Gu et al. 2022, S4D)."""

    def __init__(self, spec: ImageSpec, *, states: int = 8, width: int = 6) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256)
        self.log_decay = nn.Parameter(torch.linspace(-6.0, -3.0, states).repeat(width, 1))
        self.frequency = nn.Parameter(torch.linspace(0.0, 2.0, states).repeat(width, 1))
        self.read = nn.Parameter(torch.randn(2, width, states) / states**0.5)
        self.into, self.direct = nn.Linear(1, width), nn.Linear(width, width)
        self.head = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, spec.levels))

    def kernel(self) -> Tensor:
        """Returns (width, D): what an entry makes of the one that lies so many steps before."""
        times = torch.arange(self.spec.num_dimensions, dtype=self.dtype)
        decay = (-self.log_decay.clamp_max(-2.0).exp()[:, :, None] * times).exp()
        phase = self.frequency[:, :, None] * times
        return (decay * (self.read[0, :, :, None] * phase.cos() + self.read[1, :, :, None] * phase.sin())).sum(1)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        size = self.spec.num_dimensions
        before = F.pad(signed(sequence(images), self.spec, self.dtype)[:, :-1], (1, 0))
        inputs = self.into(before[:, :, None]).transpose(1, 2)  # (N, width, D)
        product = torch.fft.rfft(inputs, n=2 * size) * torch.fft.rfft(self.kernel(), n=2 * size)
        mixed = torch.fft.irfft(product, n=2 * size)[..., :size].transpose(1, 2)
        return as_logits(self.head(mixed + self.direct(inputs.transpose(1, 2))), self.spec)


@kind("linear attention")
class LinearAttention(Trained):
    """Attention whose softmax is a product of features, the past a running sum (Katharopoulos et al. 2020)."""

    def __init__(self, spec: ImageSpec, *, width: int = 8) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256)
        self.embedding = nn.Embedding(spec.levels, width)
        self.positions = nn.Parameter(0.5 * torch.randn(spec.num_dimensions, width))
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.head = nn.Sequential(nn.Linear(2 * width, 16), nn.Tanh(), nn.Linear(16, spec.levels))

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        tokens = F.pad(self.embedding(sequence(images)[:, :-1]), (0, 0, 1, 0)) + self.positions
        queries, keys = F.elu(self.query(tokens)) + 1, F.elu(self.key(tokens)) + 1
        memory = torch.einsum("ntk,ntv->ntkv", keys, self.value(tokens)).cumsum(1)
        mixed = torch.einsum("ntk,ntkv->ntv", queries, memory)
        mixed = mixed / torch.einsum("ntk,ntk->nt", queries, keys.cumsum(1))[:, :, None]
        return as_logits(self.head(torch.cat([mixed, self.positions.expand_as(mixed)], 2)), self.spec)
