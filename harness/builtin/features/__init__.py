"""Feature networks: what turns images into the vectors whose distributions FID and KID compare.

In comes a network's name, as in a metric's, and an evaluation; out goes a ``FeatureNetwork``: trained, read or
downloaded at its first use. Registered through the same hook as anyone's; nothing here imports torch until it is used.
Imported here are public names of ``harness`` alone.
"""

from collections.abc import Sequence

from harness import NetworkEntry, hookimpl

ENTRIES = (
    NetworkEntry("pixels", "harness.builtin.features.network:pixels", "the values as fractions of the highest"),
    NetworkEntry(
        "lenet",
        "harness.builtin.features.lenet:lenet",
        "a small classifier, trained on the run's own dataset or another",
        "LeCun, Bottou, Bengio & Haffner 1998",
        pattern=r"lenet(?:-(?P<dataset>(?!to-|n[1-9]\d*-to-).+))?",
        usage="lenet[-DATASET]",
    ),
    NetworkEntry(
        "inception",
        "harness.builtin.features.inception:inception",
        "the network by which FID is defined, of 2015-12-05",
        "Szegedy et al. 2016, arXiv 1512.00567",
    ),
)


@hookimpl
def register_networks() -> Sequence[NetworkEntry]:
    """Registers the feature networks of the core."""
    return list(ENTRIES)
