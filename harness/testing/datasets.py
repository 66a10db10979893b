"""The conformance suite of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from harness.testing.conformance import Conformance, outcome_of, required


class DatasetConformance(Conformance):
    """Tests a dataset: subclass it, and say which.

    Class attributes:
        dataset: its name, as a suite writes it.
        folder: where its files lie; None takes ``HARNESS_DATA`` or the user's cache folder. Without its files, and
            without a network to get them by, all is skipped.
        expected_failures: names of tests that fail by its nature, each with the reason; such as ``disjoint`` for
            draws from a distribution on few images.
    """

    __test__: ClassVar[bool] = False
    dataset: ClassVar[str]
    folder: ClassVar[Path | None] = None

    def test_conforms(self, promise: str) -> None:
        """The dataset keeps a promise that a benchmark relies on."""
        promises = _promises()
        self._settle(promise, outcome_of(partial(promises[promise], self.dataset, self.folder)))

    def _names(self) -> Mapping[str, Iterable[str]]:
        required(type(self), "dataset", '"name"')
        return {"promise": list(_promises())}


def _promises() -> Mapping[str, Callable[[str, Path | None], None]]:
    from harness.testing.dataset_promises import PROMISES

    return PROMISES
