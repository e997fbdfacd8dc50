"""What every verb works with: its options, its settings, and where it prints and writes."""

import json
import sys
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.settings import FILE, CloudSettings, check_with_model, read_settings
from mnist_lab.evidence.records import TRACKED
from mnist_lab.options import QUICK, read_value
from mnist_lab.runtime import ROOT


@dataclass
class Session:
    """One command. Raises CloudError if its settings cannot be right."""

    options: Namespace
    fetched: Path = ROOT / "runs" / "sagemaker"  # a folder per run: its files as they came
    tracked: Path = TRACKED  # where --publish puts records
    settings: CloudSettings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = read_settings(self.options, ROOT / FILE)
        check_with_model(self.settings)

    def account(self) -> Account:
        """Return the account that the settings describe; in a dry run, one in which nothing changes."""
        return Account(self.settings, self.options.dry_run)

    def parameters(self) -> dict[str, object]:
        """Return the notebook's parameters that the options set; the last one wins."""
        return {**(QUICK if self.options.quick else {}), **{n: read_value(v) for n, v in self.options.parameter}}

    def say(self, text: str) -> None:
        """Print progress: on stderr if stdout is for JSON."""
        print(text, file=sys.stderr if self.options.json else sys.stdout, flush=True)

    def answer(self, values: dict, text: str) -> None:
        """Print the result, as JSON or as text."""
        print(json.dumps(values, indent=1) if self.options.json else text, flush=True)

    def done(self, values: dict, text: str) -> None:
        """Print the result of a command that changes something; after a dry run, that nothing was changed."""
        if self.options.dry_run:
            values, text = {"dry_run": True}, "nothing was changed: this was a dry run"
        self.answer(values, text)
