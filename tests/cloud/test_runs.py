import json
from dataclasses import replace

import pytest

from mnist_lab.cloud.bundle import Archive
from mnist_lab.cloud.deployment import make_job
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.instance import Instance
from mnist_lab.cloud.runs import Log, RunStatus, classify, fetch, follow, read_status


def told(state: str, **more) -> dict:
    return {"state": state, "exit_code": 0, "reason": "", "machine": "T4", "started": 1000, "updated": 1060, **more}


@pytest.mark.parametrize(
    ("said", "marked", "place", "state"),
    [
        (None, False, "none", "NEW"),
        (None, False, "Stopped", "NEW"),
        (None, False, "Pending", "QUEUED"),
        (None, False, "InService", "QUEUED"),
        (None, False, "PendingMaintenance", "QUEUED"),
        (None, False, "Failed", "FAILED"),
        ("RUNNING", False, "Pending", "RUNNING"),
        ("RUNNING", False, "InService", "RUNNING"),
        ("RUNNING", False, "Stopped", "LOST"),
        ("RUNNING", False, "Failed", "LOST"),
        ("RUNNING", False, "none", "LOST"),
        ("SUCCEEDED", True, "InService", "SUCCEEDED"),
        ("SUCCEEDED", True, "none", "SUCCEEDED"),
        ("SUCCEEDED", False, "InService", "RUNNING"),  # the marker comes last
        ("SUCCEEDED", False, "Stopped", "LOST"),
        ("FAILED", False, "Stopped", "FAILED"),
        ("TIMED_OUT", False, "InService", "TIMED_OUT"),
    ],
)
def test_a_run_is_judged_by_file_marker_and_instance(said, marked, place, state):
    found = classify("id", told(said) if said else None, marked, {"NotebookInstanceStatus": place}, now=1120)
    assert (found.state, found.instance) == (state, place)
    assert found.code == (0 if state == "SUCCEEDED" else 1)
    if said:
        assert found.minutes == (2 if state == "RUNNING" else 1)


def test_the_exit_code_is_the_runs():
    timed_out = classify("id", told("TIMED_OUT", exit_code=124), False, {"NotebookInstanceStatus": "Stopped"}, 0)
    assert timed_out.code == 124
    assert RunStatus("id", "LOST").code == 1


@pytest.fixture
def parts(connect):
    account = connect(max_minutes=0.05, grace_minutes=0.05)
    account.make_bucket()
    job = make_job(account.settings, "us-east-1", "lab-bucket", Archive(b"", "0" * 64), {})
    return account, Instance(account), job


def put(account, job, name: str, content: bytes) -> None:
    account.call("s3", "put_object", Bucket=job.bucket, Key=job.folder + name, Body=content)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b'{"state": "RUNNING", "started": "x", "updated": 1}', b"\xff"]
)
def test_a_damaged_status_is_named(parts, content):
    account, instance, job = parts
    put(account, job, "status.json", content)
    with pytest.raises(CloudError, match="is damaged"):
        read_status(account, instance, job)


def test_a_log_is_read_on_in_whole_lines(parts):
    account, _, job = parts
    log = Log(account, job)
    assert log.news() == ""
    put(account, job, "log.txt", b"one\ntw")
    assert log.news() == "one\n"
    put(account, job, "log.txt", b"one\ntwo\n\xff\n")
    assert log.news() == "two\n\N{REPLACEMENT CHARACTER}\n"
    assert log.news() == ""


def test_files_are_fetched_together_or_not_at_all(parts, tmp_path, monkeypatch):
    account, _, job = parts
    folder = tmp_path / "there"
    with pytest.raises(CloudError, match="has left nothing"):
        fetch(account, job, folder)
    put(account, replace(job, run_id=job.run_id + "0"), "output/a", b"1")  # another run's files do not count
    with pytest.raises(CloudError, match="has left nothing"):
        fetch(account, job, folder)
    contents = {
        "status.json": b"1",
        "output/a.png": b"22",
        "output/steps/3.jsonl": b"3",
        "output/ablations/3.jsonl": b"4",
    }
    for name, content in contents.items():
        put(account, job, name, content)
    assert fetch(account, job, folder) == sorted(folder / name for name in contents)  # as they lie there
    assert {name: (folder / name).read_bytes() for name in contents} == contents
    put(account, job, "output/b.png", b"333")
    monkeypatch.setattr(account, "read", lambda bucket, key: b"short")
    with pytest.raises(CloudError, match="fetch again"):
        fetch(account, job, folder)
    assert not (folder / "output" / "b.png").exists() and (folder / "status.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("name", ["../../evil", "output/../../evil", "/evil", "output//a", "c:evil", "a\\..\\evil"])
def test_no_name_leads_out_of_the_folder(parts, tmp_path, name):
    account, _, job = parts
    put(account, job, "output/a", b"1")
    listed = [{"Key": job.folder + name, "Size": 1}]
    account.objects = lambda bucket, prefix: [*type(account).objects(account, bucket, prefix), *listed]
    with pytest.raises(CloudError, match="cannot be stored here"):
        fetch(account, job, tmp_path / "lab" / "there")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_is_a_sentence(parts, tmp_path):
    account, _, job = parts
    put(account, job, "output/a", b"1")
    (tmp_path / "file").write_text("")
    with pytest.raises(CloudError, match="cannot write"):
        fetch(account, job, tmp_path / "file" / "there")


def test_an_instance_that_never_ends_is_stopped_at_the_deadline(parts):
    account, instance, job = parts
    instance.put_script("#!/bin/bash\n")
    instance.create(account.role())
    said = []
    found = follow(account, instance, replace(job, max_seconds=0, grace_seconds=0), said.append, moving=0.2)
    assert found.state == "LOST" and "logs --hook" in found.reason
    assert any("stopping it from here" in line for line in said) and instance.status() == "Stopped"


def test_an_instance_that_does_not_stop_after_its_run_is_stopped_long_before_the_time_limit(parts):
    account, instance, job = parts
    put(account, job, "status.json", json.dumps(told("FAILED", exit_code=3)).encode())
    instance.put_script("#!/bin/bash\n")
    instance.create(account.role())
    instance.wait(("InService",))
    said = []
    assert follow(account, instance, replace(job, max_seconds=86_400), said.append, moving=0.2).state == "FAILED"
    assert any("stopping it from here" in line for line in said) and instance.status() == "Stopped"


def test_a_request_that_fails_is_repeated(parts, monkeypatch):
    account, instance, job = parts
    put(account, job, "status.json", json.dumps(told("FAILED", exit_code=3, reason="so")).encode())
    put(account, job, "log.txt", b"one line\n")
    failures, real = [CloudError("no network")] * 2, account.read

    def read(*arguments):
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(account, "read", read)
    said = []
    found = follow(account, instance, job, said.append)
    assert (found.state, found.code, found.reason) == ("FAILED", 3, "so")
    assert sum("no network" in line for line in said) == 2 and "  | one line" in said
    failures += [CloudError("no network")] * 3
    with pytest.raises(CloudError, match=r"no network; the run goes on .* mnist-lab sagemaker status"):
        follow(account, instance, job, print, patience=3)
