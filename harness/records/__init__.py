"""Records: what is known of a run, and where that is kept.

In come what a worker leaves in a run's folder, and archives that others wrote; out go ``RunRecord`` values: from the
folder, from the store, which is made from the folders, and from the archive that a board is rebuilt from, two files of
which the same results give the same bytes. Imported here are ``suites``, ``interface`` and ``support``; no torch.
"""
