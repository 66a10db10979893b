"""Right models with an energy, whose partition function is summed exactly: over images, hidden units or rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from harness import ImageSpec

from .common import (
    TrainedTable,
    at_most_entries,
    categorical_draw,
    draw_rows,
    every_image,
    signed,
    unsequence,
)
from .registry import kind


class Enumerated(TrainedTable):
    """p(x) = exp(-E(x)) / Z, with Z the sum over all images."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("everything", every_image(spec), persistent=False)

    def energy(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,)."""
        raise NotImplementedError

    def log_prob(self, images: Tensor) -> Tensor:
        return -self.energy(images) - torch.logsumexp(-self.energy(self.everything), 0)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        return self.everything[draw_rows(-self.energy(self.everything), num_samples)]


@kind("energy by a network")
class EnergyNetwork(Enumerated):
    """The energy is a small network's, of bounded slope by spectral norms (Miyato et al. 2018, arXiv 1802.05957)."""

    def __init__(self, spec: ImageSpec, *, width: int = 16) -> None:
        super().__init__(spec)
        first, second = nn.Linear(spec.num_dimensions, width), nn.Linear(width, width)
        self.network = nn.Sequential(
            parametrizations.spectral_norm(first), nn.SiLU(), parametrizations.spectral_norm(second), nn.SiLU(),
            nn.Linear(width, 1),
        )  # fmt: skip

    def energy(self, images: Tensor) -> Tensor:
        return self.network(signed(images.flatten(1), self.spec, self.dtype)).squeeze(1)

    def fit(self, data, trainer) -> None:  # type: ignore[no-untyped-def]
        self.train()  # in which power iterations go on
        super().fit(data, trainer)
        self.eval()


@kind("energy by a network")
class ConvEnergy(Enumerated):
    """The energy is a convolutional network's, which pools over the image."""

    def __init__(self, spec: ImageSpec, *, width: int = 8) -> None:
        super().__init__(spec)
        self.first = nn.Conv2d(spec.channels, width, 3, padding=1, padding_mode="circular")
        self.second, self.last = nn.Conv2d(width, width, 3, padding=1), nn.Linear(2 * width, 1)

    def energy(self, images: Tensor) -> Tensor:
        features = F.softplus(self.first(signed(images, self.spec, self.dtype)))
        features = F.gelu(self.second(features)).flatten(2)
        return self.last(torch.cat([features.mean(2), features.amax(2)], 1)).squeeze(1)


@kind("Ising and Potts models")
class Ising(Enumerated):
    """Every pair of entries has a coupling, and every entry a field: a Boltzmann machine without hidden units."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        size = spec.num_dimensions
        self.field = nn.Parameter(torch.zeros(size))
        self.couplings = nn.Parameter(0.1 * torch.randn(size, size))

    def energy(self, images: Tensor) -> Tensor:
        spins = signed(images.flatten(1), self.spec, self.dtype)
        symmetric = (self.couplings + self.couplings.T).fill_diagonal_(0) / 2
        return -spins @ self.field - ((spins @ symmetric) * spins).sum(1) / 2


@kind("Ising and Potts models")
class Potts(Enumerated):
    """Neighbours that are equal are likelier, by one strength for each direction, and each level has a weight."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.strength = nn.Parameter(torch.tensor([0.5, 0.3, 0.1]))
        self.levels = nn.Parameter(torch.zeros(spec.channels, spec.levels))

    def energy(self, images: Tensor) -> Tensor:
        same = [
            images[:, :, 1:] == images[:, :, :-1], images[..., 1:] == images[..., :-1], images[:, 1:] == images[:, :-1],
        ]  # fmt: skip
        counts = torch.stack([each.flatten(1).sum(1) for each in same], 1).to(self.dtype)
        weights = self.levels[torch.arange(self.spec.channels)[:, None, None], images.long()]
        return -counts @ self.strength - weights.flatten(1).sum(1)


@kind("restricted Boltzmann machine")
class RBM(Enumerated):
    """Hidden units are summed in closed form, images one by one; softmax units where there are more than two levels."""

    def __init__(self, spec: ImageSpec, *, hidden: int = 8) -> None:
        super().__init__(spec)
        self.weight = nn.Parameter(0.3 * torch.randn(spec.num_dimensions, spec.levels, hidden))
        self.visible = nn.Parameter(torch.zeros(spec.num_dimensions, spec.levels))
        self.hidden = nn.Parameter(torch.zeros(hidden))

    def energy(self, images: Tensor) -> Tensor:
        chosen = F.one_hot(images.flatten(1).long(), self.spec.levels).to(self.dtype)
        inputs = torch.einsum("ndl,dlh->nh", chosen, self.weight) + self.hidden
        return -(chosen * self.visible).flatten(1).sum(1) - F.softplus(inputs).sum(1)


@kind("restricted Boltzmann machine")
class FewHiddenRBM(TrainedTable):
    """The states of few hidden units are enumerated, for images of any size; trained by contrastive divergence."""

    def __init__(self, spec: ImageSpec, *, hidden: int = 5) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 16)
        self.weight = nn.Parameter(0.1 * torch.randn(hidden, spec.num_dimensions, spec.levels))
        self.visible = nn.Parameter(torch.zeros(spec.num_dimensions, spec.levels))
        self.hidden = nn.Parameter(torch.zeros(hidden))
        states = torch.arange(2**hidden)[:, None] // 2 ** torch.arange(hidden) % 2
        self.register_buffer("states", states.float(), persistent=False)

    def given_hidden(self, states: Tensor) -> Tensor:
        """Maps states (S, hidden) to what each visible unit's levels add, (S, D, levels)."""
        return torch.einsum("sh,hdl->sdl", states, self.weight) + self.visible

    def log_weights(self) -> Tensor:
        """Returns (S,): the logarithm of the mass of every hidden state, images summed out."""
        states = self.states.to(self.dtype)
        return self.given_hidden(states).logsumexp(2).sum(1) + states @ self.hidden

    def log_prob(self, images: Tensor) -> Tensor:
        chosen = F.one_hot(images.flatten(1).long(), self.spec.levels).to(self.dtype).flatten(1)
        inputs = chosen @ self.weight.flatten(1).T + self.hidden
        return chosen @ self.visible.flatten() + F.softplus(inputs).sum(1) - self.log_weights().logsumexp(0)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        states = self.states.to(self.dtype)[draw_rows(self.log_weights(), num_samples)]
        return categorical_draw(self.given_hidden(states), dim=2).view(-1, *self.spec.shape).to(torch.uint8)

    def fit(self, data, trainer) -> None:  # type: ignore[no-untyped-def]
        """One step of Gibbs sampling starts at the data (Hinton 2002)."""
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        trainer.track(optimizer=optimizer)
        for batch in trainer.batches(data.train, batch_size=50):
            with torch.no_grad():
                chosen = F.one_hot(batch.images.flatten(1).long(), self.spec.levels).to(self.dtype)
                hidden = torch.bernoulli((chosen.flatten(1) @ self.weight.flatten(1).T + self.hidden).sigmoid())
                drawn = categorical_draw(self.given_hidden(hidden), dim=2).view(batch.images.shape).to(torch.uint8)
            loss = self.free_energy(batch.images).mean() - self.free_energy(drawn).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            trainer.log(loss=loss)

    def free_energy(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,)."""
        return -self.log_prob(images)  # but for the constant, which cancels


@kind("Markov random field by transfer matrix")
class RowField(TrainedTable):
    """A field whose neighbours in a row and in two rows interact: summed row by row, as by a transfer matrix."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        row = ImageSpec(spec.channels, 1, spec.width, spec.levels)
        self.register_buffer("rows", every_image(row, 64), persistent=False)  # (R, C, 1, W)
        values = signed(self.rows, spec, torch.float64).flatten(1)
        self.register_buffer("products", torch.einsum("ri,si->rsi", values, values).float(), persistent=False)
        pairs = torch.triu_indices(values.shape[1], values.shape[1], 1)
        self.register_buffer("within", (values[:, pairs[0]] * values[:, pairs[1]]).float(), persistent=False)
        self.field = nn.Parameter(0.3 * torch.randn(spec.height, spec.levels, spec.channels, spec.width))
        self.across = nn.Parameter(0.3 * torch.randn(spec.height - 1, values.shape[1]))
        self.beside = nn.Parameter(0.3 * torch.randn(self.within.shape[1]))

    def potentials(self) -> tuple[Tensor, Tensor]:
        """Returns those of rows (H, R), and of each row with the next (H - 1, R, R)."""
        rows = self.rows[:, None].expand(-1, self.spec.height, -1, -1, -1).long()  # (R, H, C, 1, W)
        field = self.field.expand(len(rows), *self.field.shape).gather(2, rows.transpose(2, 3)).flatten(2).sum(2)
        within = field.T + self.within.to(self.dtype) @ self.beside
        return within, torch.einsum("rsi,hi->hrs", self.products.to(self.dtype), self.across)

    def backward_messages(self, within: Tensor, across: Tensor) -> Tensor:
        """Returns (H, R): the logarithm of the mass of all that lies below a row."""
        messages = [torch.zeros_like(within[0])]
        for height in range(self.spec.height - 1, 0, -1):
            messages.insert(0, (across[height - 1] + within[height] + messages[0]).logsumexp(1))
        return torch.stack(messages)

    def log_prob(self, images: Tensor) -> Tensor:
        within, across = self.potentials()
        powers = self.spec.levels ** torch.arange(self.spec.channels * self.spec.width)
        index = (images.transpose(1, 2).flatten(2).long() * powers).sum(2)  # (N, H)
        places = torch.arange(self.spec.height)
        score = within[places, index].sum(1) + across[places[:-1], index[:, :-1], index[:, 1:]].sum(1)
        return score - (within[0] + self.backward_messages(within, across)[0]).logsumexp(0)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        within, across = self.potentials()
        below = within + self.backward_messages(within, across)
        index = [categorical_draw(below[0].expand(num_samples, -1))]
        for height in range(1, self.spec.height):
            index.append(categorical_draw(across[height - 1][index[-1]] + below[height]))
        return self.rows[torch.stack(index, 1)].squeeze(3).transpose(1, 2).contiguous()  # (N, C, H, W)


@kind("Born machine")
class BornMachine(TrainedTable):
    """p(x) = |psi(x)|^2, psi a product of complex matrices, one for each entry (Han et al. 2018, arXiv 1709.01662)."""

    def __init__(self, spec: ImageSpec, *, bond: int = 4) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256, 16)
        self.bond = bond
        shape = (spec.num_dimensions, spec.levels, bond, bond)
        self.real = nn.Parameter(torch.eye(bond) / math.sqrt(spec.levels) + 0.2 * torch.randn(shape))
        self.imaginary = nn.Parameter(0.2 * torch.randn(shape))

    def environments(self) -> tuple[Tensor, Tensor]:
        """Returns what all entries from each on sum to, (D + 1, bond, bond) of trace 1, and log-scales."""
        matrices = torch.complex(self.real, self.imaginary)
        right, scale = torch.eye(self.bond, dtype=matrices.dtype) / self.bond, matrices.real.new_tensor(self.bond).log()
        found, scales = [right], [scale]
        for matrix in matrices.flip(0):  # (levels, bond, bond)
            right = (matrix @ right @ matrix.mH).sum(0)
            size = right.diagonal().sum().real
            right, scale = right / size, scale + size.log()
            found.append(right)
            scales.append(scale)
        return torch.stack(found[::-1]), torch.stack(scales[::-1])

    def start(self) -> Tensor:
        """Returns (1, bond) complex: a product of matrices begins there."""
        return torch.ones(1, self.bond, dtype=torch.complex(self.real[:0], self.imaginary[:0]).dtype)

    def log_prob(self, images: Tensor) -> Tensor:
        matrices, total = torch.complex(self.real, self.imaginary), self.real.new_zeros(len(images))
        state = self.start().expand(len(images), -1)
        for place, values in enumerate(images.permute(0, 2, 3, 1).flatten(1).long().unbind(1)):
            state = torch.einsum("nb,nbc->nc", state, matrices[place][values])
            size = torch.linalg.vector_norm(state, dim=1, keepdim=True)
            state, total = state / size, total + 2 * size.squeeze(1).log()
        environments, scales = self.environments()
        everything = (self.start() @ environments[0] @ self.start().mH).real.squeeze().log() + scales[0]
        return total - everything

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        matrices, (environments, _) = torch.complex(self.real, self.imaginary), self.environments()
        state, drawn = self.start().expand(num_samples, -1), []
        for matrix, right in zip(matrices, environments[1:], strict=True):
            following = torch.einsum("nb,lbc->nlc", state, matrix)
            mass = torch.einsum("nlb,bc,nlc->nl", following, right, following.conj()).real.clamp_min(1e-300)
            drawn.append(categorical_draw(mass.log()))
            state = following[torch.arange(num_samples), drawn[-1]]
            state = state / torch.linalg.vector_norm(state, dim=1, keepdim=True)
        return unsequence(torch.stack(drawn, 1), self.spec)


@kind("Born machine")
class ComplexBornMachine(BornMachine):
    """Its parameter itself is complex."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.matrices = nn.Parameter(torch.complex(self.real, self.imaginary).detach())
        del self.real, self.imaginary

    @property
    def real(self) -> Tensor:
        """The real parts."""
        return self.matrices.real

    @property
    def imaginary(self) -> Tensor:
        """The imaginary parts."""
        return self.matrices.imag


@kind("determinantal point process")
class PointProcess(TrainedTable):
    """The pixels that are on repel one another: p(S) = det(L_S) / det(L + 1) (Kulesza & Taskar 2012, 1207.6083)."""

    def __init__(self, spec: ImageSpec, *, rank: int = 6) -> None:
        super().__init__(spec)
        at_most_entries(spec, 64, 2)
        self.factors = nn.Parameter(torch.randn(spec.num_dimensions, rank) / rank**0.5)
        self.log_diagonal = nn.Parameter(torch.zeros(spec.num_dimensions))

    def kernel(self) -> Tensor:
        """Returns L, (D, D)."""
        return self.factors @ self.factors.T + self.log_diagonal.exp().diag()

    def log_prob(self, images: Tensor) -> Tensor:
        kernel, chosen = self.kernel(), images.flatten(1).to(self.dtype)
        picked = kernel * chosen[:, :, None] * chosen[:, None] + torch.diag_embed(1 - chosen)
        return torch.linalg.slogdet(picked)[1] - torch.linalg.slogdet(kernel + torch.eye(len(kernel)).to(kernel))[1]

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Decides one pixel after another; what follows is the Schur complement (Launay et al. 2018)."""
        kernel = self.kernel().double()
        size = len(kernel)
        identity = torch.eye(size, dtype=torch.float64)
        marginal = torch.linalg.solve(kernel + identity, kernel).expand(num_samples, -1, -1).clone()
        uniform = torch.rand(num_samples, size, dtype=torch.float64)
        chosen = torch.zeros(num_samples, size, dtype=torch.uint8)
        for place in range(size):
            share = marginal[:, place, place]
            chosen[:, place] = uniform[:, place] < share
            pivot = torch.where(chosen[:, place] == 1, share, share - 1)
            column = marginal[:, place + 1 :, place].clone()
            marginal[:, place + 1 :, place + 1 :] -= column[:, :, None] * column[:, None] / pivot[:, None, None]
        return chosen.view(-1, *self.spec.shape)
