"""What every door to a machine can do, and which doors there are."""

from typing import Protocol

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.ec2 import Ec2
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.job import TrainingJob
from mnist_lab.cloud.notebook import NotebookInstance
from mnist_lab.cloud.runs import Machine, Run


class Door(Protocol):
    """A way to a machine that carries out the worker, and that ends by itself when the run's time is over.

    Every method can be repeated, touches only what mnist-lab made, and raises CloudError.
    """

    quota: str  # the name of what AWS limits

    def script(self, run: Run) -> str: ...  # what the machine carries out at its start
    def check(self) -> str: ...  # what is there; CloudError for what would keep a machine from starting
    def start(self, run: Run, script: str) -> None: ...
    def machine(self, run: Run) -> Machine: ...  # what AWS says of it
    def stop(self, run: Run | None) -> None: ...  # and wait until it has stopped; all of this name without a run
    def delete(self) -> None: ...  # stop and delete all machines of this name, and their logs
    def log(self, run: Run) -> str: ...  # what AWS logged of the machine itself


def door_of(account: Account, spot: bool = False, local: bool = False) -> Door:
    """Return the door that the settings name. CloudError for ``spot`` and ``local`` with another door than jobs."""
    if account.settings.door == "job":
        return TrainingJob(account, spot, local)
    if spot or local:
        raise CloudError("--spot and --local are for --door job")
    return Ec2(account) if account.settings.door == "ec2" else NotebookInstance(account)
