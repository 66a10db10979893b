"""Tables to files: Markdown to read, CSV to compute with, LaTeX for a paper; and whether files are what records say.

In come tables (``harness.boards``); out come texts and files. No torch.
"""
