"""No machine outlives its time, behind any door: whoever is killed, cut off or refused."""

import base64
import gc
import json
import os
import signal
import subprocess
import sys
import warnings

import boto3
import botocore.httpsession
import pytest
from emulator import OF_THE_SDK, PATIENCE, WHERE, user_data_of, wait_for
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.sagemaker.models import sagemaker_backends
from test_doors import DOORS, left
from trial import HANGS, Trial

from mnist_lab.cloud import verbs
from mnist_lab.cloud.errors import CloudError
from mnist_lab.options import Interrupted
from mnist_lab.runtime import ROOT

pytestmark = [
    pytest.mark.filterwarnings(*OF_THE_SDK),
    pytest.mark.usefixtures("packed"),
]
MOMENTS = 10
SEND = botocore.httpsession.URLLib3Session.send
MINUTES = 70  # of a run: its limit and its grace


class Killed(Exception):
    """The client is gone: this request was carried out, and nobody hears its answer; the later ones never leave."""


class Client:
    """Counts the requests of this process, and ends it at one of them."""

    def __init__(self, last: float = float("inf")):
        self.count, self.last = 0, last

    def send(self, session, request):
        if self.count >= self.last:
            raise Killed
        answer = SEND(session, request)
        self.count += 1
        if self.count >= self.last:
            raise Killed
        return answer


@pytest.fixture
def killed_at(monkeypatch):
    """Has the client killed at its request number so and so, counted from now on."""

    def kill(last: float = float("inf")) -> Client:
        client = Client(last)
        monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", lambda *both: client.send(*both))
        return client

    return kill


def active(door: str) -> list:
    """Return what costs money by the second."""
    ends = ("Stopped", "Failed", "Completed")
    word = {"notebook": "NotebookInstanceStatus", "job": "TrainingJobStatus"}
    return [one for one in left(door) if "State" in one or (door != "ec2" and one[word[door]] not in ends)]


def is_capped(door: str, found: dict) -> bool:
    """Whether what AWS knows of a machine ends it within the minutes of its run, with nobody's help."""
    if door == "job":
        job = sagemaker_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].training_jobs[found["TrainingJobName"]]
        return job.stopping_condition["MaxRuntimeInSeconds"] == 60 * MINUTES
    if door == "ec2":
        instance = ec2_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].get_instance(found["InstanceId"])
        ends = instance.instance_initiated_shutdown_behavior == "terminate"
        return ends and user_data_of(instance).decode().splitlines()[1].startswith(f"shutdown -h +{MINUTES} ")
    name = found["NotebookInstanceLifecycleConfigName"]
    script = sagemaker_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].notebook_instance_lifecycle_configurations[name]
    text = base64.b64decode(script.on_start[0]["Content"]).decode()
    return "for task in cap worker" in text and "max_seconds=3600\ngrace_seconds=600\n" in text


@pytest.mark.parametrize("door", DOORS)
def test_a_client_killed_at_any_of_ten_moments_leaves_only_what_ends_by_itself(door, aws, lab, killed_at):
    """What exists at each moment has its own end, is found by the next client, and goes when it says so."""
    whole = killed_at()
    assert lab("run", "--door", door, "--detach") == 0
    requests = whole.count
    assert lab("down", "--door", door, "--yes") == 0
    started = 0
    for moment in range(MOMENTS):
        killed_at(1 + round(moment * (requests - 1) / (MOMENTS - 1)))
        with pytest.raises(Exception) as caught:
            lab("run", "--door", door, "--detach")
        assert isinstance(caught.value, Killed) or "Killed" in repr(caught.value.__context__), caught.value
        killed_at()
        there = active(door)
        assert all(is_capped(door, one) for one in there)
        started += bool(there)
        if there:
            assert lab("status", "--door", door) == 0 and lab("stop", "--door", door) == 0
            assert active(door) == []
        assert lab("down", "--door", door, "--yes") == 0
        assert left(door) == [] and boto3.client("s3").list_buckets()["Buckets"] == []
    assert started, "no moment was after the start"
    del caught
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # of the SDK, whose killed calls leave temporary folders behind


@pytest.fixture
def trial(tmp_path, machine, environments, connect):
    """A run behind any door, whose packages are installed already."""
    for place in machine.places:
        place.mkdir(parents=True)
        (place / ".environments").symlink_to(environments)
    return Trial(tmp_path / "lab", machine, connect)


@pytest.mark.parametrize("door", DOORS)
def test_a_killed_worker_ends_its_machine_at_once(door, trial):
    trial.place(HANGS, door=door, looks=0.2)
    trial.start()
    trial.until(trial.told, "the status")
    os.kill(trial.until(trial.machine.worker, "the worker"), signal.SIGKILL)
    status = trial.end()
    assert (status.state, status.code) == ("LOST", 1) and trial.machine.processes() == []
    assert json.loads(trial.text("status.json"))["state"] == "RUNNING"  # the file's last word


@pytest.mark.parametrize("door", DOORS)
def test_where_the_guard_is_killed_too_the_cap_ends_the_machine(door, trial, aws):
    trial.place(HANGS, door=door, looks=0.2)
    trial.start()
    trial.until(trial.told, "the status")
    if door == "job":  # nothing in the container counts: AWS ends it
        (job,) = sagemaker_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].training_jobs.values()
        assert job.stopping_condition == {"MaxRuntimeInSeconds": 2400}
        job.end()
    else:
        pid, seconds = trial.until(trial.machine.cap, "the cap")
        assert seconds == 2400
        os.kill(trial.machine.guard(), signal.SIGKILL)
        os.kill(trial.until(trial.machine.worker, "the worker"), signal.SIGKILL)
        if door == "ec2":  # the system's own timer, which was set first of all
            assert (trial.machine.root / "shutdown").read_text().splitlines()[0] == "-h +40"
            os.kill(pid, signal.SIGSTOP)  # not the second process: its patience has no end here
            trial.machine.off.touch()
        else:
            os.kill(pid, signal.SIGKILL)
    assert trial.end().state == "LOST"


@pytest.mark.parametrize("door", DOORS)
def test_without_a_network_the_machine_ends_all_the_same(door, trial):
    """A notebook instance needs its API for that, and asks until it answers; the others need nothing."""
    unplugged = trial.machine.root / "unplugged"
    trial.place(door=door, looks=0.2, grace_minutes=0.05)
    unplugged.touch()
    trial.start()
    if door == "notebook":
        trial.until((trial.machine.control / "worker.log").exists, "the guard")
        log = trial.machine.control / "worker.log"
        trial.until(lambda: "COULD NOT BE STOPPED FROM HERE" in log.read_text(), "the refusal")
        unplugged.unlink()
    assert trial.end().state in ("NEW", "FAILED")
    assert "S3 cannot be written to" in trial.machine.log()


@pytest.mark.parametrize("door", DOORS)
def test_who_may_not_stop_is_told_and_the_machine_ends_by_itself(door, trial, aws, lab):
    """The operator may not stop anything; the machine, its role or its cap may."""
    aws.may_stop = lambda agent: "mnist-lab" not in agent
    then = f"while not os.path.exists({str(trial.machine.root / 'go')!r}): time.sleep(0.1)"
    trial.place(f"\n    {then}", door=door, looks=0.2)
    trial.start()
    trial.until(trial.told, "the status")
    with pytest.raises(CloudError, match="is not allowed"):
        trial.door.stop(trial.job)
    (trial.machine.root / "go").touch()
    assert trial.end().state == "SUCCEEDED" and aws.refused_stops >= 1


def test_a_machine_that_may_not_stop_itself_is_stopped_by_the_client(trial, aws, options, capsys):
    """Only a notebook instance needs a permission to end."""
    aws.may_stop = lambda agent: "mnist-lab" in agent
    trial.place(looks=0.2)
    trial.start()
    trial.until(lambda: aws.refused_stops, "the refusal")
    session = verbs.Session(options("status", *WHERE))
    session.door = trial.door
    assert verbs.follow(session, trial.job, moving=0.5).state == "SUCCEEDED"
    assert "stopping it from here" in capsys.readouterr().out and trial.word() == "Stopped"


@pytest.mark.parametrize("door", DOORS)
def test_a_signal_stops_the_machine_too(door, aws, lab, monkeypatch, capsys):
    def stopped(*arguments):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(verbs, "follow", stopped)
    assert lab("run", "--door", door) == 143
    assert "and the machine with it" in capsys.readouterr().out and active(door) == []


@pytest.mark.parametrize(("door", "number"), [("notebook", signal.SIGKILL), ("ec2", signal.SIGINT)])
def test_a_process_that_ends_leaves_no_machine(door, number, machine, aws):
    """Killed, it cannot stop anything, and the cap does; interrupted, it stops the machine itself."""
    frozen = machine.root / "frozen"  # nothing on the machine gets anywhere
    frozen.touch()
    program = (  # a background job of a shell, as these tests may be, starts with Ctrl-C ignored
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from mnist_lab.cli import main; sys.exit(main())"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", program, "cloud", "run", "--door", door, *WHERE],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for(lambda: aws.boots or client.poll() is not None, "the start")
        assert client.poll() is None, client.communicate()
        client.send_signal(number)
        said, _ = client.communicate(timeout=PATIENCE)
    finally:
        client.kill()
    assert client.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}[number]
    assert "Traceback" not in said and (number == signal.SIGKILL or "and the machine with it" in said)
    if number == signal.SIGKILL:
        pid, _ = wait_for(machine.cap, "the cap", machine.log)
        os.kill(pid, signal.SIGKILL)  # its time is over
        frozen.unlink()
    wait_for(lambda: not active(door), "the end", machine.log)
