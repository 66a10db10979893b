"""How fast a model is: timing, the certificate of a fast sampler, and the profile of generation speed."""
