"""From an executed run to tracked results: check everything, then replace all files together."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mnist_lab.atomic import replace_together
from mnist_lab.benchmark import Benchmark, load_benchmark, save_benchmark
from mnist_lab.executed import finalise, write_notebook
from mnist_lab.plots import fingerprint, time_shares
from mnist_lab.published import plots as published_plots
from mnist_lab.readme import Tracked, render
from mnist_lab.records import Record, in_order, is_publishable, load_records, save
from mnist_lab.runner import NOTEBOOKS, RUNS, RunError, Step, read_notebook
from mnist_lab.runtime import ROOT
from mnist_lab.search import plots as search_plots
from mnist_lab.search.tables import with_the_step
from mnist_lab.study_plots import all_seeds

RECORDS = NOTEBOOKS / "records"
IMAGES = ROOT / "images"
README = ROOT / "README.md"
GPU = "gpu"  # a folder in RECORDS: runs on a GPU stand beside the study, not in it
BENCHMARKS = NOTEBOOKS / "benchmarks"  # one file for each kind of device
PUBLISHED = NOTEBOOKS / "published"  # a folder for each recipe of the published series
SEARCH, FRONTIER = NOTEBOOKS / "search", NOTEBOOKS / "frontier"  # a folder for each candidate
SEEDS, SPEED = "00_seeds.png", "00_speed.png"  # the figures that belong to no single step


def refusals(
    steps: list[Step], overrides: Mapping[str, object], records: list[Record], all_steps: list[Step]
) -> list[str]:
    """Return why a run is only a look and not a result; an empty list if it may be published."""
    reasons = []
    if overrides:
        reasons.append(f"parameters were changed ({', '.join(overrides)})")
    if [step.path for step in steps] != [step.path for step in all_steps]:
        reasons.append("not every step ran")
    if not all(is_publishable(record) for record in records):
        reasons.append("it was not a full run on MNIST")
    if any(record.published for record in records):
        reasons.append("a published recipe took the place of our own")
    if {record.step for record in records if not record.is_rung} != {step.number for step in steps}:
        reasons.append("a step left no record")
    return reasons


def publish(folder: Path, steps: list[Step]) -> list[Path]:
    """Replace the tracked notebooks, records, figures and README blocks by those of the run in ``folder``.

    What the steps no longer make is removed. Every new file is written in full before the first old one is
    replaced, so that a full disk changes nothing. Returns the files replaced; raises RunError, with everything
    as it was, if something may not be published or cannot be written.
    """
    try:
        sources = prepare(folder, steps)
        replace_together(sources, obsolete(steps, sources, other_seeds(load_records(folder))))
    except (OSError, ValueError) as error:
        raise RunError(f"cannot publish: {getattr(error, 'strerror', None) or error}; see {folder}") from error
    return list(sources)


def publish_study(records: list[Record]) -> list[Path]:
    """Track ``records``, further seeds of a published row, and write README and its figure anew: all, or nothing.

    A seed that is tracked already stays. Returns the files replaced; raises RunError.
    """
    tracked = {record.file_name: record for record in load_records(RECORDS)}
    new = {record.file_name: record for record in records if record.file_name not in tracked}
    with scratch_folder() as scratch:
        sources = {RECORDS / name: save(record, scratch) for name, record in new.items()}
        sources |= prepare_overview(in_order([*tracked.values(), *new.values()]), scratch)
        replace_together(sources)
    return list(sources)


def publish_gpu_run(records: list[Record]) -> list[Path]:
    """Track ``records`` of a run on a GPU, and write README anew: all, or nothing.

    Returns the files replaced; raises RunError.
    """
    with scratch_folder() as scratch:
        sources = {RECORDS / GPU / record.file_name: save(record, scratch) for record in records}
        runs = {run.file_name: run for run in [*load_gpu_runs(), *records]}
        sources[README] = scratch / README.name
        sources[README].write_text(render(README.read_text(), tracked(gpu_runs=in_order(runs.values()))))
        replace_together(sources)
    return list(sources)


def load_gpu_runs() -> list[Record]:
    """Read the tracked records of runs on a GPU."""
    return load_records(RECORDS / GPU)


def write_overview() -> None:
    """Write README's generated blocks and the figures that span the steps anew, from the tracked records.

    Raises RunError, with everything as it was.
    """
    with scratch_folder() as scratch:
        replace_together(prepare_overview(load_records(RECORDS), scratch))


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder to write new files in before they replace tracked ones. Raises RunError where that fails."""
    try:
        RUNS.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=RUNS) as scratch:
            yield Path(scratch)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot publish: {getattr(error, 'strerror', None) or error}") from error


def publish_benchmark(found: Benchmark) -> None:
    """Track a benchmark, and write its figure and README anew. Raises RunError."""
    device = found.environment["device_type"]
    with scratch_folder() as scratch:
        path, picture, text = (scratch / name for name in (f"{device}.json", SPEED, README.name))
        save_benchmark(found, path)
        time_shares(found.shares, "Where the time of a training epoch goes (one CPU thread)").savefig(picture)
        others = [other for other in load_benchmarks() if other.environment["device_type"] != device]
        text.write_text(render(README.read_text(), tracked(benchmarks=[*others, found])))
        replace_together({BENCHMARKS / path.name: path, IMAGES / SPEED: picture, README: text})


def load_benchmarks() -> list[Benchmark]:
    """Read the tracked benchmarks."""
    return [load_benchmark(path) for path in sorted(BENCHMARKS.glob("*.json"))]


def tracked(**other: Sequence) -> Tracked:
    """Read everything that README shows; ``other`` takes the place of what the repository keeps."""
    readers = {
        "records": lambda: load_records(RECORDS),
        "benchmarks": load_benchmarks,
        "gpu_runs": load_gpu_runs,
        "published": lambda: load_folders(PUBLISHED),
        "searched": lambda: load_folders(SEARCH),
        "frontier": lambda: load_folders(FRONTIER),
    }
    return Tracked(**({name: read() for name, read in readers.items() if name not in other} | other))


def load_folders(parent: Path) -> list[Record]:
    """Read the tracked records of every recipe that has a folder in ``parent``."""
    return in_order(record for folder in parent.glob("*") for record in load_records(folder))


def prepare(folder: Path, steps: list[Step]) -> dict[Path, Path]:
    """Check the run in ``folder`` and write into it what is to be tracked; returns target -> source."""
    records = load_records(folder)
    figures = [path for step in steps for path in sorted(folder.glob(f"{step.path.name[:2]}_*.png"))]
    sources = {IMAGES / path.name: path for path in figures}
    sources |= {RECORDS / record.file_name: folder / record.file_name for record in records}
    for step in steps:
        executed = read_notebook(folder / step.path.name)
        own = [path for path in sources.values() if belongs_to(path, step)]
        clean = folder / f"{step.path.stem}.published"
        write_notebook(finalise(executed, step, own), clean)
        sources[step.path] = clean
    return sources | prepare_overview(in_order([*other_seeds(records), *records]), folder)


def other_seeds(records: list[Record]) -> list[Record]:
    """Return the tracked records that go on standing beside new ones: other seeds of the same recipes, other steps."""
    new, recipes = {record.file_name for record in records}, {record.row: record.recipe for record in records}
    steps = {record.step for record in records}
    return [
        record
        for record in load_records(RECORDS)
        if record.file_name not in new and (record.step not in steps or recipes.get(record.row) == record.recipe)
    ]


def prepare_overview(records: list[Record], folder: Path) -> dict[Path, Path]:
    """Write into ``folder`` what shows all ``records``, figures and README; returns target -> source."""
    draw_seeds(records, folder / SEEDS)
    kept = tracked(records=records)
    (folder / README.name).write_text(render(README.read_text(), kept))
    figures = [SEEDS, *published_plots.save_figures(kept.published, records, folder)]
    figures += search_plots.save_figures(kept.searched, with_the_step(kept.frontier, records), folder)
    return {IMAGES / name: folder / name for name in figures} | {README: folder / README.name}


def belongs_to(path: Path, step: Step) -> bool:
    """Whether ``path`` is a figure or the shown seed's record of ``step``."""
    seed = step.defaults()["SEED"]
    return path.match(f"{step.path.name[:2]}_*.png") or path.match(f"step-{step.number}*-seed-{seed}.json")


def obsolete(steps: list[Step], sources: Mapping[Path, Path], kept: list[Record]) -> list[Path]:
    """Return the tracked figures of ``steps`` that they no longer make, and the records that are not ``kept``."""
    figures = [path for step in steps for path in IMAGES.glob(f"{step.path.name[:2]}_*.png")]
    names = {record.file_name for record in kept}
    return [path for path in figures if path not in sources] + [
        path for path in RECORDS.glob("*.json") if path not in sources and path.name not in names
    ]


def draw_seeds(records: list[Record], path: Path) -> None:
    """Draw the one figure that spans the steps, with the fingerprint of its records as the PNG's description."""
    figure = all_seeds(records, f"Step by step, every seed ({records[0].data})")
    figure.savefig(path, metadata={"Description": seeds_fingerprint(records)})


def seeds_fingerprint(records: list[Record]) -> str:
    """Return the fingerprint of what the figure of all seeds shows of ``records``."""
    return fingerprint([[record.row, record.change, record.seed, record.history] for record in records])
