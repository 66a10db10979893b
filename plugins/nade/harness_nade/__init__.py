"""Neural autoregressive density estimators: FVSBN, NADE, orderless deep NADE and MADE."""

from __future__ import annotations

from harness import ModelEntry, SamplerEntry, hookimpl


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    return [
        ModelEntry(
            "fvsbn",
            "harness_nade.fvsbn:FVSBN",
            paper="Frey 1996; Neal 1992",
            summary="fully visible sigmoid belief net: logistic regression of every entry on its past",
        ),
        ModelEntry(
            "nade",
            "harness_nade.nade:NADE",
            paper="arXiv 1605.02226 (Uria et al. 2016); Larochelle & Murray 2011",
            summary="a hidden layer for each entry, weights shared over the entries, exact O(DH) sampling",
        ),
        ModelEntry(
            "deep-nade",
            "harness_nade.deep_nade:DeepNADE",
            paper="arXiv 1310.1757 (Uria, Murray & Larochelle 2014)",
            summary="orderless NADE of any depth, trained for all orderings at once; an ensemble of some at evaluation",
        ),
        ModelEntry(
            "made",
            "harness_nade.made:MADE",
            paper="arXiv 1502.03509 (Germain et al. 2015)",
            summary="masked autoencoder, all conditionals in one pass; a mixture over masks and orderings",
        ),
    ]


@hookimpl
def register_samplers() -> list[SamplerEntry]:
    """Returns the samplers of these models."""
    return [
        SamplerEntry(
            "incremental",
            "harness_nade.nade_samplers:nade",
            model="nade",
            summary="O(DH) an image, by rank-one updates of the hidden layer",
        ),
        SamplerEntry(
            "incremental",
            "harness_nade.nade_samplers:deep_nade",
            model="deep-nade",
            summary="D evaluations for each image, by rank-one updates of the first layer",
        ),
        SamplerEntry(
            "incremental",
            "harness_nade.made_incremental:incremental",
            model="made",
            summary="in blocks of entries: each hidden unit about once for each image",
        ),
    ]
