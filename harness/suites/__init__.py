"""What is asked for: suites, grids, published figures.

In comes a TOML file; out goes a ``Suite``, checked, with its runs spelt out, and the JSON schema by which editors
complete such files. Imported here are ``interface`` and ``support``; no torch.
"""
