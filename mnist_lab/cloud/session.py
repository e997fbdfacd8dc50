"""What every verb works with: its options, settings, and where it speaks."""

import json
import sys
from argparse import Namespace
from dataclasses import dataclass, field

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.settings import CloudSettings, check_with_model, read_settings
from mnist_lab.runner import QUICK, read_value

BILL = "an instance in service is billed by the second, its volume until mnist-lab sagemaker down"


@dataclass
class Session:
    """What a command works with: its options, settings, and where it speaks."""

    options: Namespace
    settings: CloudSettings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = read_settings(self.options)
        check_with_model(self.settings)

    def account(self) -> Account:
        """Return the account that the settings lead to; in a dry run, one in which nothing changes."""
        return Account(self.settings, self.options.dry_run)

    def say(self, text: str) -> None:
        """Print progress: on stderr if stdout is for JSON."""
        print(text, file=sys.stderr if self.options.json else sys.stdout, flush=True)

    def hint(self, text: str) -> None:
        """Print what is for people only."""
        print(text, file=sys.stderr)

    def answer(self, values: dict, text: str) -> None:
        """Print the result, as JSON or as text."""
        print(json.dumps(values, indent=1) if self.options.json else text, flush=True)

    def done(self, values: dict, text: str) -> None:
        """Print the result of what changes something; after a dry run, that nothing was changed."""
        if self.options.dry_run:
            values, text = {"dry_run": True}, "nothing was changed: this was a dry run"
        self.answer(values, text)


def parameters(options: Namespace) -> dict[str, object]:
    """Return the parameters that the options set; the last one wins."""
    return {**(QUICK if options.quick else {}), **{name: read_value(text) for name, text in options.parameter}}
