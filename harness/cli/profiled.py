"""What a user names to be profiled: a registered model with hyperparameters, or a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.context import parse_setting

if TYPE_CHECKING:
    from pathlib import Path

    from harness.cli.context import Context
    from harness.interface.model import Model
    from harness.interface.spec import ImageSpec
    from harness.profiling.generation import Profiled
    from harness.profiling.profile import ProfiledRow


def row_of(options: Context, text: str) -> ProfiledRow:
    """Reads ``MODEL``, also ``file.py:Class``, ``MODEL:KEY=VALUE,KEY=VALUE``, or the beginning of a run's name."""
    from harness.profiling.profile import ProfiledRow
    from harness.support.names import did_you_mean

    name, colon, settings = text.partition(":")
    if name.endswith(".py"):
        attribute, colon, settings = settings.partition(":")
        name = f"{name}:{attribute}"
    if options.plugins.has("model", name):
        if colon and not settings.strip():
            raise ValueError(f"{text!r}: write MODEL:HYPERPARAMETER=VALUE, several with commas between them")
        return ProfiledRow(name=name, hyperparameters=dict(map(parse_setting, _parts(settings))))
    runs = options.run_names()
    if any(run.startswith(name) for run in runs):
        if colon:
            raise ValueError(f"{text!r}: a run has hyperparameters of its own")
        return ProfiledRow(run=name)
    models = [entry.name for entry in options.plugins.entries("model")]
    raise ValueError(f"no model, and no run, {name!r}{did_you_mean(name, [*models, *runs])}")


def _parts(settings: str) -> list[str]:
    """Splits at commas outside of brackets and quotation marks."""
    parts, depth, quoted = [""], 0, ""
    for character in settings:
        if quoted:
            quoted = "" if character == quoted else quoted
        elif character in "\"'":
            quoted = character
        else:
            depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]


def profiled(options: Context, row: ProfiledRow, device: str, folder: Path) -> Profiled:
    """Returns the model that a row names, a run's on ``device``; names of files are relative to ``folder``."""
    from harness.api import load_model
    from harness.boards.rows import rows_of
    from harness.discovery.loading import as_json, load_model_class, model_code, resolve, sampler_codes, with_samplers
    from harness.profiling.generation import Profiled

    if row.run is None:
        plugins, name = options.plugins.at(folder), str(row.name)
        model_class = load_model_class(plugins, name)
        resolve(model_class, row.hyperparameters)

        def make(spec: ImageSpec) -> Model:
            model = model_class(spec, **resolve(model_class, row.hyperparameters))
            return with_samplers(plugins, model, everyones=True)

        return Profiled(
            row.row_label, name, make, as_json(row.hyperparameters), model_code(plugins, name),
            sampler_codes(plugins, name), samplers=row.samplers, sizes=row.sizes,
        )  # fmt: skip
    record = options.find_run(row.run)
    name = record.spec.model
    if row.name not in (None, name):
        raise ValueError(f"run {record.run!r} is of the model {name!r}, not {row.name!r}")
    model, plugins = load_model(record, options.settings(device=device)), options.plugins_of(record.run)
    figure = rows_of([record])[0].bits_per_dim
    bits, kind = (None, None) if figure is None else (figure.mean, figure.kind)
    return Profiled(
        row.label or f"{name} ({record.run})", name, lambda _: model, record.spec.hyperparameters,
        model_code(plugins, name), sampler_codes(plugins, name), spec=model.spec, run=record.run,
        bits_per_dim=bits, likelihood_kind=kind, samplers=row.samplers,
    )  # fmt: skip
