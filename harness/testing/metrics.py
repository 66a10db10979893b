"""The conformance suite of a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from harness.testing.conformance import Conformance, outcome_of, required

if TYPE_CHECKING:
    from harness.interface.model import Model


class MetricConformance(Conformance):
    """Tests a metric: subclass it, and say which.

    Class attributes:
        metric: its name, as a suite writes it, such as ``iwae-5``.
        model: a model that it can measure, by name or class; None takes a small one that is made for this, which has
            conditionals, importance weights, an encoder and a decoder.
        expected_failures: names of tests that fail by its nature, each with the reason.
    """

    __test__: ClassVar[bool] = False
    metric: ClassVar[str]
    model: ClassVar[str | type[Model] | None] = None

    def test_conforms(self, promise: str) -> None:
        """The metric keeps a promise that a benchmark relies on."""
        promises = _promises()
        self._settle(promise, outcome_of(partial(promises[promise], self.metric, self.model)))

    def _names(self) -> Mapping[str, Iterable[str]]:
        required(type(self), "metric", '"name"')
        return {"promise": list(_promises())}


def _promises() -> Mapping[str, Callable[[str, Any], None]]:
    from harness.testing.metric_promises import PROMISES

    return PROMISES
