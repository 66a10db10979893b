"""The built-in datasets, registered through the same hook as anyone's. Importing this imports no torch.

A dataset's target is called as ``target(folder, **groups)`` with a ``DataFolder`` and gives a ``harness.Dataset``.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness import DatasetEntry, hookimpl


@hookimpl
def register_datasets() -> Sequence[DatasetEntry]:
    """Returns the entries of the built-in datasets."""
    return [
        DatasetEntry(
            "digits",
            "harness.builtin.datasets.digits:digits",
            summary="1,797 digits of 8x8 pixels and 17 levels, with labels; needs no download",
            paper="Alpaydin & Kaynak 1998",
        ),
        DatasetEntry(
            "digits-binary",
            "harness.builtin.datasets.digits:digits_binary",
            summary="digits, a pixel is one from intensity 8 on; needs no download",
            paper="Alpaydin & Kaynak 1998",
        ),
        DatasetEntry(
            "mnist",
            "harness.builtin.datasets.mnist:mnist",
            summary="28x28 digits of 256 levels, with labels, 50,000 / 10,000 / 10,000",
            paper="LeCun et al. 1998",
        ),
        DatasetEntry(
            "mnist-static",
            "harness.builtin.datasets.mnist_static:mnist_static",
            summary="MNIST, the one fixed binarization of the likelihood literature, no labels",
            paper="Larochelle & Murray 2011; Salakhutdinov & Murray 2008",
        ),
        DatasetEntry(
            "mnist-dynamic",
            "harness.builtin.datasets.mnist:mnist_dynamic",
            summary="MNIST, pixels redrawn as Bernoulli(intensity) each epoch; scored on five fixed draws",
            paper="Salakhutdinov & Murray 2008; Burda et al. 2016 (arXiv 1509.00519)",
        ),
        DatasetEntry(
            "fashion-mnist",
            "harness.builtin.datasets.mnist:fashion_mnist",
            summary="28x28 articles of clothing, 256 levels, with labels, 50,000 / 10,000 / 10,000",
            paper="Xiao et al. 2017 (arXiv 1708.07747)",
        ),
        DatasetEntry(
            "cifar10",
            "harness.builtin.datasets.cifar:cifar10",
            summary="32x32 colour photographs, with labels, 45,000 / 5,000 / 10,000",
            paper="Krizhevsky 2009",
        ),
        DatasetEntry(
            "frey-faces",
            "harness.builtin.datasets.frey:frey_faces",
            summary="1,965 frames of one face, 28x20, 256 levels; a seeded split, for there is no official one",
            paper="Roweis, Saul & Hinton 2002",
        ),
        DatasetEntry(
            "ising-8x8",
            "harness.builtin.datasets.known:ising",
            summary="known entropy: an Ising model on 8x8, coupling 0.4; drawn, not downloaded",
            paper="Ising 1925; Kramers & Wannier 1941",
        ),
        DatasetEntry(
            "templates-8x8",
            "harness.builtin.datasets.known:templates",
            summary="known distribution: twelve 8x8 templates, one entry in ten flipped; drawn, not downloaded",
        ),
        DatasetEntry(
            "tree-8x8",
            "harness.builtin.datasets.known:tree",
            summary="known entropy: a binary Markov field on a spanning tree of 8x8; drawn, not downloaded",
        ),
        DatasetEntry(
            "tree-8x8-4-levels",
            "harness.builtin.datasets.known:tree_levels",
            summary="known entropy: a Markov field of four levels on a spanning tree of 8x8; drawn, not downloaded",
        ),
        DatasetEntry(
            "images",
            "harness.builtin.datasets.images:images",
            summary="your own images: a folder of image files or an .npz, split 80/10/10 by content",
            pattern=r"images:(?P<path>.+)",
            usage="images:PATH",
        ),
    ]
