"""The sample-quality board: FID, KID and their like; figures whose protocol differs never share a column."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness import Board, BoardRow, Column, Group, PublishedFigure, Rows, Table

# Checks of the audit on which figures of samples rest: they ask nothing of the likelihood
OF_SAMPLES = ("contract", "unchanged", "reproducible", "checkpoint")
_KID_SCALE = 1000
_HALVES = ("halves", "halves_low", "halves_high", "halves_images")
_PUBLISHED = {"fid": "FID", "inception-score": "Inception score"}


class SampleQuality(Board):
    """Samples beside real images."""

    name = "sample-quality"
    title = "sample quality"
    nothing = "no sample quality"
    has_pictures = True
    reading = """
    Samples beside the images of the reference split, both as a network sees them; arrows say which way is better.
    FID is the Fréchet distance of two Gaussians that are fitted to the features (Heusel et al. 2017, arXiv
    1706.08500); KID is the unbiased squared MMD of the features with the kernel (x^T y / d + 1)^3 (Bińkowski et al.
    2018, arXiv 1801.01401), printed times 1,000. The spread over seeds holds both the training and the draw of the
    samples; the standard error is by resampling samples and reference.

    A column has one protocol. FID falls as the number of samples grows, by an amount that differs between models,
    so that figures of other numbers of samples are other quantities; KID has no such bias. The network's digest
    says which weights the features are of: another training of the same classifier is another ruler. Features of
    lenet-... are those of a small classifier trained here, features of pixels are the pixels: neither compares with
    a published figure.

    Tests say nothing of other reference images. By resampling they count the reference's error for both rows,
    although it is common and mostly cancels: they separate too few rows rather than too many.

    A row loses its rank by the checks on which its samples rest alone: contract, unchanged, reproducible,
    checkpoint. A wrong likelihood is named, and says nothing of samples.

    Two halves of the reference, as large as can be, give what a perfect model would give at their size: the mean
    over random splits, and between which values 95 % of the splits lie. For FID that is more than a perfect model
    gets at the full size.
    """

    def columns(self, rows: Rows) -> Sequence[Column]:
        """One for each metric and protocol."""
        parts = dict.fromkeys((f"_{name}" for name in _HALVES), "float64")
        made = rows.columns_by_protocol(self.metrics(rows), head=_head, parts=parts)
        scales = [_KID_SCALE if column.header.startswith("KID") else 1 for column in made]
        return [replace(it, decimals=(2, 4), scale=scale) for it, scale in zip(made, scales, strict=True)]

    def may_rank(self, row: BoardRow) -> bool:
        """Tells whether no check failed on which figures of samples rest."""
        return not any(check.check in OF_SAMPLES for check in row.audit.failed)

    def notes(self, table: Table) -> Sequence[str]:
        """What two halves of the reference images give at their size, a line for each column."""
        notes = []
        for column in (column for column in table.columns if "_halves" in column.parts):
            cells = [cell.more for line in table.lines if (cell := line.cells.get(column.key)) is not None]
            halves = [found for found in cells if found["_halves"] is not None]
            if halves:
                mean = column.scale * sum(found["_halves"] for found in halves) / len(halves)
                low = column.scale * min(found["_halves_low"] for found in halves)
                high = column.scale * max(found["_halves_high"] for found in halves)
                number = halves[0]["_halves_images"]
                of = "" if number is None else f" of {number:,.0f} images each"
                given = f"give {mean:.2f} ({low:.2f} to {high:.2f})"
                notes.append(f"{column.title}: two halves of the reference{of} {given}.")
        return notes

    def appendix(self, rows: Rows, published: Mapping[str, PublishedFigure]) -> Sequence[tuple[str, str, Table]]:
        """Published figures of the dataset, and those that a row names: none is of a protocol that is ours."""
        named: dict[str, list[str]] = {}
        for row in rows:
            if row.published is not None:
                named.setdefault(row.published.slug, []).append(row.label)
        [dataset] = rows.datasets
        figures = [figure for figure in published.values() if figure.dataset == dataset or figure.slug in named]
        lines = [_line(figure, named.get(figure.slug, [])) for figure in figures if figure.metric in _PUBLISHED]
        headers = ("Published as", "Metric", "Figure", "Protocol", "Row here", "Source")
        words = "Of other features, or of other numbers of images: none of these compares with a column above."
        table = Table.of_texts(headers, lines, numeric=("Figure",))
        return [("Published elsewhere, not comparable", words, table)] if lines else []


def _head(group: Group, header: str) -> str:
    """The metric and the features: ``FID, pixels (784 dimensions)``."""
    features = dict(group.protocol).get("features", "")
    name, _, size = features.partition(", ")
    title = f"KID × {_KID_SCALE:,}" if header == "KID" else header
    return ", ".join(filter(None, [title, f"{name} ({size})" if size else name]))


def _line(figure: PublishedFigure, labels: Sequence[str]) -> tuple[str, ...]:
    decimals, spread = len(figure.printed.partition(".")[2]), figure.standard_deviation
    arxiv, unverified = f"arXiv {figure.arxiv}" if figure.arxiv else None, None if figure.verified else "unverified"
    return (
        figure.label,
        _PUBLISHED[figure.metric],
        f"{figure.value:,.{decimals}f}" + (f" ± {spread:.{decimals}f}" if spread else ""),
        figure.protocol or "not recorded",
        "; ".join(labels) or "–",
        f"{', '.join(filter(None, [figure.source, arxiv, unverified]))} [{' '.join(figure.tags)}]",
    )
