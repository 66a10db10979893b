"""Right models of many kinds, as people write them, and what kind each is: ``MODELS``, with the museum's own.

Every file of this folder is imported; its models register themselves by ``@kind("hidden Markov model")``.
"""

from importlib import import_module
from pkgutil import iter_modules

from .registry import MODELS, Entry, kind

__all__ = ["MODELS", "Entry", "kind"]

for _room in sorted(found.name for found in iter_modules(__path__)):
    import_module(f"{__name__}.{_room}")
