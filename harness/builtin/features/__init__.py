"""Feature networks: what turns images into the vectors whose distributions FID and KID compare."""

from __future__ import annotations
