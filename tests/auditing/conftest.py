"""Puts this folder on the path, so that tests and scripts share the museum."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)
