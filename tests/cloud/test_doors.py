"""Each door from end to end: the real step 3, what AWS was given carried out by bash, and nothing left behind."""

import json
import re

import boto3
import nbformat
import pytest
from emulator import OF_THE_SDK, Machine

from mnist_lab.evidence.records import load
from mnist_lab.publishing.notebooks import faults

DOORS = ("notebook", "job", "ec2")
# What differs by door; the GPU is proved once, since that takes seconds.
KINDS = {"notebook": ["--device", "cuda"], "job": ["--device", "cpu", "--instance-type", "ml.m5.large"],
         "ec2": ["--device", "cpu", "--instance-type", "t3.medium"]}  # fmt: skip
SMALL = ["--quick", "-p", "DATA", "digits", "-p", "TRAIN_LIMIT", "300", "-p", "BATCH_SIZE", "32", "-p", "EPOCHS", "1"]


def left(door: str) -> list:
    """Return what of a door is left in AWS."""
    sagemaker, ec2 = (boto3.client(name, region_name="us-east-1") for name in ("sagemaker", "ec2"))
    if door == "notebook":
        return sagemaker.list_notebook_instances()["NotebookInstances"]
    if door == "job":
        return sagemaker.list_training_jobs()["TrainingJobSummaries"]
    found = [one for reservation in ec2.describe_instances()["Reservations"] for one in reservation["Instances"]]
    groups = [group for group in ec2.describe_security_groups()["SecurityGroups"] if group["GroupName"] != "default"]
    return [one for one in found if one["State"]["Name"] != "terminated"] + groups


@pytest.mark.usefixtures("packed")
@pytest.mark.filterwarnings(*OF_THE_SDK)
@pytest.mark.parametrize("door", DOORS)
def test_step_3_runs_comes_home_and_leaves_nothing_behind(door, aws, emulator, tmp_path, lab, capsys):
    machine = Machine(tmp_path / "machine", emulator, stub_cuda=True, told="3.10.9-2.10.0")
    machine.serve(aws)
    run = ["--door", door, *KINDS[door], *SMALL, "--poll-seconds", "1", "--price", "1"]
    try:
        code = lab("run", "--json", *run)
        out, err = capsys.readouterr()
        assert code == 0, err + machine.said
        said = json.loads(out)
        ends = {"notebook": "Stopped", "job": "Completed", "ec2": "terminated"}
        assert (said["state"], said["machine"], said["publishable"]) == ("SUCCEEDED", ends[door], False)
        assert ("PyTorch" in said["gpu"]) == (door == "notebook")
        assert said["usd"] > 0 and 0 < said["accuracy"] <= 1
        assert machine.processes() == [] and len(aws.boots) == 1
        assert re.search(r"  \| .*epoch  1/1", err)
        folder = tmp_path / "fetched" / said["run_id"]
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert {"output/steps/3.jsonl", "output/steps/3a.jsonl", "log.txt", "status.json", "_SUCCESS"} <= names
        assert faults(nbformat.read(folder / "output" / "03_augmentation_onecycle.ipynb", as_version=4)) == []
        assert load(folder)[-1].settings.device == KINDS[door][1] and len(load(folder)[-1].environment.commit) >= 40
        assert not (tmp_path / "tracked").exists()

        assert lab("run", *run) == 0  # the same again: nothing starts
        assert "is SUCCEEDED" in capsys.readouterr().out and len(aws.boots) == 1
        assert lab("down", "--yes", "--door", door) == 0
        assert left(door) == [] and boto3.client("s3").list_buckets()["Buckets"] == []
    finally:
        machine.halt()
