"""The verbs, against the emulator. (test_doors.py carries out whole runs.)"""

import base64
import json
import subprocess
import sys
import time
from dataclasses import asdict

import boto3
import pytest
from emulator import OF_THE_SDK, WHERE
from test_doors import DOORS, SMALL, left

from mnist_lab import cli
from mnist_lab.cloud import verbs
from mnist_lab.cloud.commands import VERBS
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.runs import defaults, find
from mnist_lab.evidence.records import load, write
from mnist_lab.options import UsageError
from mnist_lab.recipe import ParameterError, read_parameters

pytestmark = pytest.mark.usefixtures("packed")


def keys() -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket="lab-bucket").get("Contents", [])
    return [entry["Key"] for entry in found]


def leave(run, **files: bytes) -> None:
    """Leave what a machine would have left of a run."""
    told = {"state": "SUCCEEDED", "exit_code": 0, "reason": "", "machine": "Tesla T4", "started": 1000, "updated": 1300}
    for name, content in {"status.json": json.dumps(told).encode(), **files}.items():
        boto3.client("s3").put_object(Bucket="lab-bucket", Key=run.folder + name, Body=content)


def test_a_full_run_on_a_gpu_is_compared_with_the_cpu_and_tracked_only_when_asked(
    lab, connect, tmp_path, capsys, make_record, gpu_environment
):
    recipe, _ = read_parameters(defaults())
    made = {"recipe": asdict(recipe), "accuracies": (0.99,) * (recipe.epochs - 1) + (0.9952,)}
    on_gpu = make_record(environment=gpu_environment, **made)
    write([make_record(seed=seed, **made) for seed in range(3)], tmp_path / "tracked")
    assert lab("run", "--detach") == 0
    write([on_gpu], tmp_path / "made")
    content = (tmp_path / "made" / "steps" / "3-cuda.jsonl").read_bytes()
    leave(find(connect()), **{"output/steps/3-cuda.jsonl": content})
    capsys.readouterr()
    assert lab("fetch") == 0
    said = capsys.readouterr().out
    assert "Tesla T4, seed 0: 99.52 %; 3 CPU seeds" in said and "fetch --publish" in said
    assert "time: 5.0 min, about 0.06 USD" in said and "\nfiles: " in said
    assert len(load(tmp_path / "tracked")) == 3
    assert lab("fetch", "--publish") == 0
    assert load(tmp_path / "tracked")[-1] == on_gpu


ON_GPU, ON_CPU = ["--door", "ec2"], ["--door", "ec2", "--device", "cpu", "--instance-type", "t3.medium"]


@pytest.mark.parametrize(
    ("then", "now", "cost"), [(ON_GPU, ON_CPU, "5.0 min, about 0.04 USD, and"), (ON_CPU, ON_GPU, "5.0 min, and")]
)
def test_the_cost_is_that_of_the_runs_machine_whatever_the_settings_are_now(lab, connect, capsys, then, now, cost):
    assert lab("run", "--detach", *then) == 0 and lab("stop", *then) == 0
    leave(find(connect(door="ec2")))
    for command in ["status"], ["logs", "--follow"]:
        capsys.readouterr()
        assert lab(*command, *now) == 0 and f"time: {cost} some to start" in capsys.readouterr().out


def test_a_study_comes_home_as_a_table_and_is_not_published(
    lab, connect, tmp_path, capsys, make_record, gpu_environment
):
    assert lab("run", "--detach", "--seeds", "200") == 0
    write([make_record(seed=seed, environment=gpu_environment) for seed in range(4)], tmp_path / "made")
    content = (tmp_path / "made" / "steps" / "3-cuda.jsonl").read_bytes()
    leave(find(connect()), **{"output/steps/3-cuda.jsonl": content})
    capsys.readouterr()
    assert lab("fetch") == 0
    assert "99.52" in capsys.readouterr().out
    with pytest.raises(CloudError, match="was not published"):
        lab("fetch", "--publish")
    assert not (tmp_path / "tracked").exists()


def test_a_failing_run_fails_the_command_with_its_reason(machine, lab, capsys):
    for python in machine.pythons():
        python.unlink()
    assert lab("run", *SMALL) == 1
    said = capsys.readouterr().out
    assert "FAILED, no Python with PyTorch" in said and left("notebook")[0]["NotebookInstanceStatus"] == "Stopped"
    assert lab("fetch") == 1
    with pytest.raises(CloudError, match="was not published"):
        lab("fetch", "--publish")


def test_no_capacity_ends_the_run_with_a_sentence(aws, lab, capsys):
    aws.capacity = False
    assert lab("run") == 1
    said = capsys.readouterr().out
    assert "AWS has no such machine free" in said and "nothing fetched: " in said and "files: " not in said


def test_a_start_script_that_fails_is_told_with_where_to_look(aws, lab, capsys):
    aws.on_boot = lambda name, script: 1
    assert lab("run") == 1
    assert "CloudWatch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--role", "nobody"], CloudError, "there is no role nobody"),
        (["-p", "EPOHCS", "3"], ParameterError, "did you mean EPOCHS"),
        (["-p", "MODEL", "CompactNet\n"], ParameterError, "MODEL"),
        (["--spot"], CloudError, "for --door job"),
        (["--door", "ec2", "--local"], CloudError, "for --door job"),
    ],
)
def test_a_wrong_request_is_one_sentence_before_anything_starts(aws, lab, arguments, error, message):
    with pytest.raises(error, match=message):
        lab("run", *arguments)
    assert aws.boots == []


def test_the_command_line_prints_such_a_sentence(aws, capsys, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert cli.main(["cloud", "run", *WHERE]) == 1
    said = capsys.readouterr().err
    assert "error: there are no AWS credentials: aws configure" in said and "Traceback" not in said


def test_without_the_sdk_it_is_said_what_to_install(aws, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sagemaker.train", None)
    assert cli.main(["cloud", "doctor", "--door", "job", *WHERE]) == 1
    assert "no sagemaker.train here: pip install -r mnist_lab/cloud" in capsys.readouterr().err


@pytest.mark.parametrize("more", ["--detach", "--quick", "--seeds=2"])
def test_publishing_is_refused_at_once_where_it_could_not_work(options, more):
    parsed = options("run", "--publish", more)
    with pytest.raises(UsageError, match="--publish"):
        parsed.command(parsed)


def test_a_run_does_not_interrupt_another_one(aws, lab, connect, capsys):
    assert lab("run", "--detach") == 0
    first = find(connect())
    with pytest.raises(CloudError, match=r"is \w+, for another run"):
        lab("run", "--detach", "-p", "EPOCHS", "3")
    assert lab("stop") == 0
    assert lab("run", "--detach", "-p", "EPOCHS", "3") == 0
    capsys.readouterr()
    assert lab("status", "--run", first.run_id) == 0 and len(aws.boots) == 2
    assert f"run {first.run_id}: NEW" in capsys.readouterr().out


def test_open_attaches_a_person_and_says_how_long(aws, lab, connect, capsys):
    assert lab("run", "--detach") == 0
    assert lab("stop") == 0
    capsys.readouterr()
    assert lab("open", "--max-minutes", "90") == 0
    said = capsys.readouterr().out
    assert "\nhttps://mnist-lab" in said and "stops after 100 min" in said
    config = boto3.client("sagemaker", region_name="us-east-1").describe_notebook_instance_lifecycle_config(
        NotebookInstanceLifecycleConfigName="mnist-lab"
    )
    assert "max_seconds=5400" in base64.b64decode(config["OnStart"][0]["Content"]).decode()
    assert lab("run", "--detach", "--door", "ec2") == 0
    with pytest.raises(CloudError, match="has no Jupyter"):
        lab("open", "--door", "ec2")


def test_the_short_name_is_the_notebook_door(lab, options, monkeypatch):
    from argparse import ArgumentParser

    from mnist_lab.cloud.commands import add_commands
    from mnist_lab.cloud.settings import read_settings

    parser = ArgumentParser()
    add_commands(parser.add_subparsers())
    assert read_settings(parser.parse_args(["sagemaker", "run"]), {"MNIST_LAB_CLOUD_DOOR": "job"}).door == "notebook"
    assert read_settings(parser.parse_args(["cloud", "run"]), {"MNIST_LAB_CLOUD_DOOR": "job"}).door == "job"


@pytest.mark.parametrize("door", DOORS)
def test_without_a_run_the_verbs_say_so(aws, lab, door):
    for verb in ("logs", "fetch", "status", "open"):
        with pytest.raises(CloudError, match="there is no run"):
            lab(verb, "--door", door)
    assert lab("stop", "--door", door) == 0 and lab("down", "--door", door, "--yes") == 0


def make_logs(stream: str, message: str) -> None:
    logs, group = boto3.client("logs", region_name="us-east-1"), "/aws/sagemaker/NotebookInstances"
    if not logs.describe_log_groups()["logGroups"]:
        logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    event = {"timestamp": int(time.time() * 1000), "message": message}
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])


class TestDown:
    @pytest.fixture
    def there(self, aws, lab):
        """An instance, its configuration, bundle and logs; and a file of somebody else's in the bucket."""
        assert lab("run", "--detach") == 0
        boto3.client("s3").put_object(Bucket="lab-bucket", Key="mnist-lab/notebook-2/src/x", Body=b"1")
        make_logs("mnist-lab/jupyter.log", "ours")
        make_logs("mnist-lab-2/jupyter.log", "another's")

    def test_what_is_ours_goes_and_nothing_else(self, there, lab):
        assert lab("down", "--yes") == 0
        assert left("notebook") == [] and keys() == ["mnist-lab/notebook-2/src/x"]
        client = boto3.client("sagemaker", region_name="us-east-1")
        with pytest.raises(client.exceptions.ClientError):
            client.describe_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName="mnist-lab")
        logs = boto3.client("logs", region_name="us-east-1")
        streams = logs.describe_log_streams(logGroupName="/aws/sagemaker/NotebookInstances")["logStreams"]
        assert [stream["logStreamName"] for stream in streams] == ["mnist-lab-2/jupyter.log"]
        assert lab("down", "--yes") == 0  # nothing left to do

    def test_nothing_is_deleted_unasked(self, there, lab):
        with pytest.raises(CloudError, match=r"would delete every notebook machine called mnist-lab, .* add --yes"):
            lab("down")
        assert len(left("notebook")) == 1 and len(keys()) == 3


@pytest.mark.parametrize("door", DOORS)
def test_a_policy_is_complete(aws, lab, capsys, door):
    assert lab("policy", "operator", "--door", door) == 0
    out, err = capsys.readouterr()
    assert "arn:aws:iam::123456789012:role/lab" in out and json.loads(out)["Version"] == "2012-10-17" and err == ""
    assert "lab-bucket/mnist-lab" in out and "$" not in out


@pytest.mark.filterwarnings(*OF_THE_SDK)
class TestDoctor:
    @pytest.fixture
    def look(self, lab, capsys):
        """Runs the doctor; returns its exit code, and subject -> what was said of it, which begins with ok or NO."""

        def look(*arguments: str) -> tuple[int, dict[str, str]]:
            code = lab("doctor", *arguments)
            lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
            return code, {subject.rstrip(":"): f"{mark} {found}" for mark, subject, found in lines}

        return look

    @pytest.mark.parametrize("door", DOORS)
    def test_all_is_well(self, aws, look, door):
        code, found = look("--door", door)
        assert code == 0 and list(found) == ["login", "role", "bucket", "machines", "quota", "price"]
        assert all(text.startswith("ok ") for text in found.values()), found
        assert "the first run makes it" in found["bucket"] and "us-east-1" in found["login"]

    def test_each_thing_that_is_missing_is_told(self, aws, look):
        aws.quota = 0
        code, found = look("--role", "nobody")
        assert [subject for subject, text in found.items() if text.startswith("NO ")] == ["role", "machines", "quota"]
        assert code == 1 and "https://us-east-1.console.aws.amazon.com/servicequotas" in found["quota"]

    def test_every_partition_has_its_console(self, aws, look):
        _, found = look("--region", "cn-north-1", "--instance-type", "ml.g5.xlarge")
        assert "cn-north-1.console.amazonaws.cn/" in found["quota"] and "about ? USD" in found["price"]

    @pytest.mark.parametrize(
        ("kind", "quota", "need"),
        [("t3.medium", "Standard (A, ", 2), ("c7i.4xlarge", "Standard (A, ", 16), ("g4dn.xlarge", "G and VT", 4)],
    )
    def test_on_ec2_the_quota_is_that_of_the_types_family_and_has_to_hold_its_virtual_cpus(
        self, aws, look, kind, quota, need
    ):
        where = ["--door", "ec2", "--device", "cpu", "--instance-type", kind]
        for short in (0, 1):
            aws.quota = (need - short) / 4  # the emulator's quotas are fours
            code, found = look(*where)
            assert code == short and f'{need - short} for "Running On-Demand {quota}' in found["quota"]
            assert found["quota"].startswith("NO " if short else "ok ")
            assert (f"a run needs {need}: ask" in found["quota"]) == bool(short)

    def test_the_quota_of_spot_machines_is_another_one(self, aws, look):
        assert "ml.g4dn.xlarge for spot training job usage" in look("--door", "job", "--spot")[1]["quota"]

    def test_nothing_is_told_beyond_a_login_that_fails(self, aws, look, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        code, found = look()
        assert code == 1 and list(found) == ["login"] and "cannot be reached" in found["login"]


class TestCommands:
    @pytest.mark.parametrize("name", VERBS)
    def test_every_verb_helps_takes_the_settings_and_has_a_function(self, name, options, capsys):
        with pytest.raises(SystemExit) as caught:
            options(name, "--help")
        assert caught.value.code == 0
        said = capsys.readouterr().out
        assert all(option in said for option in ("--door", "--region", "--role", "--bucket", "--spot"))
        assert callable(verbs.VERBS[name])

    def test_the_command_line_answers_without_torch_or_a_library_of_aws(self):
        """So the help comes at once, and a machine, which runs the notebook through it, needs none of AWS's."""
        program = (
            "import sys\n"
            "for name in ('boto3', 'botocore', 'sagemaker', 'torch', 'pydantic'): sys.modules[name] = None\n"
            "import argparse\n"
            "from mnist_lab.cloud.commands import add_commands\n"
            "parser = argparse.ArgumentParser()\n"
            "add_commands(parser.add_subparsers())\n"
            "parser.parse_args(['cloud', 'run', '--help'])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0 and "--max-minutes" in done.stdout, done.stderr
