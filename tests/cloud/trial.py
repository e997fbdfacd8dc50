"""A run from a bundle to S3 with a stub in the package's place: what is tested is what the scripts do with a run."""

from pathlib import Path

import nbformat
from emulator import Machine, wait_for
from nbformat.v4 import new_code_cell, new_notebook

from mnist_lab.cloud.bundle import make_bundle
from mnist_lab.cloud.doors import DOORS
from mnist_lab.cloud.runs import SCRIPTS, defaults, make_run, read_status, save
from mnist_lab.runtime import ROOT

STUB = """import os, pathlib, shutil, sys, time

def main():
    by_hand, run = pathlib.Path("runs/by-hand"), pathlib.Path("runs/2026-11-22_10-00-00")  # by a person, by the lab
    for folder in (by_hand, run / "steps", run / "ablations"):
        folder.mkdir(parents=True)
    (run / "note.txt").write_text(" ".join(sys.argv[1:]))
    (run / "steps" / "3.jsonl").write_text("a step")
    (run / "ablations" / "3.jsonl").write_text("of the same name")
    {then}
    return 0
"""
OUTPUTS = {"output/note.txt", "output/steps/3.jsonl", "output/ablations/3.jsonl"}
HANGS = "time.sleep(3600)"
DELETES = "shutil.rmtree(os.getcwd())"


class Trial:
    """A run behind a door, on a machine without a GPU."""

    def __init__(self, folder: Path, machine: Machine, connect):
        self.folder, self.machine, self.connect = folder, machine, connect
        self.edit = lambda text: text  # a mutation of the script

    def notebook(self, *cells: str) -> None:
        """Write a notebook in step 3's place, with its parameters and ``cells``."""
        source = "\n".join(f"{name} = {value!r}" for name, value in defaults().items())
        head = new_code_cell(source, metadata={"tags": ["parameters"]})
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        (self.folder / "notebooks").mkdir(parents=True)
        notebook = new_notebook(cells=[head, *map(new_code_cell, cells)], metadata=kernel)
        nbformat.write(notebook, self.folder / "notebooks" / "03_trial.ipynb")

    def place(self, then: str = "pass", *, cells: tuple[str, ...] = (), upload: bool = True, looks: float = 20,
              seeds: int | None = None, **settings) -> None:  # fmt: skip
        """Put the bundle into place, through the project's own code, and render the script.

        ``then`` is what the stub does after it wrote its files; with ``cells``, the package itself runs a notebook of
        these. ``looks`` are the seconds that the machine waits before it tries something again.
        """
        self.notebook(*cells)
        if cells:
            (self.folder / "mnist_lab").symlink_to(ROOT / "mnist_lab")
        else:
            scripts = self.folder / "mnist_lab" / "cloud" / "scripts"
            scripts.mkdir(parents=True)
            (scripts / "requirements.txt").write_bytes((SCRIPTS / "requirements.txt").read_bytes())
            (self.folder / "mnist_lab" / "__init__.py").write_text("")
            (self.folder / "mnist_lab" / "cli.py").write_text(STUB.format(then=then))
        kind = {"job": "ml.m5.large", "ec2": "t3.medium"}.get(settings.get("door"), "ml.t3.medium")
        usual = {"device": "cpu", "instance_type": kind, "max_minutes": 30, "grace_minutes": 10}
        self.account = self.connect(**usual | settings)
        self.door = DOORS[self.account.settings.door](self.account)
        bundle = make_bundle(self.folder)
        self.account.make_bucket()
        run = make_run(self.account, bundle, {"DATA": "digits"}, seeds)
        self.job = run.model_copy(update={"poll_seconds": looks})
        save(self.account, self.job)
        if upload:
            self.account.upload(run.bundle_key, bundle)

    @property
    def script(self) -> str:
        return self.edit(self.door.script(self.job))

    def start(self) -> None:
        """Start the machine, and wait until a notebook instance is no longer Pending."""
        self.door.start(self.job, self.script)
        self.until(lambda: self.word() != "Pending", "the end of the start script")

    def run(self, *then: str, **more):
        """Place, start, and wait until the machine has ended by itself; returns the run's status."""
        self.place(*then, **more)
        self.start()
        return self.end()

    def end(self):
        """Wait until nothing runs; returns the run's status."""
        self.until(lambda: not self.door.machine(self.job).active, "the end")
        return self.status()

    def word(self) -> str:
        return self.door.machine(self.job).word

    def status(self):
        return read_status(self.account, self.job, self.door.machine(self.job))

    def files(self) -> set[str]:
        """Return what the run has left in S3, by its name below the run's folder."""
        found = self.account.objects(self.job.folder)
        return {entry["Key"].removeprefix(self.job.folder) for entry in found}

    def text(self, name: str) -> str:
        return self.account.read(self.job.folder + name).decode()

    def until(self, condition, what: str):
        return wait_for(condition, what, self.machine.log)

    def told(self) -> bool:
        """Whether the worker has told S3 that it runs."""
        return "status.json" in self.files()
