"""A batch: steps executed side by side into a folder of their own. An interrupted one is found again and goes on."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue

from mnist_lab.capacity import usable_processes
from mnist_lab.evidence.records import FOLDERS, TRACKED, load
from mnist_lab.evidence.results import summarise
from mnist_lab.evidence.tables import results_table
from mnist_lab.publishing.headless import NotebookError, read
from mnist_lab.publishing.notebooks import Step, find_steps, fingerprint, folder_digest
from mnist_lab.runtime import RECORDED_PACKAGES, ROOT, write_whole

STATE, OVERVIEW = "batch.json", "overview.md"


@dataclass
class State:
    """What a batch is of, and how far it came."""

    steps: list[int]
    parameters: dict[str, object]  # that replace those of the notebooks
    code: str  # digests of all that the notebooks execute and compare with
    done: list[int]

    def save(self, folder: Path) -> None:
        write_whole(folder / STATE, json.dumps(asdict(self), indent=1).encode())


def start(
    steps: list[Step],
    parameters: Mapping[str, object],
    root: Path = ROOT,
    *,
    again: bool = False,
    complete: bool = False,
) -> tuple[Path, State]:
    """Return the folder and the state of a new batch, or of the last one of the same steps, parameters and code.

    The last one goes on if it was interrupted, and with ``complete`` also counts if it was not; with ``again`` it
    never does. Raises OSError.
    """
    runs = root / "runs"
    new = State([step.number for step in steps], dict(parameters), code_digest(steps, root), [])
    for path in sorted(runs.glob(f"*/{STATE}"), reverse=True):
        try:
            found = State(**json.loads(path.read_bytes()))
        except (ValueError, TypeError):  # of another version, or damaged: it cannot go on
            continue
        if not again and replace(found, done=[]) == new:
            if complete or len(found.done) < len(steps):
                return path.parent, found
            break
    folder = runs / time.strftime("%Y-%m-%d_%H-%M-%S")
    folder.mkdir(parents=True)
    new.save(folder)
    return folder, new


def code_digest(steps: list[Step], root: Path) -> str:
    """Return digests of the code cells of ``steps``, of what they import, and of the tracked records of the steps, and
    the versions of the libraries that a record names."""
    package = folder_digest(Path(__file__).parents[1], "*.py", "fields/*.py", "evidence/*.py", "use/*.py", "use/*.json")
    tracked = folder_digest(tracked_steps(root), "*.jsonl")
    libraries = [f"{name}-{version(name)}" for name in RECORDED_PACKAGES]
    return " ".join([*(fingerprint(read(step.path)) for step in steps), package, tracked, *libraries])


def tracked_steps(root: Path = ROOT) -> Path:
    """Return the folder of the steps' records in a checkout."""
    return root / TRACKED.relative_to(ROOT) / FOLDERS["step"]


def conduct(folder: Path, state: State, root: Path = ROOT, processes: int | None = None) -> None:
    """Execute the steps of a batch that are not done, as many at a time as there are cores and memory for.

    The last step, which trains longest, starts together with the first; the others follow in order. So whoever waits
    for the result of the step before waits for one that has started, or that starts when another one ends.

    A step's file ``NN.pending`` in ``folder`` says that its result is still to come, and goes when the step is done.
    With the first step that fails, or an interruption, all stop. Raises NotebookError.
    """
    waiting = [step for step in find_steps(root) if step.number in state.steps and step.number not in state.done]
    for step in waiting:
        pending(folder, step).touch()
    threads = [int((step.defaults() | state.parameters).get("THREADS", 1)) for step in waiting]
    side_by_side = min(processes or usable_processes(max(threads, default=1)), len(waiting))
    if side_by_side > 1:
        waiting.insert(1, waiting.pop())
    lines: SimpleQueue[str] = SimpleQueue()
    running: list[Child] = []
    try:
        while waiting or running:
            while waiting and len(running) < side_by_side:
                running.append(Child(waiting.pop(0), folder, state.parameters, lines, prefixed=side_by_side > 1))
            time.sleep(0.1)
            ended = [child for child in running if child.is_over()]
            while not lines.empty():
                print(lines.get(), flush=True)
            for child in ended:
                child.check()
                running.remove(child)
                state.done.append(child.step.number)
                state.save(folder)
                pending(folder, child.step).unlink()
    finally:
        for child in running:
            child.process.stdin.close()
        for child in running:
            child.process.wait()


def pending(folder: Path, step: Step) -> Path:
    """Return the file that says that ``step`` of a batch is not done."""
    return folder / f"{step.number:02d}.pending"


class Child:
    """A process that executes one notebook. It stops, and its kernel with it, when this process is gone.

    What it prints is put into ``lines``.
    """

    def __init__(
        self, step: Step, folder: Path, parameters: Mapping[str, object], lines: SimpleQueue, *, prefixed: bool
    ):
        self.step, self.start, self.lines = step, time.monotonic(), lines
        self.prefix = f"[{step.number}] " if prefixed else ""
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        program = [sys.executable, "-u", "-m", "mnist_lab.publishing.headless"]
        self.process = subprocess.Popen(
            [*program, str(step.path), str(folder / step.path.name), json.dumps(parameters)],
            cwd=step.path.parent,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONINSPECT": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops its children
        )
        self.say(f"{step.path.name} starts")
        self.reader = threading.Thread(target=self.listen, daemon=True)
        self.reader.start()

    def say(self, line: str) -> None:
        self.lines.put(self.prefix + line)

    def listen(self) -> None:
        with self.process.stdout:
            for line in self.process.stdout:
                self.say(line.rstrip("\n"))

    def is_over(self) -> bool:
        """Whether it has ended, and all that it printed is in ``lines``."""
        return self.process.poll() is not None and not self.reader.is_alive()

    def check(self) -> None:
        """Say how long it took; NotebookError with the reason if it failed."""
        self.process.stdin.close()
        with self.errors:
            self.errors.seek(0)
            reason = self.errors.read().strip()
        if self.process.returncode:
            raise NotebookError(reason or f"{self.step.path.name}: its process ended ({self.process.returncode})")
        print(f"{self.prefix}{self.step.path.name} took {time.monotonic() - self.start:.0f} s", flush=True)


def write_overview(folder: Path, state: State, root: Path = ROOT) -> Path:
    """Write the page that shows a batch: its results beside the published ones, its notebooks and its figures."""
    changed = ", ".join(f"{name} = {value!r}" for name, value in state.parameters.items())
    tracked = [one for one in load(tracked_steps(root)) if one.step in state.steps]
    parts = [
        f"# Run of {folder.name}",
        f"Changed parameters: {changed}." if changed else "The parameters are those of the notebooks.",
        *section("Results of this run", load(folder)),
        *section("Published results of these steps", tracked),
        "## Notebooks",
        "\n".join(f"* [{path.name}]({path.name})" for path in sorted(folder.glob("*.ipynb"))),
        "## Figures",
        *(f"![{path.stem}]({path.name})" for path in sorted(folder.glob("*.png"))),
    ]
    page = folder / OVERVIEW
    write_whole(page, ("\n\n".join(parts) + "\n").encode())
    return page


def section(title: str, records: list) -> list[str]:
    """Return a heading and the table of ``records``."""
    return [f"## {title}", results_table(summarise(records)).markdown() if records else "There are none."]
