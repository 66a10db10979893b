"""The built-in boards, registered through the same hook as anyone's. Nothing here imports torch."""

from collections.abc import Sequence

from harness import BoardEntry, hookimpl

_ENTRIES = (  # name, target, summary
    ("likelihood", "likelihood:Likelihood", "exact NLLs and upper bounds on them, in one order"),
    ("bounds", "likelihood:Bounds", "one column for each bound, ranked by the tightest"),
    ("inference", "inference:Inference", "what latents cost and keep, annealed importance sampling and its gap"),
    ("published", "published:Published", "the rows of a printed table, ours beside each, or why there is none"),
    ("sample-quality", "sample_quality:SampleQuality", "FID, KID: a column for each protocol"),
    ("throughput", "cost:Throughput", "speeds, a table for each machine"),
    ("cost", "cost:Cost", "parameters, FLOPs and seconds of training"),
    ("equal-compute", "compute:EqualCompute", "validation scores within shares of a common budget"),
)


@hookimpl
def register_boards() -> Sequence[BoardEntry]:
    """Registers the boards of the core."""
    return [BoardEntry(name, f"harness.builtin.boards.{target}", summary) for name, target, summary in _ENTRIES]
