"""What the commands of the command line do."""

import argparse
import json
import os
from dataclasses import asdict, fields
from pathlib import Path

from mnist_lab import benchmark, publish, readme, results, runner, study, sweep, tables, workbook
from mnist_lab.data import DIGITS_NAME, DataNotFound, load_mnist
from mnist_lab.models import MODELS, build, origin
from mnist_lab.published import reproduction
from mnist_lab.published import tables as published_tables
from mnist_lab.published.repairs import repairs_table
from mnist_lab.recipe import Recipe, read_parameters
from mnist_lab.records import Record, is_publishable, load_records
from mnist_lab.runtime import pick_device
from mnist_lab.search import screening
from mnist_lab.search import tables as search_tables
from mnist_lab.summary import facts
from mnist_lab.sweep import Entry


def run_steps(options: argparse.Namespace) -> int:
    """Run the chosen steps, print their results, and publish them if they may be."""
    overrides = read_overrides(options)
    all_steps = runner.find_steps()
    unknown = set(options.step or []) - {step.number for step in all_steps}
    if unknown:
        known = ", ".join(str(step.number) for step in all_steps)
        raise runner.RunError(f"there is no step {', '.join(map(str, sorted(unknown)))}, only {known}")
    steps = [step for step in all_steps if not options.step or step.number in options.step]
    for step in steps:
        read_parameters({**step.defaults(), **overrides})
    if overrides.get("DEVICE") == "cuda":
        check_cuda()
    with runner.only_run(runner.RUNS):
        overrides |= find_data(options.data, overrides)
        folder = runner.new_folder(runner.RUNS)
        runner.run_steps(steps, overrides, folder)
        records = load_records(folder)
        print(f"\n{tables.results_table(results.summarise(records)).text()}\n")
        print(f"executed notebooks, records and figures: {os.path.relpath(folder)}/")
        reasons = publish.refusals(steps, overrides, records, all_steps)
        if reasons:
            print(f"not published, since {', and '.join(reasons)}")
        else:
            replaced = publish.publish(folder, steps)
            print(f"published {len(replaced)} files: read notebooks/, or README.md for the overview")
    return 0


def run_study(options: argparse.Namespace) -> int:
    """Train a row's recipe from many seeds, print what came out, and publish it if it may be."""
    rows: dict[str, Record] = {}
    for record in tracked_records():
        rows.setdefault(record.row, record)
    if options.row not in rows:
        raise runner.RunError(f"there is no row {options.row!r} in the results, only {', '.join(rows)}")
    like = rows[options.row]
    overrides = read_overrides(options)
    overrides |= find_data(options.data, overrides)
    published = {name.upper(): value for name, value in {**like.recipe, **like.settings}.items()}
    recipe, settings = read_parameters(published | {"THREADS": 1} | overrides)
    plan = study.Plan(options.row, like.change, recipe, settings, range(options.seeds))
    if settings.device == "cuda":
        check_cuda()
    with runner.only_run(runner.RUNS):
        folder = options.out or runner.RUNS / "study" / options.row
        records = study.conduct(plan, folder, options.parallel)
        found = results.summarise(records)
        print(f"\n{tables.results_table(found).text()}\n\n{tables.consistency_table(found).text()}\n")
        print(f"records: {os.path.relpath(folder)}/")
        if overrides.keys() - {"DEVICE"} or not all(is_publishable(record) for record in records):
            print("not published, since parameters were changed or it was not a full run on MNIST")
        else:
            replaced = publish.publish_study(records)
            print(f"published {len(replaced)} files: README.md shows all seeds; the notebooks will, after ./run_all.sh")
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """Train the chosen steps of the published series and print them beside what is claimed."""
    chosen = reproduction.choose(options.names)
    if not options.json:
        train_each(options, chosen)
    published = publish.load_folders(publish.PUBLISHED)
    found = published_tables.reproductions(published, load_records(publish.RECORDS))
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        tables = (
            published_tables.reproductions_table(found, published),
            published_tables.training_table(found),
            repairs_table(published),
        )
        print("\n" + "\n\n".join(table.text() for table in tables if table.rows))
    return 0


def try_candidates(options: argparse.Namespace) -> int:
    """Train the chosen candidates and print what they do, of the search and of the frontier."""
    chosen = screening.choose(options.names)
    if not options.json:
        train_each(options, chosen)
    searched, frontier = publish.load_folders(publish.SEARCH), publish.load_folders(publish.FRONTIER)
    frontier = search_tables.with_the_step(frontier, load_records(publish.RECORDS))
    if options.json:
        print(json.dumps([asdict(trial) for trial in search_tables.trials([*searched, *frontier])], indent=1))
    else:
        shown = [(search_tables.search_table, searched), (search_tables.frontier_table, frontier)]
        print("\n" + "\n\n".join(table(records).text() for table, records in shown if records))
    return 0


def train_each(options: argparse.Namespace, chosen: list[Entry]) -> None:
    """Train every one of ``chosen``, on MNIST and nothing else, from as many seeds as asked for or usual.

    One that fails does not keep the others waiting. Raises StudyError at the end, which tells of all that did.
    """
    if options.device == "cuda":
        check_cuda()
    find_data(options.data, {"DATA": "MNIST"})
    problems = []
    with runner.only_run(runner.RUNS):
        for entry in chosen:
            try:
                sweep.train(entry, options.seeds or entry.seeds, options.device or "auto", options.parallel)
            except study.StudyError as error:
                problems.append(f"{entry.recipe.row}: {error}")
    if problems:
        raise study.StudyError("\n".join(problems))


def run_benchmark(options: argparse.Namespace) -> int:
    """Measure the speed of the last step, and track what came out."""
    final = [record for record in tracked_records() if not record.is_rung][-1]
    overrides = read_overrides(options)
    find_data(options.data, {"DATA": "MNIST"})
    published = {name.upper(): value for name, value in {**final.recipe, **final.settings}.items()}
    recipe, settings = read_parameters(published | {"THREADS": os.cpu_count()} | overrides)
    if settings.device == "cuda":
        check_cuda()
    with runner.only_run(runner.RUNS):
        found = benchmark.measure(recipe, settings)
        publish.publish_benchmark(found)
    print(json.dumps(asdict(found), indent=1) if options.json else readme.ways_table(found).text())
    return 0


def read_overrides(options: argparse.Namespace) -> dict[str, object]:
    """Collect what --quick, --device and -p change; the last one wins.

    Raises RunError for a change of the recipe when a published one takes its place: it would be without effect.
    """
    overrides: dict[str, object] = dict(runner.QUICK) if getattr(options, "quick", False) else {}
    if options.device:
        overrides["DEVICE"] = options.device
    given = {name: runner.read_value(text) for name, text in getattr(options, "parameter", [])}
    if given.get("PUBLISHED"):
        idle = given.keys() & {field.name.upper() for field in fields(Recipe)}
        if idle:
            raise runner.RunError(f"a published recipe has its own {', '.join(sorted(idle))}: leave out one of the two")
        overrides.pop("EPOCHS", None)
    return overrides | given


def check_cuda() -> None:
    """Raise RunError now rather than in a notebook if there is no CUDA GPU."""
    try:
        pick_device("cuda")
    except RuntimeError as error:
        raise runner.RunError(str(error)) from None


def find_data(folder: Path | None, overrides: dict[str, object]) -> dict[str, object]:
    """Make sure there are data to run on, and return which parameters that changes.

    Without MNIST and without a way to get it, the embedded digits take its place, and that is said loudly. A
    folder that was asked for by name is never replaced by something else.
    """
    given = folder or os.environ.get("MNIST_LAB_DATA")
    if given:  # the kernels run in another folder: a relative path would mean another place there
        os.environ["MNIST_LAB_DATA"] = str(Path(given).expanduser().resolve())
    if overrides.get("DATA", "MNIST") != "MNIST":
        return {}
    try:
        load_mnist()
    except DataNotFound as error:
        on_gpu = pick_device(overrides.get("DEVICE", "auto")).type == "cuda"  # its time is too dear for a sample
        if given or "DATA" in overrides or on_gpu:
            raise
        line = "!" * 78
        print(
            f"{line}\n{error}.\n\nRunning on scikit-learn's 1,797 embedded digits instead: {DIGITS_NAME.upper()}.\n"
            f"This shows that everything works; its numbers say nothing about MNIST.\n{line}",
            flush=True,
        )
        return {"DATA": "digits"}
    return {}


def tracked_records() -> list[Record]:
    """Return the tracked records of the steps. Raises RunError if there is none."""
    records = load_records(publish.RECORDS)
    if not records:
        raise runner.RunError(f"no records in {publish.RECORDS}: run the steps first (mnist-lab run)")
    return records


def print_results(options: argparse.Namespace) -> int:
    """Print the tracked results."""
    records = tracked_records()
    if options.json:
        print(json.dumps([asdict(result) for result in results.summarise(records)], indent=1))
    else:
        print("\n\n".join(table.text() for table in tables.overview(records)))
    return 0


def write_readme(options: argparse.Namespace) -> int:
    """Write README's generated blocks and its figures anew, as after a change of their layout."""
    tracked_records()
    publish.write_overview()
    return 0


def print_models(options: argparse.Namespace) -> int:
    """List the networks."""
    found = {name: facts(build(name)) for name in MODELS}
    if options.json:
        print(json.dumps([asdict(model) | {"origin": origin(name)} for name, model in found.items()], indent=1))
        return 0
    print(f"{'model':<14}{'parameters':>11}{'deployed':>10}{'multiply-accumulates':>22}{'receptive field':>17}  origin")
    for name, model in found.items():
        print(
            f"{name:<14}{model.trainable:>11,}{model.deployed:>10,}{model.multiply_accumulates:>22,}"
            f"{model.receptive_field:>17}  {origin(name)}"
        )
    return 0


def write_workbook(options: argparse.Namespace) -> int:
    """Write the workbook of receptive fields, as after a change of a network or of the steps that use it."""
    workbook.write_workbook(workbook.WORKBOOK, runner.find_steps())
    print(f"written: {os.path.relpath(workbook.WORKBOOK)}")
    return 0
