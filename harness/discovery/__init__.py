"""What is installed, and where its code is.

In come the entry points of plugin packages and targets such as ``package.module:Class``; out go entries, classes, their
hyperparameters, and digests of their code. Imported here are ``interface`` and ``support``; finding a plugin imports no
torch.
"""
