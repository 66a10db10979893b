"""Building blocks that two or more model families share: causal convolutions, pixels in and out, a training loop."""
