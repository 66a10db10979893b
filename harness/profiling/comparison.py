"""What a profile's page says of who is faster: the headline, two tables, and the same as plain values."""

import re
from collections.abc import Callable
from typing import Any

from harness.profiling.overtaking import Overtaking, overtakings
from harness.profiling.profile import Measurement
from harness.profiling.tables import Advantage, MachineTables, Ratio
from harness.support.numbers import KIND_SIGNS, NOTHING, count, seconds, significant, ten_digits


def paragraphs(text: str) -> tuple[str, ...]:
    """Returns the paragraphs of a text, whose further lines are indented."""
    return tuple(" ".join(part.split()) for part in re.split(r"\n(?=\S)", text.strip()))


_ADVANTAGE_NOTES = """
Over the fastest: the figure to quote. It is the fastest certified sampler of all other models at that size and batch
  size, of those as trained as the row where there are any. Below 1x the row is the slower one.
Ratios are taken round by round, since rounds are interleaved: median and quartiles over rounds.
Over cached: the baseline's sampler that computes each activation once, which need not be its fastest. Over naive: that
  also holds what caching alone gives.
Speed is not all that differs: bits a dimension, where both are trained, are what each model pays.
"""
_OVERTAKING_NOTES = """
Each model by its fastest certified sampler, against the fastest of all other models. From the size on that is named it
  is the faster one, to judge by the sizes measured. Between two of them the logarithm of the ratio is interpolated in
  that of the pixels; in brackets, by the quartiles of the ratio. Samplers and bits a dimension are those at the larger
  of the two sizes, else at the largest.
"""
ADVANTAGE_NOTES, OVERTAKING_NOTES = (paragraphs(text) for text in (_ADVANTAGE_NOTES, _OVERTAKING_NOTES))
OVERTAKING_TEXTS = ("model", "sizes", "overtakes at", "between", "by", "the fastest other")


def headline(tables: MachineTables) -> str:
    """Returns the comparison with the fastest certified sampler at the largest setting, of trained models if any."""

    def weight(found: Advantage) -> tuple[Any, ...]:
        item, ratio = found.measurement, found.over(found.fastest)
        return (item.weights == "trained", item.pixels, item.batch_size, item.default, ratio and ratio.median)

    found = max((found for found in tables.advantages if found.fastest is not None), key=weight, default=None)
    if found is None or found.fastest is None:
        return ""
    item, ratio = found.measurement, Ratio.of(found.measurement, found.fastest)
    stands = "is faster than" if ratio.low > 1 else "is slower than" if ratio.high < 1 else "is about as fast as"
    text = (
        f"At {item.size}, batch {item.batch_size}, {named(item)} {stands} the fastest certified sampler of all other "
    )
    text += f"models, {named(found.fastest)}: it draws {_spread(ratio)} as fast{_paid(item, found.fastest)}."
    others = [
        f"{times(Ratio.of(item, it).median)} as fast as {named(it)}"
        for it in (found.cached, found.naive)
        if it is not None
    ]
    return f"{text} It draws {', and '.join(others)}." if others else text


def who_overtakes(tables: MachineTables) -> str:
    """Returns who overtakes the fastest certified sampler of all others, at which sizes, and what each pays."""
    said = []
    for one in (one for one in overtakings(tables) if one.place is not None):
        ours, theirs = _at_place(one)
        where = f"at {one.words}, between {one.between}" if one.place else "at every measured size"
        said.append(
            f"At batch {ours.batch_size}, {named(ours)} overtakes {named(theirs)} {where}{_paid(ours, theirs)}."
        )
    return " ".join(said) or "None does, at the sizes and batch sizes measured."


def advantage_values(found: Advantage) -> dict[str, Any]:
    """Returns an advantage as plain values; speeds over others are medians over rounds, with their quartiles."""
    item = found.measurement
    names = ("label", "sampler", "bits_per_dim", "likelihood_kind")
    values = {name: getattr(item, name) for name in ("height", "width", "batch_size", *names)}
    values["seconds_an_image"] = ten_digits(item.median_seconds / item.batch_size)
    for what, other in (("fastest", found.fastest), ("baseline", found.cached or found.naive)):
        values |= {f"{what}_{name}": other and getattr(other, name) for name in names}
    for name in ("fastest", "cached", "naive"):
        ratio = found.over(getattr(found, name))
        values[f"over_{name}"] = ratio and ratio.median
        values |= {f"over_{name}_q25": ratio and ratio.low, f"over_{name}_q75": ratio and ratio.high}
    return values


def overtaking_values(found: Overtaking) -> dict[str, Any]:
    """Returns where a model overtakes as plain values: the pixels, and the seconds of a call there."""
    (ours, theirs), point = _at_place(found), found.point
    return {
        "label": ours.label, "sampler": ours.sampler, "batch_size": ours.batch_size, "overtakes_at": found.words,
        "sizes": [item.size for item in found.ours], "pixels": point and point[0], "seconds": point and point[1],
        "other_label": theirs.label, "other_sampler": theirs.sampler, "bits_per_dim": ours.bits_per_dim,
        "other_bits_per_dim": theirs.bits_per_dim,
    }  # fmt: skip


def advantage_cells(found: Advantage) -> dict[str, str]:
    """Returns the row of a table."""
    item, other = found.measurement, found.fastest
    over = {name: found.over(getattr(found, name)) for name in ("cached", "naive")}
    return {
        "model": item.label, "sampler": item.sampler, "size": item.size, "batch": count(item.batch_size),
        "seconds an image": seconds(item.median_seconds / item.batch_size),
        "over the fastest": or_nothing(found.over(other), _spread), "the fastest": or_nothing(other, named),
        **{f"over {name}": or_nothing(ratio and ratio.median, times) for name, ratio in over.items()},
        "depth": or_nothing(item.sequential_depth, number), "bits/dim": bits_of(item),
        "the fastest's bits/dim": bits_of(other),
    }  # fmt: skip


def overtaking_cells(found: Overtaking) -> dict[str, str]:
    """Returns the row of a table; those of its columns in ``OVERTAKING_TEXTS`` are texts."""
    ours, theirs = _at_place(found)
    return {
        "model": ours.label, "batch": count(ours.batch_size), "sizes": " ".join(item.size for item in found.ours),
        "overtakes at": found.words, "between": found.between or NOTHING, "by": ours.sampler,
        "the fastest other": named(theirs), "bits/dim": bits_of(ours), "the other's bits/dim": bits_of(theirs),
    }  # fmt: skip


def number(value: float) -> str:
    """A count, or a mean of counts."""
    return f"{int(value):,}" if value == int(value) else f"{value:,.1f}"


def or_nothing(value: Any, printed: Callable[[Any], str]) -> str:
    """A value as it is printed, or the sign that there is none."""
    return NOTHING if value is None else printed(value)


def times(ratio: float) -> str:
    """How many times as fast."""
    return f"{significant(ratio)}x"


def bits_of(item: Measurement | None) -> str:
    """Bits a dimension of a trained model, with the sign of its kind."""
    if item is None or item.bits_per_dim is None:
        return NOTHING
    return f"{KIND_SIGNS.get(item.likelihood_kind or '', '')}{item.bits_per_dim:.4f}"


def named(item: Measurement) -> str:
    """Model and sampler."""
    return f"{item.label} ({item.sampler})"


def _spread(ratio: Ratio) -> str:
    spread = f" ({times(ratio.low)} – {times(ratio.high)})" if ratio.low < ratio.high else ""
    return f"{times(ratio.median)}{spread}"


def _paid(item: Measurement, other: Measurement) -> str:
    if item.bits_per_dim is None or other.bits_per_dim is None:
        return "; what that costs in likelihood is not known, since the two are not trained"
    return f"; it needs {bits_of(item)} bits a dimension, {other.label} {bits_of(other)}"


def _at_place(found: Overtaking) -> tuple[Measurement, Measurement]:
    """Its measurement and the other one, at the first size from which on it is ahead, or the largest."""
    place = -1 if found.place is None else found.place
    return found.ours[place], found.theirs[place]
