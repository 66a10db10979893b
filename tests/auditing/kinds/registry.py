"""Registers right models by name, with the kind that each is of."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from museum import RIGHT

from harness import Model

M = TypeVar("M", bound=type[Model])


@dataclass(frozen=True)
class Entry:
    """A right model: its class, and its kind in a few words, which siblings share."""

    model: type[Model]
    kind: str


_OF_THE_MUSEUM = {
    "mixture": "mixture of products",
    "kernel-density": "kernel density",
    "discretized-logistic": "discretized logistics",
    "independent": "independent entries",
    "markov-chain": "Markov chain",
    "made": "masked dense network",
    "order-agnostic-made": "mixture over orderings",
    "multiscale": "pixels in groups",
    "nade": "NADE",
    "row-rnn": "recurrent network",
    "pixel-cnn": "masked convolutions",
    "gated-pixel-cnn": "gated masked convolutions",
    "conditional-made": "class-conditional likelihood",
    "vae": "VAE",
    "iwae": "VAE",
    "coded-vae": "VAE",
    "two-layer-vae": "hierarchical VAE",
    "two-layer-joint": "hierarchical VAE",
    "discrete-latent": "discrete latents",
    "enumerated-latent": "discrete latents",
    "planar-posterior-vae": "VAE with a flow as posterior",
    "bound-only": "bound without weights",
    "conditional-vae": "class-conditional VAE",
    "affine-flow": "elementwise flow",
    "real-nvp": "coupling flow",
    "nice": "coupling flow",
    "planar-flow": "residual flow",
    "gan": "GAN",
    "conditional-gan": "class-conditional GAN",
}

MODELS: dict[str, Entry] = {name: Entry(model, _OF_THE_MUSEUM.get(name, "other")) for name, model in RIGHT}


def kind(what: str) -> Callable[[M], M]:
    """Registers a right model under the name of its class in small letters; a name that is taken is a ValueError."""

    def register(model: M) -> M:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", model.__name__).lower()
        if name in MODELS:
            raise ValueError(f"there are two right models named {name!r}: rename the class {model.__name__}")
        MODELS[name] = Entry(model, what)
        return model

    return register
