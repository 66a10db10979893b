"""What a computation costs, counted and not timed: an audit's size must not depend on the machine.

The unit is an operation of a matrix product, of which a processor's core does some 2e10 a second. Small models are slow
for other reasons, and so what is written and how many kernels are called count too, by what they take beside it.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from harness.auditing.subject import Specimen
from harness.support.flops import count_work

_NUMBER, _KERNEL = 10, 1e5  # operations that take as long as to write a number, and to call a kernel


def operations(specimen: Specimen, function: Callable[[Tensor], object], images: int = 1, calls: int = 1) -> float:
    """Returns what a function of images costs, at least 1."""
    each, every_call = cost(specimen, function)
    return max(1.0, each * images + every_call * calls)


def flops(specimen: Specimen, function: Callable[[Tensor], object]) -> float:
    """Returns what each image of a large batch costs, at least 1."""
    return operations(specimen, function, calls=0)


def cost(specimen: Specimen, function: Callable[[Tensor], object]) -> tuple[float, float]:
    """Returns what each image and each call cost a function: weights are masked once, whatever the batch."""
    own = getattr(function, "__self__", None) is specimen.model
    name = f"cost of {getattr(function, '__name__', '')}" if own else ""
    if name in specimen.kept:
        return specimen.kept[name]  # type: ignore[no-any-return]
    with specimen.rng("cost"):
        one, two = (count_work(partial(function, specimen.images(count, "cost"))) for count in (1, 2))
    first, second = (work.flops + _NUMBER * work.numbers for work in (one, two))
    found = max(0.0, second - first), max(0.0, 2 * first - second) + _KERNEL * one.kernels
    if name:
        specimen.kept[name] = found
    return found
