"""The built-in boards, registered through the same hook as anyone's. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence

from harness import BoardEntry, hookimpl


@hookimpl
def register_boards() -> Sequence[BoardEntry]:
    """Registers the boards of the core: likelihood, bounds, sample quality, throughput, cost."""
    here = "harness.builtin.boards"
    return [
        BoardEntry(
            "likelihood", f"{here}.likelihood:Likelihood", summary="exact NLLs and upper bounds on them, in one order"
        ),
        BoardEntry("bounds", f"{here}.bounds:Bounds", summary="one column for each bound, ranked by the tightest"),
        BoardEntry(
            "sample-quality", f"{here}.sample_quality:SampleQuality", summary="FID, KID: a column for each protocol"
        ),
        BoardEntry("throughput", f"{here}.throughput:Throughput", summary="speeds, a table for each machine"),
        BoardEntry("cost", f"{here}.cost:Cost", summary="parameters, FLOPs and seconds of training"),
    ]
