"""``harness leaderboard`` and ``export``: from records to tables."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Adds the commands."""
