"""Each door from end to end: step 3, what AWS was given carried out by bash, and nothing left behind."""

import re

import boto3
import nbformat
import pytest
from emulator import OF_THE_SDK, Machine

from mnist_lab.cloud import verbs
from mnist_lab.cloud.bundle import make_bundle
from mnist_lab.evidence.records import load
from mnist_lab.publishing.notebooks import faults
from mnist_lab.runtime import ROOT

DOORS = ("notebook", "job", "ec2")
NOTEBOOK = "03_augmentation_onecycle.ipynb"
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


@pytest.fixture(scope="session")
def until_its_records(tmp_path_factory) -> bytes:
    """The bundle of a checkout whose step 3 ends with its records: the figures after them take most of the time."""
    root = tmp_path_factory.mktemp("checkout")
    (root / "mnist_lab").symlink_to(ROOT / "mnist_lab")
    (root / "notebooks").mkdir()
    (root / "notebooks" / "records").symlink_to(ROOT / "notebooks" / "records")
    notebook = nbformat.read(ROOT / "notebooks" / NOTEBOOK, as_version=4)
    ends = next(number for number, cell in enumerate(notebook.cells) if "records.write(" in cell.source)
    notebook.cells = notebook.cells[: ends + 1]
    nbformat.write(notebook, root / "notebooks" / NOTEBOOK)
    return make_bundle(root)


@pytest.mark.usefixtures("packed")
@pytest.mark.filterwarnings(*OF_THE_SDK)
@pytest.mark.parametrize("door", DOORS)
def test_step_3_runs_comes_home_and_leaves_nothing_behind(
    door, aws, emulator, environments, until_its_records, tmp_path, lab, capsys, monkeypatch
):
    """All of step 3 behind one door; behind the others, up to its records."""
    if door != "ec2":
        monkeypatch.setattr(verbs, "make_bundle", lambda: until_its_records)
    machine = Machine(tmp_path / "machine", emulator, stub_cuda=door == "notebook", told="3.10.9-2.10.0")
    machine.serve(aws)
    for place in machine.places if door != "notebook" else []:  # which makes its own, with the stub of a GPU
        place.mkdir(parents=True)
        (place / ".environments").symlink_to(environments)
    run = ["--door", door, *KINDS[door], *SMALL, "--poll-seconds", "1"]
    try:
        code = lab("run", *run)
        said = capsys.readouterr().out
        assert code == 0, said + machine.said
        ends = {"notebook": "Stopped", "job": "Completed", "ec2": "terminated"}
        assert f"run SUCCEEDED, machine {ends[door]}" in said and "--publish" not in said
        assert bool(re.search("^on .*PyTorch", said, re.MULTILINE)) == (door == "notebook")
        assert re.search(r"^time: .* USD, " if door == "notebook" else r"^time: .* min, ", said, re.MULTILINE)
        assert machine.processes() == [] and len(aws.boots) == 1
        assert re.search(r"  \| .*epoch  1/1", said) and "scored on 360 test images" in said
        folder = tmp_path / "fetched" / re.search(r"^run (\S+): SUCCEEDED", said, re.MULTILINE)[1]
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert {"output/steps/3.jsonl", "output/steps/3a.jsonl", "log.txt", "status.json"} <= names
        assert faults(nbformat.read(folder / "output" / NOTEBOOK, as_version=4)) == []
        assert load(folder)[-1].settings.device == KINDS[door][1] and len(load(folder)[-1].environment.commit) >= 40
        assert not (tmp_path / "tracked").exists()

        assert lab("status", "--door", door) == 0 and f"{folder.name}: SUCCEEDED" in capsys.readouterr().out
        assert lab("down", "--yes", "--door", door) == 0
        assert left(door) == [] and boto3.client("s3").list_buckets()["Buckets"] == []
    finally:
        machine.halt()
