"""Fashion-MNIST: articles of clothing in MNIST's format and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import Dataset
from harness.builtin.datasets.mnist import IdxFiles, idx_dataset

if TYPE_CHECKING:
    from harness import DataFolder

FASHION = IdxFiles.at(
    "fashion-mnist",
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    ),
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)


def fashion_mnist(folder: DataFolder) -> Dataset:
    """Returns Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): 28x28, 256 levels, split as ``mnist`` is."""
    return idx_dataset("fashion-mnist", folder, FASHION)
