"""How many floating-point operations a computation takes; what has no rule is named, and the count is "at least"."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_ATEN: Any = torch.ops.aten
# those of aten that do more than a bounded amount of work for each number that they read or write
_WORK = re.compile(
    r"mm(?![ai])|matmul|mv(?!l)|dot|conv(?!ert)|rnn|lstm(?!_cell)|gru(?!_cell)|attention|transformer|linear|fft|cholesky|inverse"
    r"|(?<!re)solve|(?<![a-z])lu_|svd|(?<!s)qr|lstsq|householder|mkldnn|[cp]dist|euclidean_dist|grid_sampler"
    r"|linalg(?!_cross|_vector_norm|_diagonal)|upsample_(?!nearest)"
)


class FlopCount(int):
    """A number of operations, and what ran ``not_counted`` for want of a rule: then it is "at least" so many."""

    not_counted: tuple[str, ...]

    def __new__(cls, value: int, not_counted: Sequence[str] = ()) -> FlopCount:
        """Makes a plain number, with the names beside it."""
        count = super().__new__(cls, value)
        count.not_counted = tuple(not_counted)
        return count

    def __str__(self) -> str:
        number = int.__repr__(self)
        return f"at least {number}, not counted: {', '.join(self.not_counted)}" if self.not_counted else number


class Work(NamedTuple):
    """What a computation is made of: beside its products, how many kernels run, and what numbers they write."""

    flops: FlopCount
    kernels: int
    numbers: int


def count_flops(call: Callable[[], object]) -> FlopCount:
    """Counts the multiply-adds of matrix products, convolutions and attention as two operations each.

    Fused layers and compiled functions are taken apart. Element-wise operations, reductions, pooling and look-ups are
    not counted. Any other operation on floating-point numbers is named in ``not_counted``.
    """
    return count_work(call).flops


def count_work(call: Callable[[], object]) -> Work:
    """Counts as ``count_flops`` does, and the kernels; views write nothing."""
    counter = _Counter()
    with ExitStack() as stack:
        # fused kernels, those of an LSTM and of a transformer's block, hide their products
        stack.callback(setattr, torch.backends.mkldnn, "enabled", torch.backends.mkldnn.enabled)
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and it takes seconds to import
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        with torch.no_grad(), counter:
            call()
    return Work(FlopCount(counter.total, sorted(counter.not_counted)), counter.kernels, counter.numbers)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up by torch's rules and our own; what consists of other operations is taken apart."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total, self.kernels, self.numbers, self.not_counted = 0, 0, 0, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Counts an operation, names it, or leaves it out."""
        kwargs, packet = kwargs or {}, getattr(func, "overloadpacket", func)  # a higher-order operator is its own
        rule = _RULES.get(packet) or flop_registry.get(packet)
        if rule is None and packet is not func:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        self.kernels += 1
        if not getattr(func, "is_view", False):
            self.numbers += sum(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        usual = all(tensor.layout is torch.strided and not tensor.is_complex() for tensor in tensors)
        if rule is not None and usual:
            self.total += rule(*args, **kwargs, out_val=result)
        elif rule is not None:
            self.not_counted.add(f"{packet} of sparse or complex numbers")
        elif _is_work(str(packet)) and any(_has_fractions(tensor) for tensor in tensors):
            self.not_counted.add(str(packet))
        return result


def _is_work(name: str) -> bool:
    library, _, operation = name.rpartition(".")
    return _WORK.search(operation) is not None if library == "aten" else library not in ("prim", "prims", "profiler")


def _has_fractions(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized


def _product(*operands: Any, **_: Any) -> int:
    """Of the last two operands: matrix or vector, with or without a batch."""
    left, right = (operand.shape for operand in operands[-2:])
    return int(2 * math.prod(left) * (right[-1] if len(right) > 1 else 1))


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Scores, and the values that they weigh; several heads of the query may share one of the keys."""
    return 2 * math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _triangular(triangle: Tensor, *_: Any, out_val: Tensor, **__: Any) -> int:
    """Each of the unknowns of a column takes a multiply-add for each one before it; one side may serve a batch."""
    return math.prod(out_val.shape) * triangle.shape[-1]


_PRODUCTS = ("dot", "vdot", "mv", "addmv", "addmv_", "addmm_", "addbmm", "addbmm_", "baddbmm_", "_addmm_activation")
_ATTENTION = ("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention")
_RULES: dict[Any, Callable[..., int]] = {
    **{getattr(_ATEN, name): _product for name in _PRODUCTS},
    _ATEN.linalg_solve_triangular: _triangular,
    **{getattr(_ATEN, f"_scaled_dot_product_{name}"): _attention for name in _ATTENTION},
}
