from __future__ import annotations

import math
import re

import pytest

from harness_layers.checks import (
    check_at_least,
    check_choice,
    check_odd,
    check_positive,
    check_share,
    check_widths,
)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_positive(rate=1.0, width=0), "width must be positive, not 0"),
        (lambda: check_positive(rate=math.nan), "rate must be positive, not nan"),
        (lambda: check_positive(rate=math.inf), "rate must be finite, not inf"),
        (lambda: check_at_least(0, layers=-1), "layers must be at least 0, not -1"),
        (lambda: check_share(dropout=1.0), "dropout must be at least 0 and below 1, not 1.0"),
        (lambda: check_share(dropout=-0.1), "dropout must be at least 0 and below 1, not -0.1"),
        (lambda: check_odd(kernel=4), "kernel must be an odd number, not 4"),
        (lambda: check_odd(kernel=-1), "kernel must be an odd number, not -1"),
        (lambda: check_widths(hidden=()), "hidden must be one positive number or more, not ()"),
        (lambda: check_widths(hidden=(5, 0)), "hidden must be one positive number or more, not (5, 0)"),
        (lambda: check_choice(["a", "b"], kind="c"), "kind must be one of 'a', 'b', not 'c'"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(check, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check()


def test_values_in_range_are_taken():
    check_positive(rate=1e-9, width=1)
    check_at_least(0, layers=0)
    check_share(dropout=0.0, decay=0.999)
    check_odd(kernel=1, other=7)
    check_widths(hidden=(1, 2))
    check_choice({"a": 1}, kind="a")
