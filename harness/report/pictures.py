"""Pictures beside a board: what their files are called, and which of them are shown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from harness.boards.row import BoardRow
from harness.records.record import RunRecord
from harness.report.markdown import Document, Picture, Section
from harness.support.names import slug

FOLDER = "samples"
FIGURES = "figures"
REAL = "real test images"
QUALITY = "sample-quality"


def folder_of(figure: str) -> str:
    """Returns the folder, beside the boards, of a figure's pictures."""
    return FOLDER if figure == FOLDER else f"{FIGURES}/{figure}"


def picture_names(rows: Iterable[BoardRow]) -> dict[tuple[str | None, str], str]:
    """Returns the file name of every row's grid by label and dataset, and under None that of each dataset's images.

    Names that a file system might not tell apart are numbered, in the order of the rows.
    """
    rows = list(rows)
    keys: list[tuple[str | None, str]] = [(None, dataset) for dataset in dict.fromkeys(row.dataset for row in rows)]
    keys += [(row.label, row.dataset) for row in rows]
    names: dict[tuple[str | None, str], str] = {}
    taken: dict[str, int] = {}
    for label, dataset in keys:
        name = f"{slug(REAL if label is None else label)}-{slug(dataset)}"
        taken[name.lower()] = taken.get(name.lower(), 0) + 1
        copies = taken[name.lower()]
        names[label, dataset] = f"{name}.png" if copies == 1 else f"{name}@{copies}.png"
    return names


def sampled_record(row: BoardRow) -> RunRecord | None:
    """Returns the run that a row's grid is drawn from: the first seed with a figure of sample quality, else trained."""
    trained = [record for record in row.records if record.fit is not None]
    for record in trained:
        if any(score.board == QUALITY and score.status == "done" for score in record.scores.values()):
            return record
    return trained[0] if trained else None


def pictures_of(rows: Sequence[BoardRow], dataset: str, files: Collection[str]) -> tuple[Picture, ...]:
    """Returns the grids of a dataset's rows that there are files of, the real images' first."""
    if not files:
        return ()
    names = picture_names(rows)
    found = [Picture(REAL, f"{FOLDER}/{names[None, dataset]}")] if names[None, dataset] in files else []
    for row in rows:
        record = sampled_record(row)
        if row.dataset == dataset and record is not None and (name := names[row.label, dataset]) in files:
            found.append(Picture(f"{row.label}, seed {record.spec.seed}", f"{FOLDER}/{name}"))
    return tuple(found)


def figures_page(title: str, rows: Sequence[BoardRow], files: Collection[str]) -> Document:
    """Returns the page of a suite's figures: of all its rows, the ``files`` in the folder ``figures``.

    These are paths in that folder, such as ``likelihood/digits.svg``.
    """
    names = picture_names(rows)
    sections = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        captions = {slug(dataset): dataset}
        for (label, of), name in names.items():
            if of == dataset:
                captions[name.removesuffix(".png")] = REAL if label is None else label
        parts = []
        for figure in sorted({file.partition("/")[0] for file in files}):
            found = [
                Picture(caption, f"{FIGURES}/{file}")
                for stem, caption in captions.items()
                for file in (f"{figure}/{stem}.svg", f"{figure}/{stem}.png")
                if file in files
            ]
            if found:
                parts.append(Section(figure, "", None, pictures=tuple(found)))
        if parts:
            sections.append(Section(dataset, "", None, subsections=tuple(parts)))
    return Document(f"{title}: figures", (), tuple(sections), ())
