"""``mnist-lab run`` and ``mnist-lab pages``."""

import argparse
from pathlib import Path

from mnist_lab.options import add_machine, add_parameter, add_publish


def add_commands(verbs: argparse._SubParsersAction) -> None:
    """Add the commands of this room to the command line's subparsers."""
    about = "run the step notebooks"
    steps = verbs.add_parser(
        "run",
        help=about,
        description=f"{about.capitalize()} into runs/, side by side where there are cores. A run that was interrupted "
        "goes on where it stopped. With --publish, the results of a full run replace the tracked notebooks, records, "
        "figures and tables; a full run that is complete already is then not trained again.",
    )
    steps.add_argument("--quick", action="store_true", help="try it: 2 epochs of 3,000 images")
    steps.add_argument("--step", type=int, action="append", metavar="N", help="only step N; may be repeated")
    add_parameter(steps)
    add_machine(steps)
    steps.add_argument("--again", action="store_true", help="start over, even if the same run was interrupted")
    add_publish(steps)
    steps.set_defaults(command=run)

    about = "write README's tables anew from the records, and execute the notebooks of evidence that are stale"
    made = verbs.add_parser("pages", help=about, description=f"{about[0].upper()}{about[1:]}.")
    made.add_argument("--force", action="store_true", help="execute all notebooks of evidence")
    made.set_defaults(command=refresh)


def run(options: argparse.Namespace, root: Path | None = None) -> int:
    """Run the chosen steps, and say where their results are; publish them if asked to."""
    from mnist_lab.evidence.records import load
    from mnist_lab.evidence.results import summarise
    from mnist_lab.evidence.tables import results_table
    from mnist_lab.options import UsageError, find_data, only_run, overrides
    from mnist_lab.publishing import batch, publish
    from mnist_lab.publishing.notebooks import find_steps
    from mnist_lab.recipe import read_parameters
    from mnist_lab.runtime import ROOT, pick_device

    root = root or ROOT
    there, parameters = find_steps(root), overrides(options)
    if not there:
        raise UsageError(f"there are no step notebooks in {root}: go to a checkout")
    unknown = set(options.step or []) - {step.number for step in there}
    if unknown:
        known = ", ".join(str(step.number) for step in there)
        raise UsageError(f"there is no step {', '.join(map(str, sorted(unknown)))}, only {known}")
    steps = [step for step in there if not options.step or step.number in options.step]
    for step in steps:
        read_parameters({**step.defaults(), **parameters})
    pick_device(parameters.get("DEVICE", "auto"))
    if options.publish:
        publish.check_request(steps, parameters, root)
    with only_run(root / "runs"):
        parameters |= find_data(options.data, parameters)
        if options.publish:
            publish.check_request(steps, parameters, root)
        folder, state = batch.start(steps, parameters, root, again=options.again, complete=options.publish)
        if state.done:
            print(f"going on with the run of {folder.name}, which has done step {', '.join(map(str, state.done))}")
        batch.conduct(folder, state, root)
        page = batch.write_overview(folder, state, root)
        print(f"\n{results_table(summarise(load(folder))).text()}\n")
        if options.publish:
            print(f"published {len(publish.publish(folder, root))} files")
        print(f"Open {page}: these results beside the published ones, with notebooks and figures.")
    if not options.publish:
        print("No tracked file was changed.")
    return 0


def refresh(options: argparse.Namespace) -> int:
    """Write the pages anew that show the tracked records."""
    from mnist_lab.publishing.pages import refresh

    refresh(force=options.force)
    return 0
