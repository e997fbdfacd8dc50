"""``mnist-lab analyse``: makes what the notebooks of evidence read of trained networks."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mnist_lab import options as shared
from mnist_lab.options import UsageError

PARTS = {
    "probabilities": "what step 3 says of every test image",
    "writers": "what step 3 says of images by writers that it was not trained on, and when it is sure",
    "ensembles": "several networks that share one budget of parameters",
    "shifts": "step 3 asked about every test image and about copies of it, shifted by a pixel",
    "robustness": "all steps and the published third steps on corrupted images",
    "smaller": "step 3 with fewer bits, fewer weights, templates of low rank",
    "inside": "step 3's filters, maps of its errors, and their nearest training images",
    "handwriting": "step 3 on drawings and on other people's digits; includes writers",
    "fresh": "QMNIST's lost digits, where they can be downloaded; only if named",
}
UNASKED = [part for part in PARTS if part != "fresh"]
QUICK_SEEDS = 2


def add_commands(verbs: argparse._SubParsersAction) -> None:
    """Add the command of this room."""
    about = "find out what the errors are made of, how sure and how robust the networks are, and what they see"
    parts = "; ".join(f"{name}: {words}" for name, words in PARTS.items())
    command = verbs.add_parser(
        "analyse",
        help=about,
        description=f"{about.capitalize()}. Parts: {parts}. Every network is trained once and kept in runs/networks; "
        "what was computed is kept in runs/analysis: after an interruption, the same command goes on.",
    )
    command.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (all but the last)")
    command.add_argument("--seeds", type=shared.positive, metavar="N", help="of each recipe; each part has its own")
    command.add_argument("--parallel", type=shared.positive, metavar="N", help="processes (as many as have room)")
    command.add_argument("--data", type=Path, metavar="FOLDER", help="folder that holds MNIST/raw/; only read")
    either = command.add_mutually_exclusive_group()
    either.add_argument("--quick", action="store_true", help="2 seeds, 2 epochs of 3,000 images: does it all work?")
    shared.add_publish(either)
    command.set_defaults(command=analyse)


def analyse(options: argparse.Namespace, root: Path | None = None) -> int:
    """Make the parts that were asked for, one after the other; with --publish, track them."""
    from mnist_lab.analysis import kept
    from mnist_lab.analysis.parts import MAKERS, Bench
    from mnist_lab.capacity import usable_processes
    from mnist_lab.recipe import hint
    from mnist_lab.runtime import ROOT
    from mnist_lab.studies.executors import Processes

    for part in options.parts:
        if part not in PARTS:
            raise UsageError(f"there is no part {part!r}{hint(part, PARTS) or ': use ' + ', '.join(PARTS)}")
    if options.publish and options.seeds:
        raise UsageError("what is published has the usual numbers of seeds: leave out --seeds or --publish")
    root = root or ROOT
    shared.find_data(options.data, {"DATA": "MNIST"})  # or say now what is missing
    runs, tracked = root / "runs", root / "notebooks" / "records"
    out = runs / kept.FOLDER / "quick" if options.quick else runs / kept.FOLDER
    with shared.only_run(runs), Processes(options.parallel or usable_processes()) as executor:
        seeds = options.seeds or (QUICK_SEEDS if options.quick else None)
        bench = Bench(tracked, runs / "networks", out, executor, seeds, shared.QUICK if options.quick else {})
        for part in options.parts or UNASKED:
            print(f"{part}: {PARTS[part]}", flush=True)
            made = MAKERS[part](bench)
            for path in made:
                print(f"  {path.name}, {path.stat().st_size / 1000:.0f} kB", flush=True)
            if options.publish:
                publish(made, root)
    return 0


def publish(made: Sequence[Path], root: Path) -> None:
    """Put files where the checkout ``root`` tracks them: among the records, or where ``predict`` reads it."""
    from mnist_lab.analysis import kept
    from mnist_lab.runtime import write_whole
    from mnist_lab.use.reading import CONFIDENCE

    folder, use = kept.tracked(root / "notebooks" / "records"), root / "mnist_lab" / "use"
    for path in made:
        write_whole((use if path.name == CONFIDENCE.name else folder) / path.name, path.read_bytes())
    print(f"  published in {folder.parent.name}/{folder.name}", flush=True)
