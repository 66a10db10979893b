"""Digits that note, in the file named by TINKER_WATCH, which process asks for their test images."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

from harness import Split
from harness.builtin.datasets.seeded import digits_binary


class Watched(Split):
    def draw(self, index):
        with Path(os.environ["TINKER_WATCH"]).open("a") as file:
            print(multiprocessing.current_process().name, file=file)
        return super().draw(index)


def watched(folder):
    data = digits_binary(folder)
    return replace(data, name="watched", test=Watched(data.test.images, data.test.labels))


def broken(folder):
    return {}["pixels"]
