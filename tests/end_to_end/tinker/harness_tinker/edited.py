"""A model whose code the tests edit."""

from __future__ import annotations

from harness_tinker.tilted import Tilted

SHIFT = 0.0


class Edited(Tilted):
    default_budget = "1 step"

    def log_prob(self, images):
        return super().log_prob(images) - SHIFT
