"""The figure ``matrix``: one metric of rows that are labelled ``OBJECTIVE, NETWORK``, as a table of both."""

from __future__ import annotations

from typing import Any

import altair as alt

from harness import Leaderboard

_SIZE = 62  # pixels of a cell's height; its width is twice that


def draw_matrix(leaderboard: Leaderboard, dataset: str) -> alt.LayerChart | alt.FacetChart | None:
    """Draws the first metric of samples: what stands before a label's first comma across, the rest down.

    A cell has the mean over seeds and its standard deviation, or how many seeds failed and how. None where fewer than
    two labels before a comma have fewer than two behind it.
    """
    cells = []
    for row in leaderboard.rows.on(dataset):
        objective, comma, network = row.label.partition(", ")
        if comma and row.role == "model":
            cells.append({"objective": objective, "network": network, **_cell(row)})
    across, down = (list(dict.fromkeys(cell[name] for cell in cells)) for name in ("objective", "network"))
    if len(across) < 2 or len(down) < 2:
        return None
    metric = next((cell["metric"] for cell in cells if cell["metric"]), "no figure")
    chart = alt.Chart({"values": cells}, width=2 * _SIZE * len(across), height=_SIZE * len(down)).encode(
        alt.X("objective:N").title(None).sort(across).axis(orient="top", labelAngle=0, labelLimit=2 * _SIZE),
        alt.Y("network:N").title(None).sort(down).axis(labelLimit=300),
    )
    colour = alt.Color("value:Q").title(metric).scale(type="log", scheme="viridis", reverse=True)
    tiles = chart.transform_filter("isValid(datum.value)").mark_rect().encode(color=colour)
    words = chart.mark_text(lineBreak="\n", lineHeight=15, dy=-7).encode(
        text="text:N", color=alt.condition(alt.datum.is_dark, alt.value("white"), alt.value("black"))
    )
    title = alt.TitleParams(
        f"{leaderboard.title}: {dataset}",
        subtitle=f"{metric}, mean over seeds ± standard deviation; lower is better. Grey: no seed has a figure.",
    )
    values = [cell["value"] for cell in cells if cell["value"] is not None]
    if values:
        middle = (min(values) * max(values)) ** 0.5
        for cell in cells:
            cell["is_dark"] = cell["value"] is not None and cell["value"] > middle
    return alt.layer(chart.mark_rect(color="#e4e4e4"), tiles, words, title=title)


def _cell(row: Any) -> dict[str, Any]:
    """Returns a row's first figure of sample quality and what is printed of it."""
    name = next((name for name in row.metrics if name.startswith(("fid", "kid"))), "")
    figure = row.figure(name) if name else None
    failed: dict[str, set[int]] = {}
    for problem in row.problems([name]):
        failed.setdefault(problem.status, set()).update(problem.seeds)
    lines = [] if figure is None else [f"{figure.mean:.3g}"]
    if figure is not None and figure.standard_deviation is not None:
        lines[0] += f" ± {figure.standard_deviation:.2g}"
    lines += [f"{len(seeds)} of {len(row.seeds)} {status}" for status, seeds in failed.items()]
    value = None if figure is None or figure.mean <= 0 else float(f"{figure.mean:.6g}")
    return {"value": value, "text": "\n".join(lines), "metric": name, "is_dark": False}
