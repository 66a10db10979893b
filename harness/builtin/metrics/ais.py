"""Annealed importance sampling of a split, and how far it may be off: bounds from both sides on simulated images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

import harness
from harness.builtin.metrics.annealing import Walk, anneal, joint_of, rescaled
from harness.builtin.metrics.joint import draw_joint, num_latents
from harness.builtin.metrics.likelihood import IWAE, MAX_ELEMENTS, check_possible, split_protocol

_ROWS = 1000  # images times chains that are worked through at once, to stay in caches
_MOST = 10**6


class _Annealed(harness.Metric):
    """What both share: T steps to the joint density, chains, leapfrog steps, and how many images.

    Two passes of a quarter of the chains come before the one that counts. A scout from N(0, I) finds where the
    posterior of each image is: annealing then starts from the Gaussian of its mean and variances, which is near. The
    next adapts step sizes to that path. All of this is frozen then, so that weights are unbiased.
    """

    family: str
    title: str
    board = "inference"
    unit = "nats"
    requires = harness.LatentVariable
    default_images: int | None

    def __init__(self, *, steps: int | str, chains: int | str | None = None, leapfrogs: int | str | None = None,
                 num_images: int | str | None = None) -> None:  # fmt: skip
        words = [self.family, str(steps)]
        words += [f"{letter}{value}" for letter, value in (("c", chains), ("l", leapfrogs), ("n", num_images)) if value]
        self.name = "-".join(words)
        self.steps, self.chains, self.leapfrogs = int(steps), int(chains or 16), int(leapfrogs or 5)
        self.header = f"{self.title}, T = {self.steps:,}"
        self.num_images = self.default_images if num_images is None else int(num_images)
        if not 2 <= self.steps <= _MOST:
            raise ValueError(f"{self.name}: from 2 to {_MOST:,} steps, not {self.steps:,}")
        if max(self.chains, self.leapfrogs) > _MOST:
            raise ValueError(f"{self.name}: at most {_MOST:,} chains and leapfrog steps")
        if self.num_images is not None and self.num_images < 2:
            raise ValueError(f"{self.name}: at least 2 images, not {self.num_images}")

    def protocol(self, evaluation: harness.Evaluation) -> dict[str, str]:
        """Returns what makes two figures comparable."""
        path = f"{self.steps} steps from a Gaussian fitted to each image, sigmoid of ±4"
        moves = f"{self.leapfrogs} leapfrog steps, accepted 0.65 in a pass that adapts their size"
        return {"path": path, "transitions": moves, "chains": str(self.chains), **split_protocol(evaluation)}

    def over(self, evaluation: harness.Evaluation, images: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns a function of images as ``Evaluation.per_image`` does, (N,), a block at a time, where gradients are.

        What was made in inference mode cannot be differentiated: so it is left, and the images are copied.
        """
        model = evaluation.model
        rows = max(1, min(_ROWS, MAX_ELEMENTS // model.spec.num_dimensions))
        with torch.inference_mode(False):
            part = harness.Split(images.clone())
            data = replace(evaluation.data, test=part, valid=part)
            few = harness.Evaluation(model, data, split=evaluation.split_name, seed=evaluation.seed)
            return few.per_image(function, purpose=self.name, batch_size=max(1, rows // self.chains))[0]

    def walks(self, model: harness.LatentVariable, images: Tensor, latents: Tensor | None = None) -> list[Walk]:
        """Anneals N images, and backwards from draws of their posteriors, (N, D), where they are given."""
        joint, width, few = joint_of(model, images), num_latents(model, images), math.ceil(self.chains / 4)

        def start(chains: int) -> Tensor:
            return torch.randn(chains, len(images), width, dtype=model.dtype, device=model.device)

        scout = anneal(joint, start(few), self.steps, self.leapfrogs)
        joint = rescaled(joint, scout.mean, scout.spread)
        sizes = anneal(joint, start(few), self.steps, self.leapfrogs).step_sizes
        walks = [anneal(joint, start(self.chains), self.steps, self.leapfrogs, step_sizes=sizes)]
        if latents is not None:
            ends = ((latents - scout.mean) / scout.spread).expand(self.chains, *latents.shape).contiguous()
            walks.append(anneal(joint, ends, self.steps, self.leapfrogs, step_sizes=sizes, backwards=True))
        return walks


class AIS(_Annealed):
    """An upper bound on the NLL of a split: -1/N sum_n log (1/C sum_c w_nc), of weights with E[w_nc] = p(x_n).

    With images fewer than all, these are spread evenly over the split, and the figure is that of all images still: the
    importance-weighted bound of C samples on all of them, less how far AIS is below it on those that were annealed.
    """

    family = "ais"
    title = "AIS"
    default_images = None

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Anneals the first draw of the images; ``per_image`` is (N,) nats if all are.

        The details: ``acceptance``; ``effective_sample_size`` of the C chains and ``log_weight_variance`` over them,
        means over images: above a variance of one, the chains have not converged; ``below_iwae``, how far AIS is below
        the bound of C samples on the same images, and the standard error of the value that is due to their choice.
        """
        model, size, walks = evaluation.model, len(evaluation.split), list[Walk]()
        assert isinstance(model, harness.LatentVariable)
        count = min(size, self.num_images or size)
        chosen = torch.arange(count) * size // count

        def bound(images: Tensor) -> Tensor:
            walks.extend(self.walks(model, images))
            return -log_mean_exp(walks[-1].log_weights)

        values = self.over(evaluation, evaluation.split.draw(0).images[chosen], bound)
        check_possible(values[None], model.spec.num_dimensions, "upper bound", "log_prior + log_likelihood")
        control = IWAE(num_samples=self.chains).evaluate(evaluation).per_image  # (N,)
        assert isinstance(control, Tensor)
        below = control[chosen] - values
        variances = [it.var(correction=1).item() if len(it) > 1 else 0.0 for it in (values, below)]
        chance = (1 / count - 1 / size) * variances[1]
        details = {**_of(walks), "below_iwae": below.mean().item(), "error_of_choice": math.sqrt(chance)}
        value, error = (control.mean() - below.mean()).item(), math.sqrt(variances[0] / size + chance)
        protocol = {**self.protocol(evaluation), "annealed images": str(count), "draws": "1"}
        if count == size:
            return harness.Score(values.mean().item(), error, "upper bound", values, protocol, details)
        return harness.Score(value, error, "upper bound", None, protocol, details)


class BDMCGap(_Annealed):
    """An upper less a lower bound on log p(x), on images that the model makes: how far AIS is off at most, on average.

    Both bounds are of the same transitions. Forwards AIS bounds log p(x) from below; backwards, from the latents that
    an image was drawn from, which are a draw of p(z | x), from above.
    """

    family = "bdmc-gap"
    title = "BDMC gap"
    default_images = 100

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Draws images and latents from the model, and anneals both ways; the details hold both sides, in nats."""
        model, forth, back = evaluation.model, list[Walk](), list[Walk]()
        assert isinstance(model, harness.LatentVariable)
        assert self.num_images is not None
        seed = harness.derive_seed(evaluation.seed, self.name, "joint")
        with torch.no_grad(), harness.isolated_rng(seed, evaluation.device):
            images, drawn = draw_joint(model, self.num_images)
        done, sides = 0, list[tuple[Tensor, Tensor]]()

        def gap(batch: Tensor) -> Tensor:
            nonlocal done
            latents, done = drawn[done : done + len(batch)].clone(), done + len(batch)
            for walks, walk in zip((forth, back), self.walks(model, batch, latents), strict=True):
                walks.append(walk)
            sides.append((log_mean_exp(forth[-1].log_weights), -log_mean_exp(-back[-1].log_weights)))
            return sides[-1][1] - sides[-1][0]

        values = self.over(evaluation, images.cpu(), gap)
        lower, upper = (torch.cat(parts).mean().item() for parts in zip(*sides, strict=True))
        details = {"lower_log_prob": lower, "upper_log_prob": upper, "largest": values.max().item(), **_of(forth)}
        protocol = self.protocol(evaluation) | {"images": f"{self.num_images} of the model's", "draws": "1"}
        error = values.std(correction=1).item() / math.sqrt(len(values))
        return harness.Score(values.mean().item(), error, "upper bound", None, protocol, details)


def log_mean_exp(values: Tensor) -> Tensor:
    """Maps (C, N) to (N,)."""
    return values.logsumexp(0) - math.log(len(values))


def _of(walks: Sequence[Walk]) -> dict[str, float]:
    """Says how the chains went: means over images."""
    weights = torch.cat([walk.log_weights for walk in walks], dim=1)  # (C, N)
    effective = (2 * weights.logsumexp(0) - (2 * weights).logsumexp(0)).exp()
    variance = weights.var(0, correction=1) if len(weights) > 1 else torch.zeros(1)
    return {
        "acceptance": torch.cat([walk.acceptance.mean(0) for walk in walks]).mean().item(),
        "effective_sample_size": effective.mean().item(),
        "log_weight_variance": variance.mean().item(),
    }
