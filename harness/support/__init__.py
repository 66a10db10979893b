"""What knows nothing of models, runs and boards: files, text, numbers, devices, the environment."""

from __future__ import annotations
