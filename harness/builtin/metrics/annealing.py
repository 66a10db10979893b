"""Annealed importance sampling of log p(x), with Hamiltonian transitions, of many images and chains at once.

From N(0, I) to the joint density, through log-densities that are known up to a constant:

    f_t(z) = (1 - b_t) log N(z; 0, I) + b_t log p(x, z),    0 = b_0 < b_1 < ... < b_T = 1
    log w = sum_t (b_t - b_{t-1}) (log p(x, z_{t-1}) - log N(z_{t-1}; 0, I))

With z_0 from N(0, I), and z_t from z_{t-1} by a transition that keeps f_t, E[w] = p(x) (Neal 2001, arXiv
physics/9803008; for decoders Wu, Burda, Salakhutdinov & Grosse 2017, arXiv 1611.04273). Backwards from a draw of
p(z | x), E[1 / w] = 1 / p(x): a bound from the other side (Grosse, Ghahramani & Adams 2015, arXiv 1511.02543).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import harness

ACCEPTED = 0.65  # what step sizes are adapted to
_FIRST_STEP, _GAIN = 1.5, 0.2  # the step over the fourth root of D, by which acceptance stays as D grows
_ENDS = 4.0  # of the sigmoid
_LEAST = 1e-3  # of a spread


@dataclass(frozen=True)
class State:
    """Where C chains of N images are: latents (C, N, D), log p(x, z) (C, N) nats, and its gradient (C, N, D)."""

    latents: Tensor
    log_joint: Tensor
    gradient: Tensor

    @property
    def log_base(self) -> Tensor:
        """(C, N) nats: log N(z; 0, I)."""
        return -0.5 * (self.latents.square() + math.log(2 * math.pi)).sum(-1)

    def log_density(self, beta: float) -> Tensor:
        """(C, N) nats: f."""
        return (1 - beta) * self.log_base + beta * self.log_joint

    def slope(self, beta: float) -> Tensor:
        """(C, N, D): the gradient of f."""
        return beta * self.gradient - (1 - beta) * self.latents


@dataclass(frozen=True)
class Walk:
    """One pass of C chains for each of N images.

    Attributes:
        log_weights: (C, N) float64 nats, on the CPU.
        step_sizes, acceptance: (T - 1, N), of the transitions, in the order of f.
        mean, spread: (N, D), of the latents in the second half of the pass, and so wider than of the last density.
    """

    log_weights: Tensor
    step_sizes: Tensor
    acceptance: Tensor
    mean: Tensor
    spread: Tensor


Joint = Callable[[Tensor], State]


def joint_of(model: harness.LatentVariable, images: Tensor) -> Joint:
    """Returns log p(images, latents), for N images, as a function of (C, N, D) latents; Unsupported: no gradient."""

    def evaluate(latents: Tensor) -> State:
        with torch.enable_grad():
            leaf = latents.detach().flatten(0, 1).requires_grad_()
            value = model.log_prior(leaf) + model.log_likelihood(images.repeat(len(latents), 1, 1, 1), leaf)
            if not value.requires_grad:
                raise harness.Unsupported(f"{type(model).__name__}: log p(image, latents) has no gradient")
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return State(latents, value.detach().view(latents.shape[:2]), gradient.view_as(latents))

    return evaluate


def rescaled(joint: Joint, mean: Tensor, spread: Tensor) -> Joint:
    """Returns the joint density of u, where z = mean + spread u: N(0, I) of u is another Gaussian of z."""

    def evaluate(latents: Tensor) -> State:
        there = joint(mean + spread * latents)
        return State(latents, there.log_joint + spread.log().sum(-1), spread * there.gradient)

    return evaluate


def temperatures(steps: int) -> Tensor:
    """Returns b, (steps + 1,) float64: a sigmoid from -4 to 4, moved and stretched to go from exactly 0 to 1."""
    curve = torch.linspace(-_ENDS, _ENDS, steps + 1, dtype=torch.float64).sigmoid()
    return (curve - curve[0]) / (curve[-1] - curve[0])


def anneal(joint: Joint, latents: Tensor, steps: int, leapfrogs: int, *, step_sizes: Tensor | None = None,
           backwards: bool = False) -> Walk:  # fmt: skip
    """Goes through the densities, from draws of N(0, I) at ``latents`` (C, N, D); or backwards, from draws of p(z | x).

    The weights are unbiased only where the ``step_sizes``, (steps - 1, N), are given. Without, they are adapted to each
    image on the way, and are what the pass is made for.
    """
    path, adapts = temperatures(steps), step_sizes is None
    rises, betas = path.diff(), path[1:-1]
    _, count, width = latents.shape
    sizes = latents.new_full((steps - 1, count), _FIRST_STEP / width**0.25) if step_sizes is None else step_sizes
    if backwards:
        rises, betas, sizes = rises.flip(0), betas.flip(0), sizes.flip(0)
    state, accepted = joint(latents), torch.zeros_like(sizes)
    log_weights = torch.zeros(latents.shape[:2], dtype=torch.float64)
    late, first, second = 0, torch.zeros_like(latents[0]), torch.zeros_like(latents[0])
    for step, rise in enumerate(rises.tolist()):
        log_weights += rise * (state.log_joint - state.log_base).cpu().double()
        if step < steps - 1:
            state, accepted[step] = transition(joint, state, float(betas[step]), sizes[step], leapfrogs)
            if adapts and step < steps - 2:
                sizes[step + 1] = sizes[step] * (_GAIN * (accepted[step] - ACCEPTED)).exp()
        if 2 * step >= steps - 1:
            late, first, second = late + 1, first + state.latents.mean(0), second + state.latents.square().mean(0)
    mean = first / late
    spread = (second / late - mean.square()).clamp_min(_LEAST**2).sqrt()
    if backwards:
        sizes, accepted = sizes.flip(0), accepted.flip(0)
    return Walk(log_weights, sizes, accepted, mean, spread)


def transition(joint: Joint, state: State, beta: float, step: Tensor, leapfrogs: int) -> tuple[State, Tensor]:
    """Returns where one Hamiltonian trajectory leads that keeps f, and how likely it was accepted, (N,).

    ``step``, (N,), is the size of the ``leapfrogs`` steps (Neal 2011, arXiv 1206.1901). What is NaN is rejected.
    """
    step = step.view(-1, 1)
    first = torch.randn_like(state.latents)
    there, momentum = state, first + 0.5 * step * state.slope(beta)
    for left in reversed(range(leapfrogs)):
        there = joint(there.latents + step * momentum)
        momentum = momentum + (step if left else 0.5 * step) * there.slope(beta)
    rise = there.log_density(beta) - state.log_density(beta) + 0.5 * (first.square() - momentum.square()).sum(-1)
    moves = torch.rand_like(rise).log() < rise  # (C, N)
    kept = State(
        torch.where(moves.unsqueeze(-1), there.latents, state.latents),
        torch.where(moves, there.log_joint, state.log_joint),
        torch.where(moves.unsqueeze(-1), there.gradient, state.gradient),
    )
    return kept, rise.clamp(max=0).exp().nan_to_num(0.0).mean(0)
