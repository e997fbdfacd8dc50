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
    kept = bench.add_mutually_exclusive_group()
    add_publish(kept)
    kept.add_argument("--quick", action="store_true", help="only say, in about a minute, what works here and how fast")
    bench.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Measure the speed of step 3, on MNIST alone; or what it is made of, on the digits."""
    from mnist_lab.runtime import ROOT
    from mnist_lab.speed.benchmark import measure

    with only_run(ROOT / "runs"):
        if options.quick:
            return tell_what_works(options, ROOT)
        find_data(options.data, {"DATA": "MNIST", "DEVICE": options.device or "auto"})
        return measure_step(options, ROOT, measure)


def tell_what_works(options: argparse.Namespace, root: Path) -> int:
    """Print what works here for step 3, and how fast: for one network and, on a GPU, for a stack of them."""
    from mnist_lab.runtime import pick_device
    from mnist_lab.speed.diagnosis import diagnose

    recipe, settings = step_3(options, root)
    lines = diagnose(recipe, settings, (1, 32) if pick_device(settings.device).type == "cuda" else (1,))
    if options.json:
        print(json.dumps(list(lines)))
        return 0
    for line in lines:
        print(line, flush=True)
    return 0


def measure_step(options: argparse.Namespace, root: Path, measure: Callable) -> int:
    """Measure the recipe in step 3's record, print what comes out, and keep it: in runs/, or published, as tracked."""
    from mnist_lab.speed import benchmark, tables

    found = measure(*step_3(options, root))
    device = found.environment.device_type
    place = f"notebooks/records/benchmarks/{device}.json" if options.publish else f"runs/benchmark-{device}.json"
    benchmark.save_benchmark(found, root / place)
    print(found.model_dump_json(indent=1) if options.json else tables.as_text(found))
    return 0


def step_3(options: argparse.Namespace, root: Path) -> tuple:
    """Return the recipe and the settings in step 3's record, the latter for this machine."""
    from mnist_lab.recipe import Recipe, Settings

    text = (root / "notebooks" / "records" / "steps" / "3.jsonl").read_text(encoding="utf-8")
    step = json.loads(text.partition("\n")[0])
    here = {"device": options.device or "auto", "threads": os.cpu_count()}
    return Recipe(**step["recipe"]), Settings(**step["settings"] | here)
