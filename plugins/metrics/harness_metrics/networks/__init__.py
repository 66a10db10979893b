"""Pretrained feature networks: in come images of any size, out go the vectors that metrics of samples compare.

A file for each architecture, whose weights are found by their SHA-256 and never downloaded; ``preparation`` is shared.
"""
