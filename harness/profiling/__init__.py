"""How fast a model is: timing, the certificate of a fast sampler, and the profile of generation speed.

In come models, and profiles, TOML files that say what to measure; out go timings, certificates, and the measurements
from which tables, charts and pages of a profile are made. Imported here are ``records``, ``suites``, ``discovery``,
``interface``, ``support``, and ``boards`` and ``report`` for what is printed.
"""
