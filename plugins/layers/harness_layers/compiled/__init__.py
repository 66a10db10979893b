"""A raster sampler for the gated stack by an optional C++ kernel, compiled on demand."""

from harness_layers.compiled.sampler import draw_compiled

__all__ = ["draw_compiled"]
