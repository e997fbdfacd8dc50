"""The shell scripts, rendered, stored as AWS stores them, and carried out by bash on a machine of the emulator.

In most tests a stub takes the place of the package: what is tested is what the scripts do with a run, not the run.
No verdict depends on the clock: time limits are half an hour, and where one is to be over, a test ends what waits
for it.
"""

import dataclasses
import fcntl
import json
import os
import re
import signal
import subprocess
import threading

import nbformat
import pytest
from emulator import wait_for
from nbformat.v4 import new_code_cell, new_notebook

from mnist_lab.cloud.bundle import make_bundle, pack
from mnist_lab.cloud.deployment import defaults, make_job
from mnist_lab.cloud.instance import Instance
from mnist_lab.cloud.runs import read_status
from mnist_lab.cloud.script import SCRIPTS, read_back, render
from mnist_lab.cloud.settings import CloudSettings
from mnist_lab.publishing.notebooks import code_cells
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
    """A run from a bundle to S3, on an instance without a GPU."""

    def __init__(self, folder, machine, connect):
        self.folder, self.machine, self.connect = folder, machine, connect
        self.edit = lambda text: text  # a mutation of the script

    def stub(self, then: str) -> None:
        """Write a package whose step 3 is a few files and ``then``."""
        scripts = self.folder / "mnist_lab" / "cloud" / "scripts"
        scripts.mkdir(parents=True)
        (scripts / "requirements.txt").write_bytes((SCRIPTS / "requirements.txt").read_bytes())
        (self.folder / "mnist_lab" / "__init__.py").write_text("")
        (self.folder / "mnist_lab" / "cli.py").write_text(STUB.format(then=then))

    def notebook(self, *cells: str) -> None:
        """Write a notebook in step 3's place, with its parameters and ``cells``."""
        source = "\n".join(f"{name} = {value!r}" for name, value in defaults().items())
        head = new_code_cell(source, metadata={"tags": ["parameters"]})
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        (self.folder / "notebooks").mkdir()
        notebook = new_notebook(cells=[head, *map(new_code_cell, cells)], metadata=kernel)
        nbformat.write(notebook, self.folder / "notebooks" / "03_trial.ipynb")

    def place(
        self, then: str = "pass", *, cells: tuple[str, ...] = (), upload: bool = True, looks: float = 20, **settings
    ) -> None:
        """Put bundle and script into place, through the project's own code.

        ``then`` is what the stub does after it wrote its files; with ``cells``, the package itself runs a notebook of
        these. ``looks`` are the seconds that the instance waits before it tries something again.
        """
        self.folder.mkdir()
        self.notebook(*cells)
        if cells:
            (self.folder / "mnist_lab").symlink_to(ROOT / "mnist_lab")
        else:
            self.stub(then)
        settings = {"device": "cpu", "instance_type": "ml.t3.medium", "max_minutes": 30, "grace_minutes": 10} | settings
        self.account = self.connect(**settings)
        self.instance = Instance(self.account)
        bundle = make_bundle(self.folder)
        self.account.make_bucket()
        job = make_job(self.account.settings, "us-east-1", "lab-bucket", bundle, {"DATA": "digits"})
        self.job = dataclasses.replace(job, poll_seconds=looks)
        if upload:
            self.account.upload(self.job.bucket, self.job.bundle_key, bundle.content)
        self.put_script()

    def put_script(self) -> None:
        self.instance.put_script(self.edit(render(self.job)))

    def start(self) -> None:
        """Start the instance, and wait while it is Pending."""
        if self.instance.status() == "none":
            self.instance.create(self.account.role())
        else:
            self.instance.start()
        self.until(lambda: self.instance.status() != "Pending", "the end of the start script")

    def run(self, *then: str, **more):
        """Place, start, and wait until the instance has stopped itself; returns the run's status."""
        self.place(*then, **more)
        self.start()
        return self.end()

    def end(self):
        """Wait until the instance is at rest; returns the run's status."""
        self.until(lambda: self.instance.status() in ("Stopped", "Failed"), "the stop")
        return self.status()

    def status(self):
        return read_status(self.account, self.instance, self.job)

    def files(self) -> set[str]:
        """Return what the run has left in S3, by its name below the run's folder."""
        found = self.account.objects(self.job.bucket, self.job.folder)
        return {entry["Key"].removeprefix(self.job.folder) for entry in found}

    def text(self, name: str) -> str:
        return self.account.read(self.job.bucket, self.job.folder + name).decode()

    def until(self, condition, what: str):
        return wait_for(condition, what, self.machine.log)

    def told(self) -> bool:
        """Whether the worker has told S3 that it runs."""
        return "status.json" in self.files()


@pytest.fixture(scope="session")
def environments(tmp_path_factory):
    """Where the instance keeps what pip installed: on its volume, which the tests share; the first makes it."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def trial(tmp_path, machine, environments, connect):
    machine.work.mkdir(parents=True)
    (machine.work / ".environments").symlink_to(environments)
    return Trial(tmp_path / "lab", machine, connect)


def test_a_run_succeeds_stops_itself_and_is_not_repeated(trial, machine, environments):
    frozen = machine.root / "frozen"
    frozen.touch()
    trial.place()
    trial.start()  # to its end, though the worker cannot go on: the start script waits for nothing
    frozen.unlink()
    status = trial.end()
    assert (status.state, status.exit_code, status.code) == ("SUCCEEDED", 0, 0)
    assert trial.files() == {*OUTPUTS, "log.txt", "status.json", "_SUCCESS"}
    assert trial.text("output/steps/3.jsonl") == "a step"
    assert trial.text("output/note.txt") == "run --step 3 -p DATA digits -p DEVICE cpu"
    assert machine.said.startswith("mnist-lab: run")
    times = {
        entry["Key"].rpartition("/")[2]: entry["LastModified"]
        for entry in trial.account.objects("lab-bucket", trial.job.folder)
    }
    assert times["_SUCCESS"] >= max(times["status.json"], times["note.txt"])
    assert (machine.work / trial.job.run_id / "notebooks" / "03_trial.ipynb").is_file()  # for work by hand
    assert len(list(environments.glob("*/.installed"))) == 1  # kept, for the next start

    before = trial.files(), trial.text("status.json")
    kernels = machine.home / ".local" / "share" / "jupyter" / "kernels" / "mnist-lab" / "kernel.json"
    kernels.unlink()  # home does not outlive a stop
    trial.start()
    trial.until(kernels.is_file, "the kernel")
    trial.until(lambda: machine.scripts() == {"watchdog.sh"}, "the worker's end")
    assert "nothing is repeated" in machine.log()
    assert (trial.files(), trial.text("status.json")) == before
    assert trial.instance.status() == "InService"  # a person started it; the watchdog stays
    shown = json.loads(kernels.read_text())
    assert shown["argv"][0].startswith(str(machine.work))
    kernel = [shown["argv"][0], "-c", "import mnist_lab; print(mnist_lab.__file__)"]  # wherever its notebook is
    found = subprocess.check_output(kernel, cwd="/", env=machine.environment, text=True).strip()
    assert found == f"{machine.work / trial.job.run_id}/mnist_lab/__init__.py"
    end_the_cap(trial)
    assert trial.end().state == "SUCCEEDED"


def test_a_failing_cell_fails_the_run_and_its_notebook_comes_home(trial):
    status = trial.run(cells=("1 / 0",))
    assert (status.state, status.exit_code, status.code) == ("FAILED", 1, 1)
    assert "ZeroDivisionError" in status.reason and "ZeroDivisionError" in trial.text("log.txt")
    assert "ZeroDivisionError" in trial.text("output/03_trial.ipynb") and "_SUCCESS" not in trial.files()


def test_a_run_beyond_its_time_is_ended_and_what_it_has_comes_home(trial, machine):
    """The alarm of timeout(1) is given once the notebook is under way, however long a busy machine took for that."""
    begun = machine.root / "begun"
    trial.place(cells=("print('begun')", f"open({str(begun)!r}, 'w').close()\nimport time; {HANGS}"))
    trial.start()
    trial.until(begun.exists, "the notebook")
    ((pid, words),) = [(pid, words) for pid, words in machine.commands().items() if words[0] == "timeout"]
    assert 0 < int(words[2]) <= 1800
    os.kill(pid, signal.SIGALRM)
    status = trial.end()
    assert (status.state, status.exit_code) == ("TIMED_OUT", 124)
    assert status.reason == "the time was up (1800 s) while running step 3"
    notebook = nbformat.reads(trial.text("output/03_trial.ipynb"), as_version=4)
    assert any("begun" in str(cell.outputs) for cell in code_cells(notebook))


def kill_the_worker(trial) -> None:
    trial.place(HANGS, looks=0.5)
    trial.start()
    trial.until(trial.told, "the status")
    os.kill(trial.machine.worker(), signal.SIGKILL)
    trial.until(lambda: "worker.sh" not in trial.machine.scripts(), "the worker's end")


def end_the_cap(trial) -> None:
    pid, seconds = trial.until(trial.machine.cap, "the watchdog's sleep")
    assert seconds == trial.job.max_seconds + trial.job.grace_seconds == 2400
    os.kill(pid, signal.SIGKILL)


def test_the_watchdog_stops_what_a_killed_worker_leaves(trial, machine):
    kill_the_worker(trial)
    assert trial.instance.status() == "InService" and machine.scripts() == {"watchdog.sh"}
    end_the_cap(trial)
    status = trial.end()
    assert (status.state, status.code) == ("LOST", 1)
    assert json.loads(trial.text("status.json"))["state"] == "RUNNING"  # the file's last word
    assert "the time is up" in (machine.control / "watchdog.log").read_text()


def test_a_run_that_died_with_its_instance_is_carried_out_by_the_next_start(trial, machine):
    trial.place(HANGS)
    trial.start()
    trial.until(trial.told, "the status")
    machine.halt()  # power gone
    trial.instance.request_stop()
    assert trial.end().state == "LOST"
    trial.account.call("s3", "delete_object", Bucket="lab-bucket", Key=trial.job.bundle_key)  # for a short second try
    trial.start()
    assert "could not be fetched" in trial.end().reason


def test_mnist_travels_through_s3_to_where_the_package_looks_for_it(trial):
    path = "data/MNIST/raw/t10k-labels-idx1-ubyte"
    trial.place(f"shutil.copy({path!r}, run)")
    trial.job = dataclasses.replace(trial.job, mnist_key="mnist-lab/src/MNIST.tar.gz")
    trial.account.upload("lab-bucket", trial.job.mnist_key, pack({path.removeprefix("data/"): b"labels"}).content)
    trial.put_script()
    trial.start()
    status = trial.end()
    assert (status.state, status.reason) == ("SUCCEEDED", "")
    assert trial.text("output/t10k-labels-idx1-ubyte") == "labels"


def test_a_held_lock_keeps_a_second_worker_from_starting(trial, machine):
    trial.place()
    with open(machine.work / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        trial.start()
        trial.until(lambda: "another worker holds" in machine.log(), "the second worker")
        trial.until(lambda: machine.scripts() == {"watchdog.sh"}, "its end")
        assert trial.files() == set() and trial.instance.status() == "InService"


def test_a_missing_bundle_fails_the_run_at_once(trial):
    status = trial.run(upload=False)
    assert status.state == "FAILED" and "could not be fetched" in status.reason
    assert trial.files() == {"log.txt", "status.json"}


def test_a_bundle_of_other_bytes_is_not_executed(trial, machine):
    trial.place()
    trial.account.call("s3", "put_object", Bucket="lab-bucket", Key=trial.job.bundle_key, Body=b"something else")
    trial.start()
    status = trial.end()
    assert status.state == "FAILED" and "checksum" in status.reason
    assert not (machine.work / trial.job.run_id / "notebooks").exists()


def test_without_a_gpu_the_run_fails_and_never_uses_the_cpu(trial, machine):
    machine.environment["CUDA_VISIBLE_DEVICES"] = ""
    status = trial.run(cells=("1",), device="cuda", instance_type="ml.g4dn.xlarge")
    assert status.state == "FAILED" and "no usable GPU" in status.reason
    assert "PyTorch sees no CUDA GPU" in trial.text("log.txt")
    assert trial.files() == {"log.txt", "status.json"}


def test_without_pytorch_the_run_fails(trial, machine):
    (machine.home / "anaconda3" / "envs" / "pytorch" / "bin" / "python").unlink()
    status = trial.run()
    assert status.state == "FAILED" and "has PyTorch" in status.reason


def test_what_the_kernel_kills_for_its_memory_is_no_time_out(trial, machine):
    python = "#!/bin/bash\n[[ $1 == -c ]] && echo 3.10.9-2.10.0 && exit\nkill -KILL $$\n"
    machine.write("home/ec2-user/anaconda3/envs/pytorch/bin/python", python, 0o755)
    (machine.work / ".environments").unlink()
    status = trial.run()
    assert (status.state, status.exit_code) == ("FAILED", 137)
    assert status.reason == "killed while installing packages: the memory of the instance may be too small"


def test_a_full_volume_stops_the_instance_and_is_told(trial, machine):
    trial.place(grace_minutes=0.05, looks=0.2)
    log = machine.work / "logs" / f"{trial.job.run_id}.txt"
    log.parent.mkdir()
    log.symlink_to("/dev/full")
    trial.start()
    assert trial.end().state == "FAILED"
    assert trial.files() == {"status.json"}


def test_without_a_network_for_pip_the_run_fails(trial, machine, tmp_path):
    machine.install_python(site=str(tmp_path))  # nothing is there already
    (machine.work / ".environments").unlink()
    status = trial.run()
    assert status.state == "FAILED" and "pip could not install" in status.reason


def test_uploads_are_tried_again(trial, machine):
    trial.place(f"open({str(machine.root / 'offline')!r}, 'w').close()", looks=0.2)
    trial.start()
    trial.until((machine.root / "offline").exists, "the run")
    trial.until(lambda: "could not upload: again" in machine.log(), "the failing upload")
    assert trial.instance.status() == "InService"
    (machine.root / "offline").unlink()
    assert trial.end().state == "SUCCEEDED"
    assert {*OUTPUTS, "_SUCCESS"} <= trial.files()


def test_an_upload_that_lost_a_file_of_a_name_that_is_there_twice_is_no_success(trial, machine):
    """aws has been seen to do nothing, successfully; what S3 lists is compared path by path."""
    trial.edit = lambda text: text.replace("--recursive", "--recursive --exclude 'ablations/*'")
    status = trial.run(grace_minutes=0.05, looks=0.2)
    assert (status.state, "the outputs could not be uploaded" in status.reason) == ("FAILED", True)
    assert "output/steps/3.jsonl" in trial.files() and "_SUCCESS" not in trial.files()


def test_an_instance_whose_uploads_always_fail_stops_all_the_same(trial, machine):
    (machine.root / "offline").touch()
    trial.place(grace_minutes=0.05, looks=0.2)
    trial.start()
    assert trial.end().state == "NEW"  # not a word of it reached S3
    assert "S3 cannot be written to" in machine.log()


def test_a_start_without_a_name_fails_and_costs_nothing(trial, machine):
    (machine.root / "opt" / "ml" / "metadata" / "resource-metadata.json").write_text("{}")
    trial.place()
    trial.instance.create(trial.account.role())
    status = trial.end()
    assert (trial.instance.status(), status.state) == ("Failed", "FAILED")
    assert "the start script failed" in status.reason and "does not name this instance" in machine.said
    assert machine.processes() == []


def test_windows_line_ends_do_not_start(trial, machine):
    """Why the script is checked before it is stored."""
    trial.place()
    assert machine.boot("mnist-lab", render(trial.job).replace("\n", "\r\n").encode()) == 127


HOSTILE = [
    "'; touch {0}; '",
    '"; touch {0}; "',
    "$(touch {0})",
    "`touch {0}`",
    "a\\",
    "(x)",
    "END_OF_SETTINGS",
    "#",
    "* ? ~",
]


def test_hostile_strings_stay_values(trial, machine, tmp_path):
    """Quotes, substitutions and here-document ends in every setting reach the other side as they are."""
    pwned = tmp_path / "pwned"
    trial.place()
    words = tuple(text.format(pwned) for text in HOSTILE)
    texts = [item.name for item in dataclasses.fields(trial.job) if item.type is str and item.name != "run_id"]
    for name in texts:
        job = dataclasses.replace(trial.job, **{name: " ".join(words)}, arguments=words)
        assert read_back(render(job)) == job
        assert machine.boot("mnist-lab", render(job).encode()) == 0
        read = f'. {machine.control}/settings.sh; printf "%s\\n" "${name}" "${{arguments[@]}}"'
        said = subprocess.check_output(["bash", "-c", read], env=machine.environment, text=True).splitlines()
        assert said == [" ".join(words), *words]
        machine.halt()
    assert not pwned.exists()


def test_the_scripts_make_no_call_that_the_roles_policy_does_not_allow():
    """That S3 does what these need with the execution policy alone is in test_policy."""
    calls = "".join((SCRIPTS / name).read_text() for name in ("worker.sh", "common.sh"))
    assert set(re.findall(r"\baws (s3api|s3|sagemaker) ([a-z0-9-]+)", calls)) == {
        ("s3", "cp"), ("s3api", "head-object"), ("s3api", "list-objects-v2"),
        ("sagemaker", "describe-notebook-instance"), ("sagemaker", "stop-notebook-instance"),
    }  # fmt: skip


class TestMutations:
    """Each guard of the scripts removed: the harm that it prevents has to show, or these tests could not see it."""

    def test_without_redirection_the_hook_waits_for_the_worker(self, trial, machine):
        trial.edit = lambda text: text.replace(' </dev/null >>"$log" 2>&1 &', " &")
        trial.place(HANGS)
        assert trial.edit(render(trial.job)) != render(trial.job)
        hook = threading.Thread(target=machine.boot, args=("mnist-lab", trial.edit(render(trial.job)).encode()))
        hook.start()
        trial.until(trial.told, "the status")  # so the hook has done its part long ago
        waits = hook.is_alive()
        machine.halt()
        hook.join()
        assert waits and "mnist-lab: run" in machine.said

    def test_without_retry_a_pending_instance_is_never_stopped(self, trial, machine, aws):
        aws.pending_stops = 1
        trial.edit = lambda text: text.replace("stop_instance 60", "stop_instance 1")
        trial.place(upload=False, looks=0.2)
        assert trial.edit(render(trial.job)) != render(trial.job)
        trial.start()
        trial.until(lambda: machine.scripts() == {"watchdog.sh"}, "the worker's end")
        assert "COULD NOT BE STOPPED" in machine.log()
        assert aws.refused_stops == 1 and trial.instance.status() == "InService"

    def test_with_retry_it_is(self, trial, aws):
        aws.pending_stops = 2
        assert trial.run(upload=False, looks=0.2).state == "FAILED"
        assert aws.refused_stops == 2

    def test_without_the_watchdog_a_killed_worker_leaves_the_instance_running(self, trial, machine):
        trial.edit = lambda text: text.replace('setsid nohup bash "$control/watchdog.sh"', ": ")
        kill_the_worker(trial)
        assert trial.edit(render(trial.job)) != render(trial.job)
        assert machine.scripts() == set() and machine.cap() is None  # nobody is left who could stop it
        assert trial.instance.status() == "InService"

    def test_without_leaving_a_folder_that_is_gone_nothing_is_uploaded(self, trial, machine):
        """aws does nothing, successfully, in a folder that was deleted; so the end happens in /."""
        trial.edit = lambda text: re.sub(r"^ *cd / .*\n", "", text, flags=re.MULTILINE)
        trial.place(DELETES, looks=0.5)
        assert trial.edit(render(trial.job)).count("cd / ") == render(trial.job).count("cd / ") - 2
        trial.start()
        trial.until(lambda: "could not upload" in machine.log(), "the failing upload")
        assert json.loads(trial.text("status.json"))["state"] == "RUNNING"


def test_a_run_that_deletes_its_own_folder_still_tells_and_stops(trial):
    assert trial.run(f"{DELETES}; 1 / 0").state == "FAILED"
    assert "log.txt" in trial.files()


def test_outside_of_tests_paths_are_the_instances(tmp_path):
    job = make_job(CloudSettings(), "us-east-1", "lab-bucket", make_bundle(), {})
    settings = render(job).partition("END_OF_SETTINGS'\n")[2].partition("END_OF_SETTINGS\n")[0]
    (tmp_path / "settings.sh").write_text(settings)
    read = f'. {tmp_path}/settings.sh; echo "$user $work $control"'
    said = subprocess.check_output(["env", "-i", "bash", "-c", read], text=True)
    assert said.split() == ["ec2-user", "/home/ec2-user/SageMaker/mnist-lab", "/var/lib/mnist-lab"]


def test_the_emulator_is_on_this_machine_alone(emulator, connect):
    assert emulator.url.startswith("http://127.0.0.1:") and connect().number() == "123456789012"
