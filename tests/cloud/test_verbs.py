"""The verbs, against the emulator; the real step 3 is carried out once."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import boto3
import nbformat
import pytest
from emulator import PATIENCE, WHERE, Machine, wait_for

from mnist_lab import cli
from mnist_lab.cloud import doctor, verbs
from mnist_lab.cloud.commands import VERBS
from mnist_lab.cloud.deployment import current_job, defaults
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.instance import Instance
from mnist_lab.cloud.script import read_back
from mnist_lab.cloud.session import Session
from mnist_lab.cloud.settings import CloudSettings
from mnist_lab.evidence.records import load, write
from mnist_lab.options import Interrupted, UsageError
from mnist_lab.publishing.notebooks import faults
from mnist_lab.recipe import ParameterError, read_parameters
from mnist_lab.runtime import ROOT

SMALL = ["--quick", "-p", "DATA", "digits", "-p", "TRAIN_LIMIT", "300", "-p", "BATCH_SIZE", "32", "-p", "EPOCHS", "1"]
ON_CPU = [*SMALL, "--device", "cpu", "--instance-type", "ml.t3.medium"]


def instances() -> list[dict]:
    return boto3.client("sagemaker", region_name="us-east-1").list_notebook_instances()["NotebookInstances"]


def instance_status() -> str:
    (found,) = instances()
    return found["NotebookInstanceStatus"]


def buckets() -> list[dict]:
    return boto3.client("s3").list_buckets()["Buckets"]


def keys() -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket="lab-bucket").get("Contents", [])
    return [entry["Key"] for entry in found]


def test_step_3_runs_comes_home_and_leaves_nothing_behind(aws, emulator, tmp_path, lab, capsys):
    machine = Machine(tmp_path / "machine", emulator, stub_cuda=True, told="3.10.9-2.10.0")
    aws.on_boot, aws.on_halt = machine.boot, machine.halt
    try:
        code = lab("run", "--json", *SMALL, "--poll-seconds", "1")
        out, err = capsys.readouterr()
        assert code == 0, err
        said = json.loads(out)
        assert (said["state"], said["instance"], said["publishable"]) == ("SUCCEEDED", "Stopped", False)
        assert "PyTorch" in said["machine"] and said["usd"] > 0 and 0 < said["accuracy"] <= 1
        assert instance_status() == "Stopped" and machine.processes() == []
        assert re.search(r"  \| .*epoch  1/1", err)
        folder = tmp_path / "fetched" / said["run_id"]
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert {"output/steps/3.jsonl", "output/steps/3a.jsonl", "log.txt", "status.json", "_SUCCESS"} <= names
        notebook = nbformat.read(folder / "output" / "03_augmentation_onecycle.ipynb", as_version=4)
        assert faults(notebook) == []
        record = load(folder)[-1]
        assert record.settings.device == "cuda" and len(record.environment.commit) >= 40
        assert not (tmp_path / "tracked").exists()

        boots = len(aws.boots)
        assert lab("run", *SMALL) == 0  # the same again: nothing starts
        assert "has succeeded already" in capsys.readouterr().out and len(aws.boots) == boots
        assert lab("status", "--json") == 0
        assert json.loads(capsys.readouterr().out)["state"] == "SUCCEEDED"
        assert lab("logs", "--follow") == 0
        assert "SUCCEEDED" in capsys.readouterr().out
        with pytest.raises(CloudError, match="it did not train on a GPU, and it was not a full run on MNIST"):
            lab("fetch", "--publish")

        assert lab("down", "--yes") == 0
        assert instances() == [] and buckets() == []
        client = boto3.client("sagemaker", region_name="us-east-1")
        with pytest.raises(client.exceptions.ClientError):
            client.describe_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName="mnist-lab")
    finally:
        machine.halt()


def test_a_full_run_on_a_gpu_is_compared_with_the_cpu_and_tracked_only_when_asked(
    lab, connect, tmp_path, capsys, make_record, gpu_environment
):
    recipe, _ = read_parameters(defaults())
    made = {"recipe": asdict(recipe), "accuracies": (0.99,) * (recipe.epochs - 1) + (0.9952,)}
    on_gpu = make_record(environment=gpu_environment, **made)
    write([make_record(seed=seed, **made) for seed in range(3)], tmp_path / "tracked")
    assert lab("up") == 0
    job = current_job(Instance(connect()))
    write([on_gpu], tmp_path / "made")
    told = {"state": "SUCCEEDED", "exit_code": 0, "machine": "Tesla T4", "started": 1000, "updated": 1300}
    for name, content in [
        ("output/steps/3-cuda.jsonl", (tmp_path / "made" / "steps" / "3-cuda.jsonl").read_bytes()),
        ("status.json", json.dumps(told).encode()),
        ("_SUCCESS", b"1"),
    ]:
        boto3.client("s3").put_object(Bucket="lab-bucket", Key=job.folder + name, Body=content)
    capsys.readouterr()
    assert lab("fetch") == 0
    said = capsys.readouterr().out
    assert "Tesla T4, seed 0: 99.52 %; 3 CPU seeds" in said and "fetch --publish" in said
    assert "time: 5.0 min, about 0.06 USD" in said
    assert len(load(tmp_path / "tracked")) == 3
    assert lab("fetch", "--publish") == 0
    assert load(tmp_path / "tracked")[-1] == on_gpu
    assert lab("stop") == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_ends_leaves_no_running_instance(machine, aws, number):
    """Killed, it cannot stop anything, and the watchdog does; interrupted, it asks for the stop itself."""
    frozen = machine.root / "frozen"  # nothing on the machine gets anywhere
    frozen.touch()
    program = (  # a background job of a shell, as these tests may be, starts with Ctrl-C ignored
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from mnist_lab.cli import main; sys.exit(main())"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", program, "sagemaker", "run", *WHERE, *SMALL],
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
    assert "Traceback" not in said and (number == signal.SIGKILL or "stop requested" in said)
    if number == signal.SIGKILL:
        wait_for(lambda: instance_status() == "InService", "the end of the start script")
        pid, _ = wait_for(machine.cap, "the watchdog", machine.log)
        os.kill(pid, signal.SIGKILL)  # the cap is over
        frozen.unlink()
    wait_for(lambda: instance_status() == "Stopped", "the stop", machine.log)


def test_a_signal_stops_the_instance_too(aws, lab, monkeypatch, capsys):
    def stopped(*arguments):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(verbs, "follow", stopped)
    assert lab("run", *ON_CPU) == 143
    assert "stop requested" in capsys.readouterr().out and instance_status() in ("Stopping", "Stopped")


def test_a_failing_run_fails_the_command_with_its_reason(machine, lab, capsys):
    (machine.home / "anaconda3" / "envs" / "pytorch" / "bin" / "python").unlink()
    assert lab("run", *ON_CPU) == 1
    said = capsys.readouterr().out
    assert "FAILED, no environment in" in said and instance_status() == "Stopped"
    assert lab("fetch") == 1
    with pytest.raises(CloudError, match="was not published, since it has not succeeded"):
        lab("fetch", "--publish")


def test_a_start_script_that_fails_is_told_with_where_to_look(aws, lab, capsys):
    aws.on_boot = lambda name, script: 1
    assert lab("run", *ON_CPU) == 1
    assert "logs --hook" in capsys.readouterr().out


def test_no_capacity_ends_the_run_with_a_sentence(aws, lab, capsys):
    aws.capacity = False
    assert lab("run", *ON_CPU) == 1
    assert "AWS has no such instance free" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--role", "nobody"], CloudError, "there is no role nobody"),
        (["--region", "us-nowhere-1", "--role", "lab"], CloudError, "which SageMaker does not have"),
        (["-p", "EPOHCS", "3"], ParameterError, "did you mean EPOCHS"),
        (["-p", "MODEL", "CompactNet\n"], ParameterError, "MODEL"),
        (["--data", "/nowhere", "-p", "DATA", "MNIST"], Exception, "no MNIST in /nowhere"),
    ],
)
def test_a_wrong_request_is_one_sentence_before_anything_starts(aws, options, arguments, error, message):
    with pytest.raises(error, match=message):
        verbs.run(Session(options("run", *WHERE, *arguments)))
    assert aws.boots == []


def test_the_command_line_prints_such_a_sentence(aws, capsys, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert cli.main(["sagemaker", "run", *WHERE]) == 1
    said = capsys.readouterr().err
    assert "error: there are no AWS credentials: run aws configure" in said and "Traceback" not in said


@pytest.mark.parametrize("more", ["--dry-run", "--detach", "--quick"])
def test_publishing_is_refused_at_once_where_it_could_not_work(options, more):
    parsed = options("run", "--publish", more)
    with pytest.raises(UsageError, match="--publish"):
        parsed.command(parsed)


def test_a_detached_run_returns_at_once_and_open_attaches_a_person(lab, connect, capsys):
    assert lab("up", *SMALL) == 0  # nothing runs on this machine: an empty start script
    assert lab("run", "--detach", "--json", *SMALL) == 0
    capsys.readouterr()
    assert lab("open", "--json", "--max-minutes", "90") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["url"].startswith("https://mnist-lab")
    assert "stops it 70 min after its start" in err  # that start's limit, whatever is asked for now
    assert lab("stop") == 0 and instance_status() == "Stopped"
    assert lab("open", "--max-minutes", "90") == 0  # starts it, with this limit
    assert current_job(Instance(connect())).max_seconds == 5400
    assert lab("stop") == 0


def test_without_a_run_the_verbs_say_so(aws, lab):
    for verb in ("logs", "fetch", "open"):
        with pytest.raises(CloudError, match="mnist-lab sagemaker run"):
            lab(verb)
    assert lab("stop") == 0 and lab("status") == 0


def test_the_start_scripts_output_is_shown(aws, lab, capsys):
    with pytest.raises(CloudError, match="there is no log"):
        lab("logs", "--hook")
    make_logs("mnist-lab/LifecycleConfigOnStart", "mnist-lab: run x goes on")
    assert lab("logs", "--hook") == 0
    assert "run x goes on" in capsys.readouterr().out


def make_logs(stream: str, message: str) -> None:
    logs, group = boto3.client("logs", region_name="us-east-1"), "/aws/sagemaker/NotebookInstances"
    if not logs.describe_log_groups()["logGroups"]:
        logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    event = {"timestamp": int(time.time() * 1000), "message": message}
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])


def test_a_dry_run_prints_every_call_and_makes_nothing(aws, lab, capsys):
    assert lab("run", "--dry-run") == 0
    out, said = capsys.readouterr()
    assert out.endswith("nothing was changed: this was a dry run\n")
    for call in ("s3.create_bucket", "s3.put_object", "sagemaker.create_notebook_instance_lifecycle_config",
                 "sagemaker.create_notebook_instance "):  # fmt: skip
        assert f"would call {call}" in said
    assert buckets() == [] and aws.boots == []


def test_a_cost_needs_a_price():
    status = verbs.RunStatus("id", "SUCCEEDED", minutes=30)
    assert verbs.cost(CloudSettings(price=2.0), status) == 1.0
    assert verbs.cost(CloudSettings(instance_type="ml.g5.xlarge"), status) is None


class TestDown:
    @pytest.fixture
    def there(self, aws, lab):
        """An instance, its configuration, bundle and logs; and a file of somebody else's in the bucket."""
        assert lab("up", *SMALL) == 0
        boto3.client("s3").put_object(Bucket="lab-bucket", Key="mnist-lab-2/src/x", Body=b"1")
        make_logs("mnist-lab/jupyter.log", "ours")
        make_logs("mnist-lab-2/jupyter.log", "another's")

    def test_what_is_ours_goes_and_nothing_else(self, there, lab):
        assert lab("down", "--yes") == 0
        assert instances() == [] and keys() == ["mnist-lab-2/src/x"]
        logs = boto3.client("logs", region_name="us-east-1")
        streams = logs.describe_log_streams(logGroupName="/aws/sagemaker/NotebookInstances")["logStreams"]
        assert [stream["logStreamName"] for stream in streams] == ["mnist-lab-2/jupyter.log"]
        assert lab("down", "--yes") == 0  # nothing left to do

    def test_a_script_of_another_version_goes_too(self, there, lab):
        client = boto3.client("sagemaker", region_name="us-east-1")
        name = {"NotebookInstanceLifecycleConfigName": "mnist-lab"}
        client.update_notebook_instance_lifecycle_config(**name, OnStart=[{"Content": "aGVsbG8="}])
        with pytest.raises(CloudError, match="this version"):
            lab("up", *SMALL)
        assert lab("down", "--yes", "--keep-s3") == 0
        assert instances() == [] and len(keys()) == 2
        with pytest.raises(client.exceptions.ClientError):
            client.describe_notebook_instance_lifecycle_config(**name)

    def test_nothing_is_deleted_unasked(self, there, lab, capsys, monkeypatch):
        monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
        with pytest.raises(CloudError, match="add --yes"):
            lab("down")
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda question: "n")
        with pytest.raises(CloudError, match="nothing was deleted"):
            lab("down")
        capsys.readouterr()
        assert lab("down", "--dry-run") == 0
        out, err = capsys.readouterr()
        assert "would call sagemaker.delete_notebook_instance " in err and "deleted" not in out
        assert len(instances()) == 1 and len(keys()) == 2


class TestPreview:
    def test_the_script_is_shown_without_any_call(self, lab, capsys, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        assert lab("render", "-p", "EPOCHS", "3") == 0
        out, err = capsys.readouterr()
        assert out.startswith("#!/bin/bash\n") and "of 12,288 bytes" in err
        assert read_back(out).arguments[-6:] == ("-p", "EPOCHS", "3", "-p", "DEVICE", "cuda")

    def test_policies_are_complete_with_credentials_and_hold_placeholders_without(self, aws, lab, capsys, monkeypatch):
        assert lab("policy", "operator") == 0
        out, err = capsys.readouterr()
        assert "arn:aws:sagemaker:us-east-1:123456789012:notebook-instance/mnist-lab" in out and err == ""
        assert "arn:aws:iam::123456789012:role/lab" in out and json.loads(out)["Version"] == "2012-10-17"
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        assert lab("policy", "execution") == 0
        out, err = capsys.readouterr()
        assert ":ACCOUNT:" in out and "placeholders" in err
        assert lab("policy", "trust") == 0
        assert "sagemaker.amazonaws.com" in capsys.readouterr().out


class TestDoctor:
    def look(self, **changes) -> dict:
        settings = CloudSettings(**{"region": "us-east-1", "role": "lab", "bucket": "lab-bucket", **changes})
        return {finding.subject: finding for finding in doctor.examine(settings)}

    def test_all_is_well(self, aws, lab, capsys):
        found = self.look()
        assert list(found) == ["libraries", "login", "role", "bucket", "quota", "instance", "price"]
        assert "the first run makes it" in found["bucket"].text and "us-east-1" in found["login"].text
        assert lab("doctor") == 0 and "ok   quota" in capsys.readouterr().out

    def test_each_thing_that_is_missing_is_told(self, aws, lab, capsys):
        aws.quota = 0
        found = self.look(role="nobody")
        assert [subject for subject, finding in found.items() if finding.good is False] == ["role", "quota"]
        assert "servicequotas" in found["quota"].text and "there is no role nobody" in found["role"].text
        assert lab("doctor", "--json") == 1
        findings = {finding["subject"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
        assert findings["quota"]["good"] is False

    def test_what_cannot_be_told_does_not_hinder(self, aws):
        found = self.look(instance_type="ml.g5.xlarge")
        assert found["quota"].good is None and "no quota" in found["quota"].text
        assert found["price"].good is None and "--price" in found["price"].text

    def test_without_a_login_nothing_else_is_told(self, aws, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        found = self.look()
        assert list(found) == ["libraries", "login"] and "aws configure" in found["login"].text

    @pytest.mark.parametrize("versions", [{"boto3": "1.44"}, {"boto3": "1.44", "sagemaker": "2.257.7"}])
    def test_missing_or_old_libraries_are_told(self, monkeypatch, versions):
        def version(name):
            if name not in versions:
                raise doctor.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(doctor, "version", version)
        good, text = doctor.libraries()
        assert not good and "pip install" in text


class TestCommands:
    @pytest.mark.parametrize("name", VERBS)
    def test_every_verb_helps_takes_the_settings_and_has_a_function(self, name, options, capsys):
        with pytest.raises(SystemExit) as caught:
            options(name, "--help")
        assert caught.value.code == 0
        said = capsys.readouterr().out
        assert all(option in said for option in ("--json", "--dry-run", "--region", "--role", "--bucket", "--config"))
        assert callable(getattr(verbs, VERBS[name][0]))

    def test_the_command_line_answers_without_torch_or_a_library_of_aws(self):
        """So the help comes at once, and the instance, which runs the notebook through it, needs none of AWS's."""
        program = (
            "import sys\n"
            "for name in ('boto3', 'botocore', 'sagemaker', 'torch', 'pydantic'): sys.modules[name] = None\n"
            "import argparse\n"
            "from mnist_lab.cloud.commands import add_commands\n"
            "parser = argparse.ArgumentParser()\n"
            "add_commands(parser.add_subparsers())\n"
            "parser.parse_args(['sagemaker', 'run', '--help'])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0 and "--max-minutes" in done.stdout, done.stderr

    def test_parameters_are_read_as_those_of_a_run_here(self, options):
        session = Session(options("run", "--quick", "-p", "EPOCHS", "3", "-p", "MODEL", "SkeletonNet"))
        assert session.parameters() == {"EPOCHS": 3, "TRAIN_LIMIT": 3000, "MODEL": "SkeletonNet"}

    def test_settings_are_checked_before_anything_else(self, options):
        with pytest.raises(CloudError, match="--instance-type"):
            Session(options("run", "--instance-type", "ml.g99.xlarge"))

    def test_progress_leaves_stdout_to_json_and_a_dry_run_claims_no_result(self, options, capsys):
        for flag, wanted in ([], ("progress\nresult\n", "")), (["--json"], ('{\n "a": 1\n}\n', "progress\n")):
            session = Session(options("run", *flag))
            session.say("progress")
            session.answer({"a": 1}, "result")
            assert tuple(capsys.readouterr()) == wanted
        Session(options("run", "--dry-run", "--json")).done({"a": 1}, "done")
        assert json.loads(capsys.readouterr().out) == {"dry_run": True}
