"""A museum of right and wrong models, that the audit is held against: ``RIGHT`` and ``MUTANTS``."""

from importlib import import_module

from .registry import MUTANTS, RIGHT, Mutant

__all__ = ["MUTANTS", "RIGHT", "Mutant"]

_ROOMS = ("mixtures", "autoregressive", "pixel_cnn", "latent", "flows", "implicit", "conditional")
_WRONG = ("wrong_mixtures", "wrong_autoregressive", "wrong_latent", "wrong_flows", "wrong_conditional", "wrong_size")

for _room in (*_ROOMS, *_WRONG):
    import_module(f"{__name__}.{_room}")  # its models register themselves
