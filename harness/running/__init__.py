"""From a suite to records.

In comes a suite; out go the records of its runs, in the store and in the runs' folders. On the way it is planned, its
jobs are handed to an executor, and each is worked on: training, checkpoint, figures. Imported here are ``records``,
``suites``, ``discovery``, ``interface`` and ``support``, and, to draw figures, ``boards`` and ``report``.
"""
