"""A raster sampler for Gated PixelCNN by an optional C++ kernel, compiled on demand."""
