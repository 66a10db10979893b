"""What the commands about boards say."""

from __future__ import annotations

from pathlib import Path

from harness.cli.boards import _say
from harness.running.figures import Drawn


def test_rows_that_have_no_picture_for_one_reason_are_told_in_one_line(capsys):
    left_out = {(f"m{number}", "d"): "there is nothing to draw" for number in range(5)}
    _say(Drawn(left_out={**left_out, ("n", "d"): "no weights"}), "samples", Path("a"))
    assert capsys.readouterr().err.splitlines() == [
        "no picture of 'm0' on d, 'm1' on d, 'm2' on d and 2 others: there is nothing to draw",
        "no picture of 'n' on d: no weights",
    ]
