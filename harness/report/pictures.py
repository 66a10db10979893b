"""Pictures beside a board: what their files are called, and which of them are shown."""

from __future__ import annotations

from collections import Counter
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
    rows, names, taken = list(rows), dict[tuple[str | None, str], str](), Counter[str]()
    real = dict.fromkeys((None, row.dataset) for row in rows)
    for label, dataset in (*real, *((row.label, row.dataset) for row in rows)):
        name = f"{slug(REAL if label is None else label)}-{slug(dataset)}"
        taken[name.lower()] += 1
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
    names = picture_names(rows) if files else {}
    captions = [(name, REAL) for key, name in names.items() if key == (None, dataset)]
    for row in rows:
        if row.dataset == dataset and names and (record := sampled_record(row)) is not None:
            captions.append((names[row.label, dataset], f"{row.label}, seed {record.spec.seed}"))
    return tuple(Picture(caption, f"{FOLDER}/{name}") for name, caption in captions if name in files)


def figures_page(title: str, rows: Sequence[BoardRow], files: Collection[str]) -> Document:
    """Returns the page of a suite's figures: of all its rows, the ``files`` in the folder ``figures``.

    These are paths in that folder, such as ``likelihood/digits.svg``.
    """
    names, sections = picture_names(rows), []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        captions = {slug(dataset): dataset}
        captions |= {name.removesuffix(".png"): label or REAL for (label, of), name in names.items() if of == dataset}
        parts = []
        for figure in sorted({file.partition("/")[0] for file in files}):
            paths = [(f"{figure}/{stem}.{end}", words) for stem, words in captions.items() for end in ("svg", "png")]
            found = tuple(Picture(words, f"{FIGURES}/{path}") for path, words in paths if path in files)
            parts += [Section(figure, pictures=found)] if found else []
        sections += [Section(dataset, subsections=tuple(parts))] if parts else []
    return Document(f"{title}: figures", (), tuple(sections), ())
