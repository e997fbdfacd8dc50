"""``mnist-lab study``, ``reproduce``, ``ablate`` and ``search``: they train recipes from many seeds."""

import argparse
import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mnist_lab import options as shared
from mnist_lab.options import UsageError

TOGETHER = 32  # networks side by side on a GPU
MOST_EPOCHS = 15  # that the series allows
KEPT = (
    "Every seed is kept in runs/records as soon as it is done, and a seed that is kept or tracked is not trained "
    "again: after an interruption, the same command goes on."
)
JSON = "With --json nothing is trained: what is kept and tracked is printed for scripts."


def add_commands(verbs: argparse._SubParsersAction) -> None:
    """Add the commands of this room."""
    about = "train the recipe of a step from many seeds"
    study = verbs.add_parser("study", help=about, description=f"{about.capitalize()}, 0 to N - 1. {KEPT}")
    study.add_argument("step", metavar="STEP", help="3, or 3a for what is on the way to it")
    study.add_argument("--out", type=Path, metavar="FOLDER", help="keep the seeds here, not in runs/records")
    shared.add_parameter(study)
    shared.add_publish(study)
    study.set_defaults(command=run_study)

    about = "train the steps of five published series by their own recipes"
    again = verbs.add_parser("reproduce", help=about, description=f"{about.capitalize()}. {KEPT} {JSON}")
    again.add_argument("names", nargs="*", metavar="NAME", help="A (a series), A1 (a step), variants (all steps)")
    again.set_defaults(command=reproduce)

    about = "train step 3 with one thing changed, smaller, for fewer epochs, with more work; or row 2a taken apart"
    other = verbs.add_parser(
        "ablate",
        help=about,
        description=f"{about.capitalize()}. A change is scored on writers held out of training, the frontier of fewer "
        f"parameters or epochs and the tracks of more work on the test set. {KEPT} {JSON}",
    )
    other.add_argument("names", nargs="*", metavar="NAME", help="a change, or a family of them (all changes of step 3)")
    other.set_defaults(command=ablate)

    about = "search for a better step 3: networks and recipes at once, on writers held out of the training set"
    hunt = verbs.add_parser(
        "search",
        help=about,
        description=f"{about.capitalize()}. Every trial is a recipe that Optuna proposes, trained on fold after fold "
        "of held-out writers and given up when it is behind. The same command goes on with a search that was stopped; "
        "a new one goes on from the tracked trials if they have as many epochs and folds. "
        "Then --best trains the best of it on all six folds, beside the step 3 that it set out from and today's.",
    )
    hunt.add_argument("--trials", type=shared.positive, default=300, metavar="N", help="how many in all (300)")
    hunt.add_argument("--folds", type=shared.positive, default=3, metavar="N", help="at most, for a trial (3)")
    hunt.add_argument("--epochs", type=shared.positive, default=15, metavar="N", help="of every trial (15)")
    hunt.add_argument("--storage", metavar="URL", help="database of the search (sqlite:///.../runs/search.db)")
    hunt.add_argument("--best", type=shared.positive, metavar="N", help="try nothing new: confirm the N best trials")
    hunt.add_argument("--seeds", type=shared.positive, default=6, metavar="N", help="for --best, from 0 (6: all folds)")
    hunt.add_argument("--parallel", type=shared.positive, metavar="N", help="trials at once (as many as have room)")
    hunt.add_argument("--scheduler", metavar="ADDRESS", help="train on the workers of this Dask scheduler")
    hunt.add_argument("--data", type=Path, metavar="FOLDER", help="folder that holds MNIST/raw/; only read")
    hunt.add_argument("--wide", action="store_true", help="print every column, however wide")
    shared.add_publish(hunt)
    hunt.set_defaults(command=search)

    ablations = "6, one for each fold of writers; 5 of the frontier, 10 of a track"
    for command, usual in ((study, "10"), (again, "3; 5 of each third step"), (other, ablations)):
        if command is not study:
            either = command.add_mutually_exclusive_group()
            shared.add_json(either)
            shared.add_publish(either)
        command.add_argument("--seeds", type=shared.positive, metavar="N", help=f"how many ({usual})")
        place = command.add_mutually_exclusive_group()
        place.add_argument(
            "--parallel", type=shared.positive, metavar="N",
            help=f"so many at once: processes (as many as have room), or networks on a GPU ({TOGETHER})",
        )  # fmt: skip
        place.add_argument("--scheduler", metavar="ADDRESS", help="train on the workers of this Dask scheduler")
        shared.add_machine(command)
        command.add_argument("--wide", action="store_true", help="print every column, however wide")


def run_study(options: argparse.Namespace, root: Path | None = None) -> int:
    """Train a step's recipe from many seeds, and print the results. A changed recipe has a folder of its own."""
    from dataclasses import asdict, replace

    from mnist_lab.evidence.records import FOLDERS, load
    from mnist_lab.evidence.results import summarise
    from mnist_lab.evidence.tables import consistency_table, results_table
    from mnist_lab.recipe import read_parameters
    from mnist_lab.studies.study import Plan

    tracked, local = stores(root)
    steps = {one.name: [one] for one in load(tracked / FOLDERS["step"]) if one.device_type == "cpu"}
    if not steps:
        raise UsageError(f"a study trains as a record says, and {tracked} has none of a step: they come with a clone")
    (like,) = pick([options.step], steps, ", ".join(steps))
    asked = shared.overrides(options)
    device = {"DEVICE": asked.pop("DEVICE", usual_device(options))}
    if "SEED" in asked:
        raise UsageError("a study trains the seeds 0 to N - 1: use --seeds N, not SEED")
    known = {name.upper(): value for name, value in (like.recipe | asdict(like.settings)).items()}
    recipe, settings = read_parameters(known | {"THREADS": 1} | device | asked)
    now = {name.upper(): value for name, value in (asdict(recipe) | asdict(settings)).items()}
    changes = {name: value for name, value in now.items() if name in asked and value != known[name]}
    if not (changes and options.publish):
        changes |= find_data(options, device | asked)
    if changes and options.publish:
        raise UsageError(f"a study with another {', '.join(changes)} is not published: leave out --publish")
    words = ", ".join(f"{name} {value}" for name, value in changes.items())
    settings = replace(settings, data=changes.get("DATA", settings.data))
    plan = Plan(like.kind, like.name, words or like.change, recipe, settings, range(options.seeds or 10), like.step)
    if changes:  # these are no seeds of the tracked recipe
        folders = [options.out or local.with_name("studies") / words.replace(", ", "-").replace(" ", "-")]
    else:
        folders = [tracked, options.out or local]
    results = summarise(train(options, [plan], folders, local.parent))
    return show(options, [results_table(results), consistency_table(results)])


def reproduce(options: argparse.Namespace, root: Path | None = None) -> int:
    """Train the chosen steps of the published series, and print them beside what is claimed."""
    from dataclasses import asdict

    from mnist_lab.studies.others import tables
    from mnist_lab.studies.others.catalogue import RECIPES, VARIANTS, usual_seeds
    from mnist_lab.studies.study import gather

    groups = {name[0]: [one for one in RECIPES.values() if one.name[0] == name[0]] for name in RECIPES}
    groups |= {one.name: [one] for one in (*RECIPES.values(), *VARIANTS)} | {"variants": list(VARIANTS)}
    chosen = pick(options.names or RECIPES, groups, "A to E, A1 to E3, or variants")
    trained = []
    if not options.json:
        trained = train_all(options, [("published", "test", one, usual_seeds(one)) for one in chosen], root)
    found = gather(stores(root))
    told = [asdict(one) for one in tables.reproductions(found)]
    made = (tables.reproductions_table, tables.training_table, tables.variants_table)
    return show(options, [*(table(found) for table in made), table_of_gpus(trained)], told)


def ablate(options: argparse.Namespace, root: Path | None = None) -> int:
    """Train the chosen variants of step 3 and of row 2a, and print what they reach."""
    from dataclasses import asdict

    from mnist_lab.evidence.records import FOLDERS, load
    from mnist_lab.studies.search import tables, variants
    from mnist_lab.studies.study import gather

    rows = variants.rows_of_steps(load(stores(root)[0] / FOLDERS["step"]))
    every = variants.every(rows)
    families = list(dict.fromkeys(one.family for one in every))
    groups = {family: [one for one in every if one.family == family] for family in families}
    groups |= {one.name: [one] for one in every}
    usual = [one.name for one in variants.ablations(rows["3"])]
    chosen = pick(options.names or usual, groups, ", ".join(families))
    trained = []
    if not options.json:
        asked = [(one.kind, one.score_on, one, variants.usual_seeds(one)) for one in chosen]
        trained = train_all(options, asked, root)
    found = gather(stores(root))
    parts = tables.ablations(found), tables.apart(found), tables.frontier(found), tables.tracks(found)
    once = {(one.family, one.name): one for part in parts for one in part}  # step 3 is in several
    told = [asdict(one.result) | {"family": one.family, "verdict": one.verdict} for one in once.values()]
    ablated, apart, smaller, tracks = parts
    made = [tables.ablation_table(ablated), tables.ablation_table(apart, "row 2a")]
    made += [tables.frontier_table(smaller), tables.tracks_table(tracks), table_of_gpus(trained)]
    return show(options, made, told)


def search(options: argparse.Namespace, root: Path | None = None) -> int:
    """Try recipes, or with --best confirm the best of them; print what they reach."""
    from dataclasses import replace

    from optuna.storages import InMemoryStorage

    from mnist_lab.capacity import usable_processes
    from mnist_lab.evidence.records import FOLDERS, load
    from mnist_lab.studies.search import confirmation, optimise, trials
    from mnist_lab.studies.search.variants import STEP, rows_of_steps
    from mnist_lab.studies.study import ON_MNIST, gather
    from mnist_lab.writers import FOLDS

    if options.folds > FOLDS or options.epochs > MOST_EPOCHS:
        raise UsageError(f"there are {FOLDS} folds, and the series allows {MOST_EPOCHS} epochs")
    if options.best and options.seeds < FOLDS:
        raise UsageError(f"to confirm a trial takes a seed on each of the {FOLDS} folds: use --seeds {FOLDS} or more")
    tracked, local = stores(root)
    settings = replace(ON_MNIST, score_on="held-out")
    shared.find_data(options.data, {"DATA": "MNIST", "DEVICE": "cpu", "SCORE_ON": settings.score_on})
    step = rows_of_steps(load(tracked / FOLDERS["step"]))[STEP]
    storage = options.storage or f"sqlite:///{local.parent.resolve() / 'search.db'}"
    local.mkdir(parents=True, exist_ok=True)
    study, known = optimise.open_study(storage), trials.read(tracked)
    extent = {"epochs": options.epochs, "folds": options.folds}
    if options.best:
        if known and not trials.of(study):  # another search may begin in the database
            study = optimise.take_over(InMemoryStorage(), known)
        found = trials.of(study)
        if not found:
            raise UsageError(f"nothing was tried yet in {storage}: leave out --best to begin")
        confirmed = confirmation.compare(gather([tracked, local]), options.epochs, found, step)
        numbers = confirmation.best(found, confirmed, options.best, step)
        plans = optimise.plans(study, numbers, step, settings, options.epochs, range(options.seeds))
        train(options, plans, [tracked, local], local.parent)
    else:
        processes = options.parallel or usable_processes()  # measured once: those that work take memory themselves
        with engaged(options, processes, local.parent) as executor:
            alike = {(one.epochs, trials.folds_of(known)) for one in known} == {tuple(extent.values())}
            if alike and not optimise.has_begun(study):
                study = optimise.take_over(storage, known)
                print(f"going on from {len(known)} tracked trials", flush=True)
            if (ended := optimise.tried(study)) >= options.trials:
                print(f"{ended} trials have ended already: for more of them, raise --trials", flush=True)
            extent |= {
                "trials": options.trials,
                "at_once": lambda: options.parallel or getattr(executor, "workers", processes),
            }
            optimise.search(study, step, settings, executor, local, **extent)
    found = trials.of(study)
    if options.publish:
        print(f"published {trials.write(found, tracked)}")
    confirmed = confirmation.compare(gather([tracked, local]), options.epochs, found, step)
    return show(options, [trials.trials_table(found), confirmation.comparison_table(confirmed)])


def stores(root: Path | None) -> tuple[Path, Path]:
    """Return the folders of the tracked records and of those that stay on this machine."""
    from mnist_lab.runtime import ROOT

    return (root or ROOT) / "notebooks" / "records", (root or ROOT) / "runs" / "records"


def pick(names: Iterable[str], groups: Mapping[str, Sequence], known: str) -> list:
    """Return the members of the groups called so, each once.

    Raises UsageError for a name that is not there, with the nearest one, or else with those that are ``known``.
    """
    from mnist_lab.recipe import hint

    for name in names:
        if name not in groups:
            raise UsageError(f"there is no {name!r} to train{hint(name, groups) or f': use {known}'}")
    return list({one.name: one for name in names for one in groups[name]}.values())


def usual_device(options: argparse.Namespace) -> str:
    """Return where to train: if nothing is said, on a GPU that is here, but on the CPUs of a cluster."""
    return options.device or ("cpu" if options.scheduler else "auto")


def find_data(options: argparse.Namespace, parameters: dict[str, object]) -> dict[str, object]:
    """Raise DeviceUnavailable for a GPU that is not here; else see options.find_data."""
    from mnist_lab.runtime import pick_device

    if not options.scheduler:
        pick_device(parameters["DEVICE"])
    return shared.find_data(options.data, parameters)


def train_all(options: argparse.Namespace, chosen: Iterable[tuple], root: Path | None) -> list:
    """Train recipes on MNIST and nothing else, and return the records of all that was asked for.

    ``chosen`` are (kind, images to score on, recipe, usual seeds).
    """
    from dataclasses import replace

    from mnist_lab.studies.study import ON_MNIST, Plan

    chosen, device, plans = list(chosen), usual_device(options), []
    for scored in sorted({score_on for _, score_on, _, _ in chosen}):
        find_data(options, {"DATA": "MNIST", "DEVICE": device, "SCORE_ON": scored})
    for kind, score_on, one, usual in chosen:
        settings = replace(ON_MNIST, device=device, score_on=score_on)
        plans.append(Plan(kind, one.name, one.change, one, settings, range(options.seeds or usual)))
    tracked, local = stores(root)
    return train(options, plans, [tracked, local], local.parent)


def table_of_gpus(trained: Sequence):
    """Return the results of what was trained on GPUs, which the tables of the studies leave out."""
    from mnist_lab.evidence.records import in_order
    from mnist_lab.evidence.results import summarise
    from mnist_lab.evidence.tables import results_table

    return results_table(summarise(in_order(one for one in trained if one.device_type != "cpu")))


def train(options: argparse.Namespace, plans: Sequence, folders: Sequence[Path], runs: Path) -> list:
    """Conduct ``plans``, as the only run of this checkout; publish what came out if asked to, and return it."""
    from mnist_lab.capacity import usable_processes
    from mnist_lab.evidence.records import merge
    from mnist_lab.studies.study import conduct

    together = (options.parallel or TOGETHER) if plans[0].device_type == "cuda" else 1
    threads = max(plan.settings.threads or 1 for plan in plans)
    processes = 1 if together > 1 else options.parallel or usable_processes(threads)
    with engaged(options, processes, runs) as executor:
        found = conduct(plans, folders, executor, together)
        if options.publish:
            print(f"published {len(merge(found, folders[0]))} files")
    return found


@contextlib.contextmanager
def engaged(options: argparse.Namespace, processes: int, runs: Path) -> Iterator:
    """Yield the executor that was asked for: a cluster, or so many processes, for the only run of this checkout."""
    from mnist_lab.studies.executors import Cluster, Processes

    with shared.only_run(runs), Cluster(options.scheduler) if options.scheduler else Processes(processes) as executor:
        yield executor


def show(options: argparse.Namespace, tables: Iterable, told: Sequence[dict] = ()) -> int:
    """Print the tables that have rows, or with --json what is ``told``; return the exit code."""
    if getattr(options, "json", False):
        print(json.dumps(told, indent=1))
    else:
        print("\n" + "\n\n".join(table.text(options.wide) for table in tables if table.rows))
    return 0
