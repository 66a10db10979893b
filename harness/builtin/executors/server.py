"""Imported by the fork server alone, to make it one that keeps what its crashed children leave behind, to be ended."""

import warnings

from harness.builtin.executors.local import inherit_orphans

warnings.filterwarnings("ignore", "forkserver: waitpid returned unexpected pid")  # one that it inherited has ended
inherit_orphans()
