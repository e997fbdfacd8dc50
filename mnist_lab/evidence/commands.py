"""mnist-lab results."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from mnist_lab.options import UsageError, add_json


def add_commands(verbs: argparse._SubParsersAction) -> None:
    """Add the commands of this room."""
    command = verbs.add_parser("results", help="print the tracked results of the steps")
    add_json(command)
    command.add_argument("--wide", action="store_true", help="print every column, however wide")
    command.set_defaults(command=print_results)


def print_results(options: argparse.Namespace, folder: Path | None = None) -> int:
    """Print the results in ``folder``, by default the tracked ones. Raises UsageError if there are none."""
    from mnist_lab.evidence import records, results, tables

    folder = (folder or records.TRACKED) / records.FOLDERS["step"]
    found = records.load(folder)
    if not found:
        raise UsageError(f"there are no records in {folder}: run the steps first (mnist-lab run --publish)")
    if options.json:
        print(json.dumps([asdict(result) for result in results.summarise(found)], indent=1))
    else:
        print("\n\n".join(table.text(options.wide) for table in tables.overview(found)))
    return 0
