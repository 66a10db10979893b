"""What is asked for: suites, grids, and the schema of their files.

In comes a TOML file; out goes a ``Suite``, checked, with its runs spelt out, and the JSON schema by which editors
complete such files. Imported here are ``interface`` and ``support``; no torch.
"""
