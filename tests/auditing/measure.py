"""Measures the audit itself: how often right models fail it, and how small a defect each check sees.

python tests/auditing/measure.py false-alarms --audits 400 --jobs 2 --out false-alarms.csv
python tests/auditing/measure.py power --seeds 20 --jobs 2 --out power.csv
python tests/auditing/measure.py right --seeds 20 --jobs 2 --out right.csv
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from defects import DEFECTS
from kinds import MODELS as EVERY_KIND
from museum import RIGHT
from scipy import stats

from harness import Subject, audit
from harness.auditing.engine import ERROR_RATE

MODELS = ("mixture", "affine-flow", "discrete-latent", "conditional-vae", "markov-chain", "vae")
"""Quick ones, of every capability."""

Row = dict[str, str | int | float]


def whole_audit(task: tuple[str, int]) -> Row:
    """Returns what one audit of a right model under one seed found."""
    torch.set_num_threads(1)
    name, seed = task
    report = audit(Subject(name, EVERY_KIND[name].model), seed=seed)
    applied = [result.check for result in report.checks if result.verdict != "not applicable"]
    return {
        "model": name,
        "seed": seed,
        "checks": len(applied),
        "failed": "; ".join(f"{result.check} ({', '.join(result.failures)})" for result in report.failed),
        "seconds": report.seconds,
    }


def one_check(task: tuple[int, float, int]) -> tuple[int, float, bool]:
    """Returns whether a defect (its number, its size) is seen by its check under a seed."""
    torch.set_num_threads(1)
    number, size, seed = task
    defect = DEFECTS[number]
    report = audit(Subject(defect.name, partial(defect.make, size=size)), seed=seed, only=[defect.check])
    return number, size, bool(report.failed)


def false_alarms(*, audits: int, jobs: int, models: Sequence[str]) -> list[Row]:
    """Audits right models in turn, each time under another seed, and prints how many failed."""
    tasks = [(models[index % len(models)], index // len(models)) for index in range(audits)]
    rows = []
    for row in _in_parallel(whole_audit, tasks, jobs):
        rows.append(row)
        if row["failed"]:
            print(f"{row['model']}, seed {row['seed']}: {row['failed']}", flush=True)
        if len(rows) % 20 == 0:
            print(f"{len(rows)} of {audits} audits, {sum(bool(row['failed']) for row in rows)} failed", flush=True)
    failed = sum(bool(row["failed"]) for row in rows)
    print(f"{failed} of {len(rows)} audits of {len(models)} right models failed (below "
          f"{_upper_bound(failed, len(rows)):.2%} at 95 %, designed for {ERROR_RATE:.1%})")  # fmt: skip
    for name, count in Counter(str(row["model"]) for row in rows).items():
        own = [row for row in rows if row["model"] == name]
        mean = sum(float(row["seconds"]) for row in own) / count
        print(f"  {name}: {sum(bool(row['failed']) for row in own)} of {count}, {mean:.1f} s an audit")
    return rows


def right(*, seeds: int, jobs: int, models: Sequence[str], out: Path) -> None:
    """Audits right models under every seed that ``out`` has no row of, adds those, and prints what all rows say."""
    rows = list(csv.DictReader(out.open())) if out.exists() else []
    done = {(row["model"], int(row["seed"])) for row in rows}
    tasks = [(name, seed) for seed in range(seeds) for name in models if (name, seed) not in done]
    print(f"{len(tasks)} audits to make; {out} has {len(done)}, which stand though code has changed", flush=True)
    with out.open("a", newline="") as opened:
        writer = csv.DictWriter(opened, ["model", "kind", "seed", "checks", "failed", "seconds"])
        if not rows:
            writer.writeheader()
        for row in _in_parallel(whole_audit, tasks, jobs):
            row["kind"] = EVERY_KIND[str(row["model"])].kind
            writer.writerow(row)
            opened.flush()
            if row["failed"]:
                print(f"{row['model']}, seed {row['seed']}: {row['failed']}", flush=True)
    rows = [row for row in csv.DictReader(out.open()) if row["model"] in models and int(row["seed"]) < seeds]
    kinds, failed = {EVERY_KIND[row["model"]].kind for row in rows}, [row for row in rows if row["failed"]]
    seconds = sum(float(row["seconds"]) for row in rows) / max(1, len(rows))
    names = {row["model"] for row in rows}
    print(f"{len(rows)} audits of {len(names)} models of {len(kinds)} kinds: {len(failed)} failed (below "
          f"{_upper_bound(len(failed), len(rows)):.2%} at 95 %, designed for {ERROR_RATE:.1%}; "
          f"{seconds:.1f} s an audit)")  # fmt: skip
    for row in failed:
        print(f"  {row['model']}, seed {row['seed']}: {row['failed']}")


def _upper_bound(failed: int, audits: int) -> float:
    """Returns what the rate of false alarms is below with 95 % confidence (Clopper & Pearson 1934)."""
    return float(stats.beta.ppf(0.95, failed + 1, audits - failed)) if failed < audits else 1.0


def power(*, seeds: int, jobs: int, checks: Sequence[str]) -> list[Row]:
    """Measures how often each defect is seen in each size, and prints a table a defect."""
    tasks = [
        (number, size, 1000 + seed)
        for number, defect in enumerate(DEFECTS)
        if not checks or defect.check in checks
        for size in defect.sizes
        for seed in range(seeds)
    ]
    seen: dict[tuple[int, float], list[bool]] = defaultdict(list)
    rows: list[Row] = []
    for done, (number, size, caught) in enumerate(_in_parallel(one_check, tasks, jobs), 1):
        seen[number, size].append(caught)
        if done < len(tasks) and tasks[done][0] == number:
            continue
        defect = DEFECTS[number]
        found = [(size, seen[number, size]) for size in defect.sizes]
        print(f"{defect.check}: {defect.name} ({done} of {len(tasks)} trials)")
        print("   size  " + "".join(f"{size:>8g}" for size, _ in found))
        print("   seen  " + "".join(f"{sum(each) / len(each):>8.0%}" for _, each in found), flush=True)
        rows += [
            {
                "check": defect.check,
                "defect": defect.name,
                "size": size,
                "detection_rate": sum(each) / len(each),
                "seeds": len(each),
            }
            for size, each in found
        ]
    return rows


def _in_parallel(function, tasks, jobs: int) -> Iterator:  # type: ignore[no-untyped-def,type-arg]
    if jobs == 1:
        yield from map(function, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(function, tasks)


def write(rows: Sequence[Row], file: Path) -> None:
    """Writes rows as CSV, or as a Markdown table where the name ends in ``.md``."""
    columns = list(rows[0])
    if file.suffix == ".md":
        lines = [columns, ["---"] * len(columns), *([str(value) for value in row.values()] for row in rows)]
        file.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))
        return
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, columns)
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Reads the command line, measures, and writes what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("false-alarms", help="whole audits of right models")
    first.add_argument("--audits", type=int, default=400)
    first.add_argument("--models", nargs="+", default=list(MODELS), choices=[name for name, _ in RIGHT], metavar="NAME")
    second = commands.add_parser("power", help="the detection curve of each check")
    second.add_argument("--seeds", type=int, default=20)
    second.add_argument("--checks", nargs="*", default=[], metavar="CHECK")
    third = commands.add_parser("right", help="whole audits of every right model; what its file holds is not repeated")
    third.add_argument("--seeds", type=int, default=20)
    third.add_argument("--models", nargs="+", default=list(EVERY_KIND), choices=list(EVERY_KIND), metavar="NAME")
    third.add_argument("--out", type=Path, default=Path("right.csv"), help="a .csv to add to, right.csv by default")
    for command in (first, second):
        command.add_argument("--out", type=Path, help="a file that ends in .csv or .md")
    for command in (first, second, third):
        command.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    started = time.monotonic()
    rows: list[Row] = []
    if given.command == "right":
        right(seeds=given.seeds, jobs=given.jobs, models=given.models, out=given.out)
    elif given.command == "false-alarms":
        rows = false_alarms(audits=given.audits, jobs=given.jobs, models=given.models)
    else:
        rows = power(seeds=given.seeds, jobs=given.jobs, checks=given.checks)
    if rows and given.out is not None:
        write(rows, given.out)
    print(f"{time.monotonic() - started:.0f} s with {given.jobs} jobs")


if __name__ == "__main__":
    main()
