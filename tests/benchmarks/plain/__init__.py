"""The plain formulation of each model, as everyone writes it: the baseline of all ratios, with the same weights."""
