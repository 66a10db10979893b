"""Pixel recurrent and convolutional networks: PixelCNN, Gated PixelCNN, Row LSTM and Diagonal BiLSTM."""

from __future__ import annotations

from harness import ModelEntry, hookimpl


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
