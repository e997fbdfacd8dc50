"""The shell scripts, rendered, stored as AWS stores them, and carried out by bash on a machine of the emulator.

No verdict here is the clock's: caps are half an hour, and where one is to be over, a test ends what waits for it.
"""

import dataclasses
import fcntl
import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import boto3
import nbformat
import pytest
from emulator import wait_for
from nbformat.v4 import new_code_cell, new_notebook

from mnist_lab.cloud import script as script_module
from mnist_lab.cloud.account import Account
from mnist_lab.cloud.bundle import make_bundle, pack_mnist
from mnist_lab.cloud.deployment import make_job
from mnist_lab.cloud.instance import Instance
from mnist_lab.cloud.runs import read_status
from mnist_lab.cloud.script import render
from mnist_lab.cloud.settings import CloudSettings
from mnist_lab.runner import code_cells, find_steps, parameters_cell
from mnist_lab.runtime import ROOT

TRIAL = "import os, pathlib; pathlib.Path(os.environ['MNIST_LAB_RUNS'], 'note.txt').write_text('done')"

BY_HAND = "(pathlib.Path(os.environ['MNIST_LAB_RUNS']).parent / 'by-hand').mkdir()"  # by a person, meanwhile

SLEEPS = "import time; time.sleep(3600)"

DELETES = "import os, shutil; shutil.rmtree(os.path.dirname(os.getcwd()))"


class Trial:
    """A run of a small notebook in step 3's place, from a bundle to S3, on an instance without a GPU."""

    def __init__(self, folder, machine):
        self.folder, self.machine = folder, machine
        self.settings = CloudSettings(
            region="us-east-1", role="lab", bucket="lab-bucket", device="cpu", instance_type="ml.t3.medium",
            max_minutes=30, grace_minutes=10, poll_seconds=0.2,
        )  # fmt: skip
        self.edit = lambda text: text  # a mutation of the script

    def checkout(self, *cells: str):
        (self.folder / "notebooks").mkdir(parents=True)
        (self.folder / "mnist_lab").symlink_to(ROOT / "mnist_lab")
        third = next(step for step in find_steps() if step.number == 3)
        head = new_code_cell(
            parameters_cell(nbformat.read(third.path, as_version=4)).source, metadata={"tags": ["parameters"]}
        )
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        notebook = new_notebook(cells=[head, *map(new_code_cell, cells)], metadata=kernel)
        nbformat.write(notebook, self.folder / "notebooks" / "03_trial.ipynb")

    def place(
        self, *cells: str, upload: bool = True, parameters: dict | None = None, looks: float = 20, **settings
    ) -> None:
        """Bring bundle and script into place, through the project's own code. ``looks``: seconds between retries."""
        self.settings = dataclasses.replace(self.settings, **settings)
        self.checkout(*(cells or (TRIAL,)))
        self.account = Account(self.settings)
        self.instance = Instance(self.account)
        bundle = make_bundle(self.folder)
        self.account.make_bucket()
        job = make_job(self.settings, "us-east-1", "lab-bucket", bundle, {"DATA": "digits", **(parameters or {})})
        self.job = dataclasses.replace(job, poll_seconds=looks)
        if upload:
            self.account.upload(self.job.bucket, self.job.bundle_key, bundle.content)
        if self.job.mnist_key:
            self.account.upload(self.job.bucket, self.job.mnist_key, pack_mnist(Path(self.settings.data)).content)
        self.instance.put_script(self.edit(render(self.job)))

    def start(self) -> None:
        """Start the instance, and wait while it is Pending."""
        if self.instance.status() == "none":
            self.instance.create(self.account.role())
        else:
            self.instance.start()
        self.until(lambda: self.instance.status() != "Pending", "the end of the start script")

    def run(self, *cells: str, **more):
        """Place, start, and wait until the instance has stopped itself; returns the run's status."""
        self.place(*cells, **more)
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
def trial(tmp_path, machine, environments):
    machine.work.mkdir(parents=True)
    (machine.work / ".environments").symlink_to(environments)
    return Trial(tmp_path / "lab", machine)


def test_a_run_succeeds_stops_itself_and_is_not_repeated(trial, machine, environments):
    frozen = machine.root / "frozen"
    frozen.touch()
    trial.place(TRIAL, BY_HAND)
    trial.start()  # to its end, though the worker cannot go on: the hook waits for nothing
    frozen.unlink()
    status = trial.end()
    assert (status.state, status.exit_code, status.code) == ("SUCCEEDED", 0, 0)
    assert trial.files() == {"output/03_trial.ipynb", "output/note.txt", "log.txt", "status.json", "_SUCCESS"}
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
    assert trial.instance.status() == "InService"  # a person came to look; the watchdog stays
    shown = json.loads(kernels.read_text())
    assert shown["argv"][0].startswith(str(machine.work))
    code = "import mnist_lab.cloud.gpu; print(mnist_lab.__file__)"  # in that kernel, wherever the notebook is
    kernel = [shown["argv"][0], "-c", code]
    found = subprocess.check_output(kernel, cwd="/", env=machine.environment, text=True).strip()
    assert found == f"{machine.work / trial.job.run_id}/mnist_lab/__init__.py"
    end_the_cap(trial)
    assert trial.end().state == "SUCCEEDED"


def test_a_failing_cell_fails_the_run_and_its_notebook_comes_home(trial):
    status = trial.run("1 / 0")
    assert (status.state, status.exit_code, status.code) == ("FAILED", 1, 1)
    assert "ZeroDivisionError" in status.reason and "ZeroDivisionError" in trial.text("log.txt")
    assert trial.files() == {"output/03_trial.ipynb", "log.txt", "status.json"}
    assert "ZeroDivisionError" in trial.text("output/03_trial.ipynb")


def test_a_run_beyond_its_time_is_ended_and_what_it_has_comes_home(trial, machine):
    """The alarm of timeout(1) is given once the notebook is under way, however long a busy machine took for that."""
    begun = machine.root / "begun"
    trial.place("print('begun')", f"import pathlib; pathlib.Path({str(begun)!r}).touch()\n{SLEEPS}")
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
    trial.place(SLEEPS, looks=0.5)
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
    trial.place(SLEEPS)
    trial.start()
    trial.until(trial.told, "the status")
    machine.halt()  # power gone
    trial.instance.request_stop()
    assert trial.end().state == "LOST"
    trial.account.call("s3", "delete_object", Bucket="lab-bucket", Key=trial.job.bundle_key)  # for a short second try
    trial.start()
    assert "could not be fetched" in trial.end().reason


def test_mnist_travels_through_s3(trial, machine, mnist):
    folder = os.environ.get("MNIST_LAB_DATA") or ROOT / "data"
    machine.environment["https_proxy"] = "http://127.0.0.1:9"  # nothing could be downloaded
    status = trial.run(data=str(folder), parameters={"DATA": "MNIST"})
    assert (status.state, status.reason) == ("SUCCEEDED", "")
    assert (machine.work / "data" / "MNIST" / "raw" / "t10k-images-idx3-ubyte").stat().st_size == 7_840_016


def test_a_held_lock_keeps_a_second_worker_from_starting(trial, machine, emulator):
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
    status = trial.run(device="cuda", instance_type="ml.g4dn.xlarge")
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
    trial.place(grace_minutes=0.05, looks=0.5)
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
    waits = f"import pathlib; pathlib.Path({str(machine.root / 'offline')!r}).touch()"
    trial.place(waits + "\n" + TRIAL, looks=0.5)
    trial.start()
    trial.until((machine.root / "offline").exists, "the notebook")
    trial.until(lambda: "could not upload: again" in machine.log(), "the failing upload")
    assert trial.instance.status() == "InService"
    (machine.root / "offline").unlink()
    assert trial.end().state == "SUCCEEDED"
    assert {"output/note.txt", "_SUCCESS"} <= trial.files()


def test_an_instance_whose_uploads_always_fail_stops_all_the_same(trial, machine):
    (machine.root / "offline").touch()
    trial.place(grace_minutes=0.05, looks=0.5)
    trial.start()
    assert trial.end().state == "NEW"  # not a word of it reached S3
    assert "S3 cannot be written to" in machine.log()


def test_a_start_without_a_name_or_aws_fails_and_costs_nothing(trial, machine):
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
        assert script_module.read_back(render(job)) == job
        assert machine.boot("mnist-lab", render(job).encode()) == 0
        read = f'. {machine.control}/settings.sh; printf "%s\\n" "${name}" "${{arguments[@]}}"'
        said = subprocess.check_output(["bash", "-c", read], env=machine.environment, text=True).splitlines()
        assert said == [" ".join(words), *words]
        machine.halt()
    assert not pwned.exists()


def test_the_role_needs_no_more_than_its_policy(trial):
    """S3 of a whole run with the execution policy alone is in test_cloud_policy; here: no call but these is made."""
    calls = (ROOT / "mnist_lab/cloud/scripts/worker.sh").read_text() + (
        ROOT / "mnist_lab/cloud/scripts/common.sh"
    ).read_text()
    assert set(re.findall(r"\baws (s3api|s3|sagemaker) ([a-z0-9-]+)", calls)) == {
        ("s3", "cp"), ("s3api", "head-object"), ("s3api", "list-objects-v2"),
        ("sagemaker", "describe-notebook-instance"), ("sagemaker", "stop-notebook-instance"),
    }  # fmt: skip


class TestMutations:
    """Each guard of the scripts removed: the harm that it prevents has to show, or these tests could not see it."""

    def test_without_redirection_the_hook_waits_for_the_worker(self, trial, machine):
        trial.edit = lambda text: text.replace(' </dev/null >>"$log" 2>&1 &', " &")
        trial.place(SLEEPS)
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
        trial.place(upload=False)
        assert trial.edit(render(trial.job)) != render(trial.job)
        trial.start()
        trial.until(lambda: machine.scripts() == {"watchdog.sh"}, "the worker's end")
        assert "COULD NOT BE STOPPED" in machine.log()
        assert aws.refused_stops == 1 and trial.instance.status() == "InService"

    def test_with_retry_it_is(self, trial, aws):
        aws.pending_stops = 2
        assert trial.run(upload=False, looks=0.5).state == "FAILED"
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
        trial.place(DELETES)
        assert trial.edit(render(trial.job)).count("cd / ") == render(trial.job).count("cd / ") - 2
        trial.start()
        trial.until(lambda: "could not upload" in machine.log(), "the failing upload")
        assert json.loads(trial.text("status.json"))["state"] == "RUNNING"


def test_a_run_that_deletes_its_own_folder_still_tells_and_stops(trial):
    assert trial.run(DELETES).state == "FAILED"
    assert "log.txt" in trial.files()


def test_outside_of_tests_paths_are_the_instances(tmp_path):
    job = make_job(CloudSettings(), "us-east-1", "lab-bucket", make_bundle(), {})
    settings = render(job).partition("END_OF_SETTINGS'\n")[2].partition("END_OF_SETTINGS\n")[0]
    (tmp_path / "settings.sh").write_text(settings)
    read = f'. {tmp_path}/settings.sh; echo "$user $work $control"'
    said = subprocess.check_output(["env", "-i", "bash", "-c", read], text=True)
    assert said.split() == ["ec2-user", "/home/ec2-user/SageMaker/mnist-lab", "/var/lib/mnist-lab"]


def test_emulator_is_on_this_machine_alone(emulator, aws):
    assert emulator.url.startswith("http://127.0.0.1:")
    assert boto3.client("sts", region_name="us-east-1").get_caller_identity()["Account"] == "123456789012"
