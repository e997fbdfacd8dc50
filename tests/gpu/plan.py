"""Half an hour on a GPU that is lent: ``python tests/gpu/plan.py FOLDER``; with ``--rehearse`` on a CPU, with digits.

Every measurement runs in a process of its own with a time limit, so that none ends the others, and prints one line.
All that it printed is in FOLDER/log, records are in FOLDER/records. MNIST is where MNIST_LAB_DATA says. Each of the
PARTS takes less than ten minutes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("smoke", "one", "profile", "many", "records")
RESULT = "result: "  # begins the line of a process that is passed on
VARIANTS = list(product(("graph", "plain"), ("float32", "bfloat16"), ("contiguous_format", "channels_last")))


@dataclass
class Plan:
    """What is measured, where it is written, and on which scale."""

    folder: Path
    rehearse: bool

    @cached_property
    def recipe(self):
        from mnist_lab.evidence import records
        from mnist_lab.recipe import Recipe

        recipe = Recipe(**records.load_file(records.TRACKED / "steps" / "3.jsonl")[0].recipe)
        return replace(recipe, epochs=2, batch_size=25) if self.rehearse else recipe

    @property
    def settings(self):
        from mnist_lab.recipe import Settings

        device, data, limit = ("cpu", "digits", 300) if self.rehearse else ("cuda", "MNIST", None)
        return Settings(seed=0, device=device, threads=1, data=data, score_on="test", train_limit=limit)

    @property
    def seeds(self) -> list[int]:
        return list(range(2 if self.rehearse else 64))

    def steps(self, part: str) -> Iterator[tuple[str, int, Callable[[], str]]]:
        """Return the name, the seconds at most, and the measurement of each step of a part."""
        many = [one for one in VARIANTS if one[0] == "graph"]
        if part == "smoke":
            yield "diagnosis", 150, self.diagnose
            yield "tests", 300, self.test
        elif part == "one":
            for variant in VARIANTS[-1:] if self.rehearse else VARIANTS:
                yield f"one seed, {' '.join(variant)}", 60, partial(self.train, variant, [0])
            yield "one seed, all epochs", 90, self.train_one
        elif part == "profile":
            for how in ("plain",) if self.rehearse else ("plain", "graph"):
                yield f"profile, {how}", 60, partial(self.profile, how)
        elif part == "many":
            for variant in many[-1:] if self.rehearse else many:
                yield f"{len(self.seeds)} seeds, {' '.join(variant)}", 90, partial(self.train, variant, self.seeds)
            yield "what else many seeds need", 90, self.time_the_rest
        elif part == "records":
            yield f"{len(self.seeds)} seeds, all epochs, recorded", 300, self.record

    def diagnose(self) -> str:
        """Try every operation."""
        from mnist_lab.speed import diagnosis

        lines, diagnosis.SECONDS = [], 0 if self.rehearse else diagnosis.SECONDS
        for line in diagnosis.diagnose(self.recipe, self.settings, (1,) if self.rehearse else (1, 32)):
            print(line, flush=True)
            lines.append(line)
        failures = sum(": fails with" in line for line in lines)
        return f"{failures} failures; " + "; ".join(line.strip() for line in lines if line.startswith("training uses"))

    def test(self) -> str:
        """Run the tests that need a GPU."""
        places = ["tests/gpu", "tests/speed", "tests/core", "tests/test_devices.py"]
        command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
        chosen = ["--collect-only", "tests/gpu"] if self.rehearse else places
        done = subprocess.run(
            [*command, *chosen], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        print(done.stdout, flush=True)
        if done.returncode:
            raise SystemExit(f"tests fail: {done.stdout.strip().splitlines()[-1]}")
        return done.stdout.strip().splitlines()[-1]

    def train(self, variant: tuple[str, str, str], seeds: list[int]) -> str:
        """Train three epochs in one way, twice, the first time to warm up."""
        import torch

        from mnist_lab.experiment import load_data
        from mnist_lab.speed import side_by_side

        (how, precision, layout), stack = variant, side_by_side.stack
        side_by_side.pick_precision = lambda device, networks: getattr(torch, precision)
        side_by_side.stack = lambda networks: stack(networks).to(memory_format=getattr(torch, layout))
        if how == "plain":
            side_by_side.is_recordable = lambda recipe, updates: False
        recipe, settings = replace(self.recipe, epochs=1 if self.rehearse else 3), self.settings
        data = load_data(settings)
        for _ in range(1 if self.rehearse else 2):
            runs = side_by_side.train_together(recipe, data, settings, seeds)
        seconds = statistics.median(epoch.seconds for epoch in runs[0].history)
        accuracy = statistics.fmean(run.history[-1].test.accuracy for run in runs)
        memory = 0 if self.rehearse else torch.cuda.max_memory_allocated() / 2**30
        return f"{seconds:.3f} s an epoch, {runs[0].seconds:.2f} s in all, {accuracy:.2%} right, {memory:.1f} GiB"

    def train_one(self) -> str:
        """Train seed 0 to the end."""
        from mnist_lab.experiment import load_data
        from mnist_lab.speed.processes import epochs_to_target
        from mnist_lab.speed.side_by_side import train_together

        (run,) = train_together(self.recipe, load_data(self.settings), self.settings, [0])
        accuracies = [epoch.test.accuracy for epoch in run.history]
        reached = f"99.4 % from epoch {epochs_to_target(accuracies)} on"
        return f"{accuracies[-1]:.2%} after {run.seconds:.2f} s, {reached}"

    def profile(self, how: str) -> str:
        """Count and time what the GPU does in an update."""
        import torch
        from torch.profiler import ProfilerActivity, profile

        from mnist_lab.experiment import load_data
        from mnist_lab.speed import side_by_side

        if how == "plain":
            side_by_side.is_recordable = lambda recipe, updates: False
        settings = self.settings
        update, batches, _, _ = side_by_side.assemble_stack(self.recipe, load_data(settings), settings, [0])
        chosen = list(batches)[:5]
        for images, labels in chosen:
            update(images, labels)
        kinds = [ProfilerActivity.CPU] if self.rehearse else [ProfilerActivity.CPU, ProfilerActivity.CUDA]
        with profile(activities=kinds, acc_events=True) as seen:
            start = time.perf_counter()
            for images, labels in chosen:
                found = update(images, labels)
            found[0].tolist()
            wall = (time.perf_counter() - start) / len(chosen)
        print(seen.key_averages().table(sort_by=f"self_{kinds[-1].name.lower()}_time_total", row_limit=30), flush=True)
        kernels = [event for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        busy = sum(event.self_device_time_total for event in kernels) / len(chosen)
        return f"{len(kernels) / len(chosen):.0f} kernels an update, {busy:.0f} of {1e6 * wall:.0f} us busy"

    def time_the_rest(self) -> str:
        """Time what is done seed by seed: first batches, drawing an epoch, scoring."""
        from mnist_lab.experiment import load_data, measure_opening
        from mnist_lab.speed.side_by_side import SCORED_AT_ONCE, assemble_stack
        from mnist_lab.training import evaluate

        settings, start = self.settings, time.perf_counter()
        data = load_data(settings)
        measured = {}

        def lap(name: str) -> None:
            nonlocal start
            measured[name], start = time.perf_counter() - start, time.perf_counter()

        lap("data")
        for seed in self.seeds:
            measure_opening(self.recipe, data, replace(settings, seed=seed))
        lap("openings")
        _, batches, _, networks = assemble_stack(self.recipe, data, settings, self.seeds)
        lap("assembling")
        for alone in batches.seeds:
            alone.draw_epoch()
        lap("drawing an epoch")
        test = self.recipe.scored(data.test)
        test.size = SCORED_AT_ONCE
        for network in networks:
            evaluate(network, test)
        lap("scoring")
        return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in measured.items())

    def record(self) -> str:
        """Train all seeds to the end on the test set, and keep their records."""
        from mnist_lab.evidence import records
        from mnist_lab.experiment import load_data
        from mnist_lab.runtime import environment
        from mnist_lab.speed.side_by_side import pick_precision, train_together
        from mnist_lab.training import Diverged

        settings = self.settings
        data = load_data(settings)
        device = data.train.images.device
        made_in = environment(device, pick_precision(device, len(self.seeds)))
        runs = dict(zip(self.seeds, train_together(self.recipe, data, settings, self.seeds), strict=True))
        made = [
            records.record(
                "step", "3", "clean end", run, data, self.recipe, replace(settings, seed=seed), step=3, made_in=made_in
            )
            for seed, run in runs.items()
            if not isinstance(run, Diverged)
        ]
        (path,) = records.write(made, self.folder / "records")
        accuracies = [one.accuracy for one in made]
        mean, sd = statistics.fmean(accuracies), statistics.stdev(accuracies)
        return f"{path.name}: {len(made)} seeds, {mean:.3%}, SD {sd:.3%}, {made[0].seconds:.1f} s together"


def run(plan: Plan, part: str, number: int, options: list[str]) -> tuple[bool, str]:
    """Run a step in a process; return whether it went well, and a line."""
    name, limit, _ = list(plan.steps(part))[number]
    start, log = time.perf_counter(), plan.folder / "log" / f"{part}-{number}.txt"
    command = [sys.executable, __file__, str(plan.folder), *options, "--step", part, str(number)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    with log.open("w", encoding="utf-8") as file:
        streams = {"stdout": file, "stderr": subprocess.STDOUT, "timeout": limit}
        try:
            code = subprocess.run(command, cwd=ROOT, env=environment, **streams).returncode
        except subprocess.TimeoutExpired:
            code = f"stopped after {limit} s"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or ["printed nothing"]
    found = [line.removeprefix(RESULT) for line in lines if line.startswith(RESULT)]
    said = found[-1] if found and code == 0 else f"FAILED ({code}): {lines[-1]}"
    return code == 0, f"{part:<8}{time.perf_counter() - start:6.1f} s  {name}: {said}"


def main() -> int:
    """Run all steps of the parts asked for; return 0 if all went well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for records/, log/, and plan.txt, which holds the lines")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with digits, on the smallest scale")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--step", nargs=2, metavar=("PART", "NUMBER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    plan = Plan(options.folder.resolve(), options.rehearse)
    if options.step:
        part, number = options.step
        print(RESULT + list(plan.steps(part))[int(number)][2](), flush=True)
        return 0
    (plan.folder / "log").mkdir(parents=True, exist_ok=True)
    flags, well = ["--rehearse"] * options.rehearse, True
    steps = [(part, number) for part in options.parts for number, _ in enumerate(plan.steps(part))]
    with ThreadPoolExecutor(2 if options.rehearse else 1) as pool:
        for ended, line in pool.map(lambda step: run(plan, *step, flags), steps):
            well = well and ended
            print(line, flush=True)
            with (plan.folder / "plan.txt").open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
