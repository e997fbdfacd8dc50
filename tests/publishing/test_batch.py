"""Batches of small notebooks: side by side, interrupted, and going on."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnist_lab import LabError, cli
from mnist_lab.evidence import records
from mnist_lab.publishing import batch, commands

DIGITS = ("-p", "DATA", "digits")


def parse(*arguments: str) -> argparse.Namespace:
    top = argparse.ArgumentParser()
    commands.add_commands(top.add_subparsers())
    return top.parse_args(arguments)


@pytest.fixture
def leaves_record(tmp_path, make_record):
    """Returns the source of a cell that leaves the result of a step."""

    def source(number: int) -> str:
        made = make_record(str(number), data="digits sample, not MNIST")
        line = records.as_line(made).decode()
        return (
            "import os, pathlib\n"
            f"folder = pathlib.Path(os.environ['MNIST_LAB_RUNS'], 'steps'); folder.mkdir(exist_ok=True)\n"
            f"(folder / '{number}.jsonl').write_text({line!r})"
        )

    return source


def folders(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob("runs/*/batch.json"))


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.read_text()


def test_steps_run_side_by_side_and_the_later_one_can_wait_for_the_earlier(
    root, write_step, leaves_record, make_record, capfd
):
    records.write([make_record("1")], root / "notebooks" / "records")
    meet = root / "second-runs"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(meet)!r}).exists(): time.sleep(0.05)"
    write_step(1, wait, "print('one')", leaves_record(1))  # would wait for ever, were it alone
    write_step(
        2,
        f"import os, pathlib, time; pathlib.Path({str(meet)!r}).touch()",
        "while pathlib.Path(os.environ['MNIST_LAB_RUNS'], '01.pending').exists(): time.sleep(0.05)",
        "assert pathlib.Path(os.environ['MNIST_LAB_RUNS'], 'steps', '1.jsonl').exists(); print('two', EPOCHS)",
        leaves_record(2),
    )
    tracked = {path: path.read_bytes() for path in (root / "notebooks").rglob("*.*")}
    folder = root / "runs" / "a"
    folder.mkdir()
    state = batch.State([1, 2], {"EPOCHS": 1}, "", [])
    batch.conduct(folder, state, root, processes=2)
    said = capfd.readouterr().out.splitlines()
    assert "[1] one" in said and "[2] two 1" in said
    assert json.loads((folder / "batch.json").read_text())["done"] == [1, 2]
    assert not list(folder.glob("*.pending"))
    page = batch.write_overview(folder, state, root).read_text()
    assert "EPOCHS = 1" in page and "digits sample, not MNIST" in page and "images of MNIST" in page
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert "02_trial.ipynb" in links and all((folder / link).exists() for link in links)
    assert tracked == {path: path.read_bytes() for path in (root / "notebooks").rglob("*.*")}


def test_threads_count_wherever_they_are_set(root, write_step, monkeypatch):
    step = write_step(2)
    write_step(1)
    edited = step.path.read_text("utf-8").replace("THREADS = 1", "THREADS = 4")
    step.path.write_text(edited, encoding="utf-8")

    def stop(threads):
        raise KeyboardInterrupt(threads)

    monkeypatch.setattr(batch, "usable_processes", stop)
    for parameters, threads in (({}, 4), ({"THREADS": 2}, 2)):
        with pytest.raises(KeyboardInterrupt) as caught:
            batch.conduct(root, batch.State([1, 2], parameters, "", []), root)
        assert caught.value.args == (threads,)


PROGRAM = """
import signal, sys
from pathlib import Path
import test_batch
from mnist_lab import cli
from mnist_lab.publishing import commands
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background job
with cli.terminable():
    commands.run(test_batch.parse("run", *test_batch.DIGITS), Path(sys.argv[1]))
"""


def run_until(root: Path, file: Path) -> tuple[subprocess.Popen, int]:
    """Start a run; return its process, and that of the kernel whose number a notebook writes to ``file``."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, root], stderr=subprocess.DEVNULL, env=environment)
    return process, int(wait_for(file))


def assert_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the kernel still runs")


def blocks(kernel: Path, file: Path) -> str:
    """Return the source of a cell that writes its process's number to ``kernel`` and waits for ``file``."""
    return (
        "import os, pathlib, time\n"
        f"pathlib.Path({str(kernel)!r}).write_text(str(os.getpid()))\n"
        f"while not pathlib.Path({str(file)!r}).exists(): time.sleep(0.05)"
    )


def test_a_killed_run_goes_on_with_the_step_that_is_not_complete(root, write_step, leaves_record, tmp_path, capfd):
    log, kernel, proceed = (tmp_path / name for name in ("log", "kernel", "go"))
    write_step(1, f"with open({str(log)!r}, 'a') as file: file.write('one ')", leaves_record(1))
    source = "while pathlib.Path(os.environ['MNIST_LAB_RUNS'], '01.pending').exists(): time.sleep(0.05)"
    write_step(2, "import os, pathlib, time", source, blocks(kernel, proceed), leaves_record(2))
    process, pid = run_until(root, kernel)
    process.kill()
    process.wait()
    assert_gone(pid)
    proceed.touch()
    assert commands.run(parse("run", *DIGITS), root) == 0
    said = capfd.readouterr().out
    assert "which has done step 1" in said and "02_trial.ipynb took" in said
    assert log.read_text() == "one "
    (folder,) = folders(root)
    assert [record.name for record in records.load(folder)] == ["1", "2"]
    assert batch.start(batch.find_steps(root), {"DATA": "digits"}, root, complete=True)[0] == folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_takes_its_kernel_with_it(root, write_step, tmp_path, number):
    write_step(1, blocks(tmp_path / "kernel", tmp_path / "never"))
    process, pid = run_until(root, tmp_path / "kernel")
    process.send_signal(number)
    assert process.wait(timeout=60) != 0
    assert_gone(pid)


def test_a_batch_is_found_again_by_steps_parameters_and_code(root, write_step, monkeypatch):
    steps = [write_step(1, "1"), write_step(2, "2")]
    (root / "runs" / "2026").mkdir()
    state = batch.State([1, 2], {"EPOCHS": 1}, batch.code_digest(steps, root), [1])
    state.save(root / "runs" / "2026")

    def goes_on(steps, parameters, **how) -> bool:
        folder, found = batch.start(steps, parameters, root, **how)
        if folder.name == "2026":
            return found == state
        (folder / "batch.json").unlink()
        folder.rmdir()
        return False

    assert goes_on(steps, {"EPOCHS": 1})
    for other, text in {"2027": "", "2028": '{"of": "another version"}', "2029": "[]"}.items():
        (root / "runs" / other).mkdir()
        (root / "runs" / other / "batch.json").write_text(text)
    assert goes_on(steps, {"EPOCHS": 1})
    assert not goes_on(steps, {"EPOCHS": 2})
    assert not goes_on(steps[:1], {"EPOCHS": 1})
    assert not goes_on(steps, {"EPOCHS": 1}, again=True)
    state.done.append(2)
    state.save(root / "runs" / "2026")
    assert not goes_on(steps, {"EPOCHS": 1})
    assert goes_on(steps, {"EPOCHS": 1}, complete=True)
    with monkeypatch.context() as another:
        another.setattr(batch, "version", lambda name: "of another library")
        assert not goes_on(steps, {"EPOCHS": 1}, complete=True)
    write_step(2, "3")
    assert not goes_on(steps, {"EPOCHS": 1}, complete=True)


def test_a_failing_step_fails_the_run_with_its_reason(root, write_step):
    write_step(1, "raise ValueError('no such thing')")
    with pytest.raises(LabError, match=r"01_trial.ipynb failed: ValueError: no such thing"):
        commands.run(parse("run", *DIGITS), root)
    (folder,) = folders(root)
    assert (folder / "01.pending").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "EPOHCS", "3"], "did you mean EPOCHS?"),
        (["-p", "EPOCHS", "many"], "EPOCHS is 'many'"),
        (["--step", "9"], "there is no step 9, only 1, 2"),
        (["--publish", "--quick"], "cannot be published, since parameters are changed"),
        (["--publish", "--step", "1"], "cannot be published, since not every step runs"),
    ],
)
def test_bad_arguments_are_told_before_anything_runs(root, write_step, arguments, message):
    write_step(1, "1 / 0"), write_step(2, "1 / 0")
    with pytest.raises(LabError, match=re.escape(message)):
        commands.run(parse("run", *arguments), root)
    assert not list((root / "runs").iterdir())


def test_where_there_are_no_steps_this_is_said(root):
    with pytest.raises(LabError, match="no step notebooks in"):
        commands.run(parse("run", *DIGITS), root)


def test_a_folder_that_cannot_be_written_is_a_sentence(root, write_step, capsys):
    write_step(1, "1")
    (root / "runs").rmdir()
    (root / "runs").write_text("not a folder")
    command = argparse.ArgumentParser()
    command.set_defaults(command=lambda _: commands.run(parse("run", *DIGITS), root))
    assert cli.main([], command) == 1
    assert "runs'. Check the disk" in capsys.readouterr().err
