"""Building blocks that two or more model families share: pixels, the training loop, checks, causal convolutions."""
