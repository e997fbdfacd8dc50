"""What every door to a machine can do, and which doors there are."""

from typing import Protocol

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.ec2 import Ec2
from mnist_lab.cloud.job import TrainingJob
from mnist_lab.cloud.notebook import NotebookInstance
from mnist_lab.cloud.runs import Machine, Run


class Door(Protocol):
    """A way to a machine that carries out the worker, and that ends by itself when the run's time is over.

    Every method can be repeated, touches only what mnist-lab made, and raises CloudError.
    """

    account: Account
    quota: str  # the name of what AWS limits

    def script(self, run: Run) -> str: ...  # what the machine carries out at its start
    def need(self) -> int: ...  # how much of it a run takes
    def check(self) -> str: ...  # what is there; CloudError for what would keep a machine from starting
    def start(self, run: Run, script: str) -> None: ...
    def machine(self, run: Run) -> Machine: ...  # what AWS says of it
    def stop(self, run: Run | None = None) -> None: ...  # and wait until it has; all of this name without a run
    def delete(self) -> None: ...  # stop and delete all machines of this name, and their logs


DOORS = {"notebook": NotebookInstance, "job": TrainingJob, "ec2": Ec2}
