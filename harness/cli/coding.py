"""``harness audit MODEL --code N``: test images coded by a trained model, decoded, and the file's size in nats."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli.context import echo, parse_setting, print_json, read_suite
from harness.records.selection import VALID_PREFIX

if TYPE_CHECKING:
    from torch import Tensor

    from harness.auditing.coding import Receipt
    from harness.cli.context import Context
    from harness.interface.dataset import Dataset
    from harness.interface.model import Model
    from harness.records.record import RunRecord

_SEED = 0


def code(
    options: Context,
    model: str,
    number: int,
    *,
    output: str | None = None,
    suite: str | None = None,
    weights: str | None = None,
    dataset: str | None = None,
    changes: Sequence[str] = (),
    device: str = "auto",
    json: bool = False,
) -> None:
    """Prints a coding receipt, and ends with status 1 if it does not hold; see ``harness audit --help``.

    Raises:
        ValueError: no or several trained models of this name; a model without conditionals; a wrong option.
    """
    from harness.auditing.coding import code_images
    from harness.running.loading import load_model
    from harness.support.files import write_atomically

    if weights is not None:
        name, trained, data = _from_file(options, model, weights, dataset, changes, device)
    elif changes:
        raise ValueError("--set with --code tells what the model of --weights is built with: a run knows its own")
    else:
        record = _find(options, model, suite, dataset)
        name, trained = record.run, load_model(record, options.settings(device=device))
        data = options.dataset(record.spec.dataset, record.run)
    images = _some(data.test.draw(0).images, number)
    receipt, content = code_images(trained, images, progress=_tell)
    if output is not None:
        write_atomically(Path(output), content)
    if json:
        derived = {key: getattr(receipt, key) for key in ("bits_per_image", "nats_per_image", "overhead", "holds")}
        print_json({**asdict(receipt), **derived, "model": name, "dataset": data.name, "file": output})
    else:
        for line in _in_words(receipt, name, data, output):
            echo(line)
    if not receipt.holds:
        raise typer.Exit(1)


def _find(options: Context, name: str, suite: str | None, dataset: str | None) -> RunRecord:
    """Returns the one trained run that is meant."""
    store, folder = options.artifacts.store, options.artifacts.folder
    referred = None if suite is None else store.references().get(read_suite(suite).name, set())
    records = [
        record
        for record in store.records()
        if (referred is None or record.run in referred) and dataset in (None, record.spec.dataset)
    ]
    found = (
        [record for record in records if record.run == name]
        or [record for record in records if record.spec.model == name]
        or [record for record in records if record.run.startswith(name)]
    )
    trained = [record for record in found if folder(record.run).fit() is not None]
    # of a grid, the configuration that was chosen is the one that has test scores
    chosen = [record for record in trained if any(not score.startswith(VALID_PREFIX) for score in record.scores)]
    if not trained:
        raise ValueError(
            f"--code needs trained weights, and {options.artifacts_root} has no trained run {name!r}: train one with "
            "'harness run', or give --weights FILE --dataset NAME (and --set HYPERPARAMETER=VALUE)"
        )
    if len(trained) > 1 and len(chosen) != 1:
        names = ", ".join(record.run for record in trained[:5])
        raise ValueError(f"{name!r} has {len(trained)} trained runs, name one of them: {names}")
    return trained[0] if len(trained) == 1 else chosen[0]


def _from_file(
    options: Context, model: str, weights: str, dataset: str | None, changes: Sequence[str], device: str
) -> tuple[str, Model, Dataset]:
    from harness.discovery.hyperparameters import resolve
    from harness.discovery.loading import load_model_class
    from harness.support.checkpoint import load_weights
    from harness.support.environment import choose_device
    from harness.support.randomness import isolated_rng

    if dataset is None:
        raise ValueError("--weights needs --dataset, whose test images are coded")
    model_class, data, where = load_model_class(options.plugins, model), options.dataset(dataset), choose_device(device)
    with isolated_rng(_SEED, where):
        trained = model_class(data.spec, **resolve(model_class, dict(map(parse_setting, changes)))).to(where)
    load_weights(Path(weights), trained)
    return f"{model} with {weights}", trained, data


def _some(images: Tensor, number: int) -> Tensor:
    """A seeded choice without replacement, in the order of the split: its first images may be of one class."""
    import torch

    if number >= len(images):
        return images
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(_SEED))[:number].sort().values]


def _tell(stage: str, fraction: float) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{stage} {fraction:4.0%}" + "\n" * (stage == "decode" and fraction >= 1), nl=False, err=True)


def _in_words(receipt: Receipt, name: str, data: Dataset, output: str | None) -> list[str]:
    from harness.auditing.coding import HEADER_BYTES, TOLERANCE

    kept = "" if output is None else f", kept in {output}"
    back = "returns the same images" if receipt.decoded_equal else "DOES NOT return the images"
    lines = [
        f"{receipt.num_images:,} test images of {data.name}, coded by {name}",
        f"file      {receipt.num_bytes:,} bytes{kept}: {receipt.bits_per_image:.2f} bits an image",
        f"          {receipt.nats_per_image:.3f} nats an image, {HEADER_BYTES} bytes of header included",
        f"log_prob  {receipt.nll:.3f} nats an image: the file is {receipt.overhead:+.2%}",
        f"decoding  {back}; {receipt.encode_seconds:.1f} s to encode, {receipt.decode_seconds:.1f} s to decode",
    ]
    if receipt.is_upper_bound:
        lines.append(
            f"          each image is coded by the best of several orders: the size is an upper bound, by up to "
            f"{receipt.bound_slack:.2f} nats"
        )
    if not receipt.decoded_equal:
        lines.append("✗ the conditionals differ from call to call: nothing that is coded by them can be decoded")
    elif not receipt.holds:
        lines.append(
            f"✗ the conditionals, as they are before an entry is known, give {receipt.conditional_nats:.3f} nats an "
            f"image, and log_prob {receipt.nll:.3f}: log_prob is not that of these conditionals, or they see the future"
        )
    elif receipt.is_upper_bound:
        lines.append(f"✓ but for its header, the file is in the range that the likelihood allows, to {TOLERANCE:.0%}")
    else:
        lines.append(f"✓ but for its header, the file is as long as the likelihood says, to {TOLERANCE:.0%}")
    return lines
