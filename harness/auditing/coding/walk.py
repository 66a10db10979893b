"""From entry to entry through a batch of images, each entry's distribution known before the entry is.

Encoder and decoder take the same walk, with the same numbers: what differs is where an entry's value comes from. The
network sees the entries that are coded, and in place of the others a guess: zeros at first, then the likeliest values
by the conditionals that it gave before. As long as the entries that are coded are those that it saw, it need not be
asked again (forecasting, Wiggers & Hoogeboom 2020, arXiv 2002.09928). The image itself has no part in a guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from harness.auditing.coding.file import CodingError
from harness.interface.model import Autoregressive


def families(model: Autoregressive) -> list[list[int]]:
    """Returns the members of the mixture over orderings, those that draw their entries in the same steps together."""
    found: dict[bytes, list[int]] = {}
    for member in range(model.num_orderings):
        steps = model.generation_steps(member).cpu().contiguous()
        found.setdefault(steps.numpy().tobytes(), []).append(member)
    return list(found.values())


def walk_batches(
    model: Autoregressive,
    num_images: int,
    batch_size: int,
    choose: Callable[[Tensor, Tensor], Tensor],
    exchange: Callable[[Tensor, int, Tensor], Tensor],
    progress: Callable[[float], None],
) -> Tensor:
    """Goes through images in batches, each image in the steps of one family, which is coded before it.

    Args:
        model: evaluated, never changed.
        num_images: N.
        batch_size: how many go together.
        choose: maps the numbers of images (n,) and the families' log-probabilities (n, families) to the family of each
            image, (n,) int64.
        exchange: maps the numbers of images (n,), an entry's number and its distribution (n, levels), both in float64
            nats, to its values (n,) int64.
        progress: told which part is done.

    Returns:
        (N, C, H, W) uint8 on the CPU.

    Raises:
        CodingError: a conditional is NaN.
    """
    found = families(model)
    sizes = torch.tensor([len(members) for members in found], dtype=torch.float64)
    prior = (sizes / sizes.sum()).log()
    images, done = torch.zeros(num_images, *model.spec.shape, dtype=torch.uint8), 0
    for batch in torch.split(torch.arange(num_images), batch_size):
        chosen = choose(batch, prior.expand(len(batch), -1)) if len(found) > 1 else torch.zeros_like(batch)
        for number, members in enumerate(found):
            index = batch[chosen == number]
            if len(index):
                on_step = partial(_report, progress, done, len(index), num_images)
                images[index] = _walk(model, members, len(index), partial(exchange, index), on_step)
                done += len(index)
    return images


def _report(progress: Callable[[float], None], done: int, part: int, total: int, fraction: float) -> None:
    progress((done + fraction * part) / total)


def _walk(
    model: Autoregressive,
    members: Sequence[int],
    num_images: int,
    exchange: Callable[[int, Tensor], Tensor],
    on_step: Callable[[float], None],
) -> Tensor:
    """Goes through ``num_images`` images in the order of ``members``, which draw their entries in the same steps.

    An entry's distribution is that of the equal mixture of the members, given all entries before it:

        p(x_k | x_<k) = sum_m w_m p_m(x_k | x_<k),   w_m ~ p_m(x_<k),

    so that the product over entries is the mean of the members' products, exactly. Entries of one step come one after
    another too: given the member they are independent, given the mixture they are not.
    """
    size = model.spec.num_dimensions
    images = torch.zeros(num_images, size, dtype=torch.uint8)  # what is coded, and a guess of what is not
    seen = torch.zeros_like(images)  # what the network saw
    logits: Tensor | None = None  # (members, N, levels, D)
    log_weights = torch.zeros(len(members), num_images, dtype=torch.float64)
    outdated = torch.ones(num_images, dtype=torch.bool)
    steps = model.generation_steps(members[0]).cpu().flatten()
    every = torch.unique(steps, sorted=True).tolist()
    for done, step in enumerate(every):
        rows = outdated.nonzero().squeeze(1)
        if len(rows):
            seen[rows] = images[rows]
            inputs = images[rows].view(-1, *model.spec.shape).to(model.device)
            fresh = torch.stack([model.conditional_logits(inputs, member).flatten(2).cpu() for member in members])
            if logits is None:
                logits = torch.empty_like(fresh)
            logits[:, rows] = fresh
            images[rows] = torch.where(steps < step, images[rows], fresh[0].argmax(1).to(torch.uint8))
        assert logits is not None
        outdated[:] = False
        for entry in (steps == step).nonzero().squeeze(1).tolist():
            log_probs = logits[..., entry].double().log_softmax(2)  # (members, N, levels)
            posterior = log_weights.log_softmax(0)  # (members, N), NaN where no member gave an image any probability
            posterior = posterior.nan_to_num(-math.log(len(members)), neginf=-math.inf)
            mixed = (log_probs + posterior[..., None]).logsumexp(0)  # (N, levels)
            if bool(mixed.isnan().any()):
                raise CodingError(f"the conditional of entry {entry} is NaN: nothing can be coded by it")
            values = exchange(entry, mixed)  # (N,)
            log_weights += log_probs.gather(2, values.expand(len(members), -1)[..., None]).squeeze(2)
            images[:, entry] = values.to(torch.uint8)
            outdated |= images[:, entry] != seen[:, entry]
        on_step((done + 1) / len(every))
    return images.view(-1, *model.spec.shape)


def family_scores(model: Autoregressive, images: Tensor, found: Sequence[Sequence[int]]) -> Tensor:
    """Returns (families, N) float64 nats: log of the part that each family has in the mixture's probability."""
    scores = []
    for members in found:
        parts = [model.conditional_log_probs(images, member).flatten(1).sum(1).double() for member in members]
        scores.append(torch.stack(parts).logsumexp(0))
    return torch.stack(scores).cpu() - math.log(model.num_orderings)
