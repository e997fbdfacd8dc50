"""The command that measures how fast training is."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

from mnist_lab.options import add_json, add_machine, add_publish, find_data, only_run


def add_commands(verbs: argparse._SubParsersAction) -> None:
    """Add bench."""
    bench = verbs.add_parser("bench", help="measure how fast step 3 trains here, against the usual ways")
    add_machine(bench)
    add_json(bench)
    add_publish(bench)
    bench.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Measure the speed of step 3, on MNIST alone."""
    from mnist_lab.runtime import ROOT
    from mnist_lab.speed.benchmark import measure

    find_data(options.data, {"DATA": "MNIST", "DEVICE": options.device or "auto"})
    with only_run(ROOT / "runs"):
        return measure_step(options, ROOT, measure)


def measure_step(options: argparse.Namespace, root: Path, measure: Callable) -> int:
    """Measure the recipe in step 3's record, print what comes out, and keep it: in runs/, or published, as tracked."""
    from mnist_lab.recipe import Recipe, Settings
    from mnist_lab.speed import benchmark, tables

    records = root / "notebooks" / "records"
    step = json.loads((records / "steps" / "3.jsonl").read_text(encoding="utf-8").partition("\n")[0])
    changed = {"device": options.device or "auto", "threads": os.cpu_count()}
    found = measure(Recipe(**step["recipe"]), Settings(**step["settings"] | changed))
    device = found.environment.device_type
    kept = records / "benchmarks" / f"{device}.json" if options.publish else root / "runs" / f"benchmark-{device}.json"
    benchmark.save_benchmark(found, kept)
    print(found.model_dump_json(indent=1) if options.json else tables.as_text(found))
    return 0
