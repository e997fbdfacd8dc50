"""The verbs through the command line, against the emulator; step 3 itself is carried out once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import boto3
import nbformat
import pytest
from emulator import PATIENCE, Machine, wait_for

from mnist_lab import cli, publish, runner
from mnist_lab.cloud import verbs
from mnist_lab.cloud.account import Account
from mnist_lab.cloud.deployment import current_job
from mnist_lab.cloud.instance import Instance
from mnist_lab.cloud.settings import CloudSettings
from mnist_lab.records import load_record
from mnist_lab.runtime import ROOT

WHERE = ["--region", "us-east-1", "--bucket", "lab-bucket", "--role", "lab", "--poll-seconds", "0.1"]
LOOK = ["--quick", "-p", "DATA", "digits", "-p", "TRAIN_LIMIT", "1000", "-p", "EPOCHS", "1", "-p", "THREADS", "1"]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Nothing of the checkout is written to."""
    monkeypatch.setattr(verbs, "FETCHED", tmp_path / "fetched")
    (tmp_path / "records").mkdir()
    for path in publish.RECORDS.glob("*.json"):
        shutil.copy(path, tmp_path / "records")
    shutil.copy(publish.README, tmp_path)
    for name, path in [("RECORDS", "records"), ("README", "README.md"), ("RUNS", ".")]:
        monkeypatch.setattr(publish, name, tmp_path / path)


def lab(verb: str, *arguments: str) -> int:
    return cli.main(["sagemaker", verb, *WHERE, *arguments])


def instance_status() -> str:
    client = boto3.client("sagemaker", region_name="us-east-1")
    return client.describe_notebook_instance(NotebookInstanceName="mnist-lab")["NotebookInstanceStatus"]


def test_step_3_runs_comes_home_and_leaves_nothing_behind(aws, emulator, tmp_path, capsys):
    machine = Machine(tmp_path / "machine", emulator, stub_cuda=True, told="3.10.9-2.10.0")
    aws.on_boot, aws.on_halt = machine.boot, machine.halt
    try:
        code = lab("run", "--json", "--poll-seconds", "3", *LOOK)
        out, err = capsys.readouterr()
        assert code == 0, err
        said = json.loads(out)
        assert (said["state"], said["instance"], said["kept"]) == ("SUCCEEDED", "Stopped", False)
        assert "PyTorch" in said["machine"] and said["usd"] > 0 and 0 < said["accuracy"] <= 1
        assert instance_status() == "Stopped" and machine.processes() == []
        assert "  | epoch  1/1" in err
        folder = tmp_path / "fetched" / said["run_id"]
        names = {path.name for path in folder.iterdir()}
        assert {"03_augmentation_onecycle.ipynb", "step-3-seed-0.json", "step-3a-seed-0.json", "03_confusion.png",
                "log.txt", "status.json", "_SUCCESS"} <= names  # fmt: skip
        notebook = nbformat.read(folder / "03_augmentation_onecycle.ipynb", as_version=4)
        assert runner.faults(notebook) == []
        record = load_record(folder / "step-3-seed-0.json")
        assert record.settings["device"] == "cuda" and len(record.environment["commit"]) >= 40
        assert not (tmp_path / "records" / "gpu").exists()  # a quick look is no result

        boots = len(aws.boots)
        assert lab("run", *LOOK) == 0  # the same again: nothing starts
        assert "has succeeded already" in capsys.readouterr().out and len(aws.boots) == boots
        assert lab("status", "--json") == 0
        assert json.loads(capsys.readouterr().out)["state"] == "SUCCEEDED"
        assert lab("logs", "--follow") == 0
        assert "SUCCEEDED" in capsys.readouterr().out
        assert lab("fetch") == 0

        assert lab("down", "--yes") == 0
        client = boto3.client("sagemaker", region_name="us-east-1")
        assert client.list_notebook_instances()["NotebookInstances"] == []
        with pytest.raises(client.exceptions.ClientError):
            client.describe_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName="mnist-lab")
        assert boto3.client("s3").list_buckets()["Buckets"] == []
    finally:
        machine.halt()


def test_a_full_run_on_a_gpu_is_kept_and_compared_with_the_study(aws, tmp_path, capsys, on_gpu):
    assert lab("up") == 0
    instance = Instance(Account(CloudSettings(region="us-east-1")))
    job = current_job(instance)
    told = {"state": "SUCCEEDED", "exit_code": 0, "machine": "Tesla T4", "started": 1000, "updated": 1300}
    for name, content in [
        ("output/step-3-seed-0.json", json.dumps(asdict(on_gpu))),
        ("status.json", json.dumps(told)),
        ("_SUCCESS", "1"),
    ]:
        boto3.client("s3").put_object(Bucket="lab-bucket", Key=job.folder + name, Body=content.encode())
    capsys.readouterr()
    assert lab("fetch") == 0
    said = capsys.readouterr().out
    assert f"Tesla T4, seed 0: {100 * on_gpu.accuracy:.2f} %" in said and "CPU" in said
    assert "time: 5.0 min, about 0.06 USD" in said
    kept = load_record(tmp_path / "records" / "gpu" / "step-3-seed-0.json")
    assert kept.environment["device"] == "Tesla T4"
    assert f"**On a GPU:** Tesla T4, seed 0: {100 * kept.accuracy:.2f} %" in (tmp_path / "README.md").read_text()
    assert lab("stop") == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_client_that_ends_leaves_no_running_instance(machine, aws, number):
    """Killed, it cannot stop anything, and the watchdog does; interrupted, it asks for the stop itself."""
    frozen = machine.root / "frozen"  # nothing on the machine gets anywhere
    frozen.touch()
    program = (  # a background job of a shell, as these tests may be, starts with Ctrl-C ignored
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from mnist_lab.cli import main; sys.exit(main())"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", program, "sagemaker", "run", *WHERE, *LOOK],
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
    assert client.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in said and (number == signal.SIGKILL or "stop requested" in said)
    if number == signal.SIGKILL:
        wait_for(lambda: instance_status() == "InService", "the end of the start script")
        pid, _ = wait_for(machine.cap, "the watchdog", machine.log)
        os.kill(pid, signal.SIGKILL)  # the cap is over
        frozen.unlink()
    wait_for(lambda: instance_status() == "Stopped", "the stop", machine.log)


def no_gpu_run(*arguments: str) -> int:
    return lab("run", "--device", "cpu", "--instance-type", "ml.t3.medium", *LOOK, *arguments)


def test_a_failing_run_fails_the_command_with_its_reason(machine, capsys):
    (machine.home / "anaconda3" / "envs" / "pytorch" / "bin" / "python").unlink()
    assert no_gpu_run() == 1
    said = capsys.readouterr().out
    assert "FAILED, no environment in" in said and instance_status() == "Stopped"
    assert lab("fetch") == 1


def test_a_start_script_that_fails_is_told_with_where_to_look(aws, capsys):
    aws.on_boot = lambda name, script: 1
    assert no_gpu_run() == 1
    assert "logs --hook" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quota": 0}, "the account's quota does not allow"),
        ({"capacity": False}, "AWS has no such instance free"),
    ],
)
def test_what_aws_refuses_is_one_sentence(aws, capsys, changes, message):
    for name, value in changes.items():
        setattr(aws, name, value)
    assert no_gpu_run() == 1
    out, err = capsys.readouterr()
    assert message in out + err and "Traceback" not in out + err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--role", "nobody"], "there is no role nobody"),
        (["--region", "us-nowhere-1"], "which SageMaker does not have"),
        (["--region", "nowhere"], "--region is 'nowhere'"),
        (["--instance-type", "ml.t3.medium"], "has no GPU"),
        (["-p", "EPOHCS", "3"], "did you mean EPOCHS"),
        (["-p", "MODEL", "CompactNet\n"], "MODEL"),
        (["--data", "/nowhere", "-p", "DATA", "MNIST"], "no MNIST in /nowhere"),
    ],
)
def test_a_wrong_request_is_one_sentence(aws, capsys, arguments, message):
    assert lab("run", *arguments) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("error:") == 1 and "Traceback" not in said
    assert aws.boots == []


def test_missing_credentials_are_one_sentence(aws, capsys, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert lab("run") == 1
    assert "there are no AWS credentials: run aws configure" in capsys.readouterr().err


def test_a_detached_run_returns_at_once_and_open_attaches_a_person(aws, capsys):
    assert lab("up", *LOOK) == 0  # nothing runs on this machine: an empty start script
    assert lab("run", "--detach", "--json", *LOOK) == 0
    capsys.readouterr()
    assert lab("open", "--json", "--max-minutes", "90") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["url"].startswith("https://mnist-lab")
    assert "stops it 70 min after its start" in err  # that start's cap, whatever is asked for now
    assert lab("stop") == 0 and instance_status() == "Stopped"
    assert lab("open", "--max-minutes", "90") == 0  # starts it, with this cap
    assert current_job(Instance(Account(CloudSettings(region="us-east-1")))).max_seconds == 5400
    assert lab("stop") == 0


def test_without_a_run_the_verbs_say_so(aws, capsys):
    for verb in ("logs", "fetch", "open"):
        assert lab(verb) == 1
        assert "mnist-lab sagemaker run" in capsys.readouterr().err
    assert lab("stop") == 0 and lab("status") == 0


def test_the_start_scripts_output_is_shown(aws, capsys):
    assert lab("logs", "--hook") == 1
    assert "there is no log" in capsys.readouterr().err
    logs = boto3.client("logs", region_name="us-east-1")
    group, stream = "/aws/sagemaker/NotebookInstances", "mnist-lab/LifecycleConfigOnStart"
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    event = {"timestamp": int(time.time() * 1000), "message": "mnist-lab: run x goes on"}
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])
    assert lab("logs", "--hook") == 0
    assert "run x goes on" in capsys.readouterr().out


def test_a_dry_run_prints_every_call_and_makes_nothing(aws, capsys):
    assert lab("run", "--dry-run") == 0
    out, said = capsys.readouterr()
    assert out.endswith("nothing was changed: this was a dry run\n")
    for call in ("s3.create_bucket", "s3.put_object", "sagemaker.create_notebook_instance_lifecycle_config",
                 "sagemaker.create_notebook_instance "):  # fmt: skip
        assert f"would call {call}" in said
    assert boto3.client("s3").list_buckets()["Buckets"] == [] and aws.boots == []


def test_a_cost_needs_a_price():
    status = verbs.RunStatus("id", "SUCCEEDED", minutes=30)
    assert verbs.cost(CloudSettings(price=2.0), status) == 1.0
    assert verbs.cost(CloudSettings(instance_type="ml.g5.xlarge"), status) is None
