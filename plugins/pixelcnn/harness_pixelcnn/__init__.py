"""Pixel recurrent and convolutional networks: PixelCNN, Gated PixelCNN, Row LSTM and Diagonal BiLSTM."""

from __future__ import annotations

from harness import ModelEntry, SamplerEntry, hookimpl


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    return [
        ModelEntry(
            "pixelcnn",
            "harness_pixelcnn.pixelcnn:PixelCNN",
            paper="arXiv 1601.06759 (van den Oord, Kalchbrenner & Kavukcuoglu 2016)",
            summary="one stack of residual masked convolutions, with its blind spot declared; any levels, RGB",
        ),
        ModelEntry(
            "gated-pixelcnn",
            "harness_pixelcnn.gated_pixelcnn:GatedPixelCNN",
            paper="arXiv 1606.05328 (van den Oord et al. 2016)",
            summary="two stacks of gated masked convolutions, no blind spot; any levels, R before G before B",
        ),
        ModelEntry(
            "gated-pixelcnn-conditional",
            "harness_pixelcnn.gated_pixelcnn:ConditionalGatedPixelCNN",
            paper="arXiv 1606.05328 (van den Oord et al. 2016)",
            summary="Gated PixelCNN with a bias for every class in every layer; the equal mixture without labels",
        ),
        ModelEntry(
            "row-lstm",
            "harness_pixelcnn.row_lstm:RowLSTM",
            paper="arXiv 1601.06759 (van den Oord, Kalchbrenner & Kavukcuoglu 2016)",
            summary="LSTMs down the rows of an image, a triangular receptive field; any levels, R before G before B",
        ),
        ModelEntry(
            "diagonal-bilstm",
            "harness_pixelcnn.diagonal_bilstm:DiagonalBiLSTM",
            paper="arXiv 1601.06759 (van den Oord, Kalchbrenner & Kavukcuoglu 2016)",
            summary="LSTMs along both diagonals of an image, which see the whole past; any levels, R before G before B",
        ),
    ]


@hookimpl
def register_samplers() -> list[SamplerEntry]:
    """Returns the samplers of these models, each model's default first."""
    cached = "what the rows above say once a row, the rest once an entry"
    whole, rows = "all entries at once, until nothing changes", "a row at once, until nothing changes"
    iterated = "harness_layers.fixed_point:fixed_point"
    entries = [
        SamplerEntry("cached", "harness_pixelcnn.pixelcnn_samplers:cached", cached, model="pixelcnn"),
        SamplerEntry("fixed-point", iterated, whole, model="pixelcnn"),
        SamplerEntry("fixed-point-rows", "harness_pixelcnn.pixelcnn_samplers:fixed_point_rows", rows, model="pixelcnn"),
    ]
    for model in ("gated-pixelcnn", "gated-pixelcnn-conditional"):
        kernel = "a C++ kernel, compiled on demand; without a compiler as cached"
        entries += [
            SamplerEntry("cached", "harness_pixelcnn.gated_samplers:cached", cached, model=model),
            SamplerEntry("compiled", "harness_pixelcnn.compiled.sampler:compiled", kernel, model=model),
            SamplerEntry("fixed-point", "harness_pixelcnn.gated_samplers:fixed_point", whole, model=model),
            SamplerEntry("fixed-point-rows", "harness_pixelcnn.gated_samplers:fixed_point_rows", rows, model=model),
        ]
    for model, module in (("row-lstm", "row_samplers"), ("diagonal-bilstm", "diagonal_samplers")):
        entries += [
            SamplerEntry("cached", f"harness_pixelcnn.{module}:cached", cached, model=model),
            SamplerEntry("fixed-point", iterated, whole, model=model),
        ]
    return entries
