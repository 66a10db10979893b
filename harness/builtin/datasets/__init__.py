"""The built-in datasets, registered through the same hook as anyone's. Importing this imports no torch.

A dataset's target is called as ``target(folder, **groups)`` with a ``DataFolder`` and gives a ``harness.Dataset``.
"""

from collections.abc import Sequence

from harness import DatasetEntry, hookimpl

# fmt: off
_ENTRIES = (  # name, target, summary, paper, pattern, usage
    ("digits", "seeded:digits", "1,797 digits of 8x8 pixels and 17 levels, with labels; needs no download",
     "Alpaydin & Kaynak 1998"),
    ("digits-binary", "seeded:digits_binary", "digits, a pixel is one from intensity 8 on; needs no download",
     "Alpaydin & Kaynak 1998"),
    ("mnist", "mnist:mnist", "28x28 digits of 256 levels, with labels, 50,000 / 10,000 / 10,000", "LeCun et al. 1998"),
    ("mnist-static", "mnist:mnist_static", "MNIST, the one fixed binarization of the likelihood literature, no labels",
     "Larochelle & Murray 2011; Salakhutdinov & Murray 2008"),
    ("mnist-dynamic", "mnist:mnist_dynamic",
     "MNIST, pixels redrawn as Bernoulli(intensity) each epoch; scored on five fixed draws",
     "Salakhutdinov & Murray 2008; Burda et al. 2016 (arXiv 1509.00519)"),
    ("fashion-mnist", "mnist:fashion_mnist",
     "28x28 articles of clothing, 256 levels, with labels, 50,000 / 10,000 / 10,000",
     "Xiao et al. 2017 (arXiv 1708.07747)"),
    ("cifar10", "cifar:cifar10", "32x32 colour photographs, with labels, 45,000 / 5,000 / 10,000", "Krizhevsky 2009"),
    ("frey-faces", "seeded:frey_faces",
     "1,965 frames of one face, 28x20, 256 levels; a seeded split, for there is no official one",
     "Roweis, Saul & Hinton 2002"),
    ("ising-8x8", "known:ising", "known entropy: an Ising model on 8x8, coupling 0.4; drawn, not downloaded",
     "Ising 1925; Kramers & Wannier 1941"),
    ("templates-8x8", "known:templates",
     "known distribution: twelve 8x8 templates, one entry in ten flipped; drawn, not downloaded"),
    ("tree-8x8", "known:tree",
     "known entropy: a binary Markov field on a spanning tree of 8x8; drawn, not downloaded"),
    ("tree-8x8-4-levels", "known:tree_levels",
     "known entropy: a Markov field of four levels on a spanning tree of 8x8; drawn, not downloaded"),
    ("four-points", "known:four_points",
     "known distribution: 2x2 images with one pixel set, each as likely; drawn, not downloaded",
     "Kingma et al. 2016 (arXiv 1606.04934)"),
    ("two-moons", "toys:two_moons", "known density of the plane: two half circles with noise; drawn, not downloaded"),
    ("eight-gaussians", "toys:eight_gaussians",
     "known density of the plane: eight Gaussians on a circle; drawn, not downloaded"),
    ("twenty-five-gaussians", "toys:twenty_five_gaussians",
     "known density of the plane: a grid of narrow Gaussians; drawn, not downloaded"),
    ("swiss-roll", "toys:swiss_roll", "known density of the plane: a spiral with noise; drawn, not downloaded"),
    ("checkerboard", "toys:checkerboard",
     "known density of the plane: uniform on every other field; drawn, not downloaded"),
    ("images", "images:images", "your own images: a folder or an .npz, in its own splits or 80/10/10 by content",
     None, r"images:(?P<path>.+)", "images:PATH"),
)
# fmt: on


@hookimpl
def register_datasets() -> Sequence[DatasetEntry]:
    """Returns the entries of the built-in datasets."""
    return [DatasetEntry(name, f"harness.builtin.datasets.{target}", *words) for name, target, *words in _ENTRIES]
