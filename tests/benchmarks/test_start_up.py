"""What a user waits for before anything happens."""

from __future__ import annotations

import subprocess
import sys


def test_harness_list(benchmark):
    command = [sys.executable, "-c", "from harness.cli import main; import sys; sys.argv = ['harness', 'list']; main()"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True, "capture_output": True}, rounds=5, warmup_rounds=1)


def test_importing_torch(benchmark):
    command = [sys.executable, "-c", "import torch"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True, "capture_output": True}, rounds=3, warmup_rounds=1)
