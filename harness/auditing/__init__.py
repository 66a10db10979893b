"""Is the likelihood one, do the samples follow it? Takes a model's class and gives a report; trains no run."""
