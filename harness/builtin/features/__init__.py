"""Feature networks: what turns images into the vectors whose distributions FID and KID compare.

In comes a network's name, as in a metric's, and an evaluation; out goes a ``FeatureNetwork``: trained, read or
downloaded at its first use. Imported here are public names of ``harness`` alone.
"""
