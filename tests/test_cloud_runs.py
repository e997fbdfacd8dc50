import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mnist_lab.cloud import runs
from mnist_lab.cloud.account import Account
from mnist_lab.cloud.bundle import Archive
from mnist_lab.cloud.deployment import make_job
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.instance import Instance
from mnist_lab.cloud.runs import Log, RunStatus, classify, fetch, follow, read_status
from mnist_lab.cloud.settings import CloudSettings


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
def parts(aws):
    settings = CloudSettings(
        region="us-east-1", role="lab", bucket="lab-bucket", poll_seconds=0.1, max_minutes=0.05, grace_minutes=0.05
    )
    account = Account(settings)
    account.make_bucket()
    job = make_job(settings, "us-east-1", "lab-bucket", Archive(b"", "0" * 64), {})
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
    put(account, job, "status.json", b"1")
    put(account, job, "output/a.png", b"22")
    assert [path.name for path in fetch(account, job, folder)] == ["a.png", "status.json"]
    put(account, job, "output/b.png", b"333")
    monkeypatch.setattr(account, "read", lambda bucket, key: b"short")
    with pytest.raises(CloudError, match="fetch again"):
        fetch(account, job, folder)
    assert {path.name for path in folder.iterdir()} == {"a.png", "status.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_no_name_leads_out_of_the_folder(parts, tmp_path):
    account, _, job = parts
    put(account, job, "output/../../evil", b"1")
    put(account, job, "output/sub/.hidden", b"1")
    with pytest.raises(CloudError, match="hidden"):
        fetch(account, job, tmp_path / "there")
    account.call("s3", "delete_object", Bucket=job.bucket, Key=job.folder + "output/sub/.hidden")
    assert fetch(account, job, tmp_path / "there") == [tmp_path / "there" / "evil"]


def test_two_files_of_one_name_and_a_blocked_folder_are_sentences(parts, tmp_path):
    account, _, job = parts
    put(account, job, "output/a", b"1")
    (tmp_path / "file").write_text("")
    with pytest.raises(CloudError, match="cannot write"):
        fetch(account, job, tmp_path / "file" / "there")
    put(account, job, "output/sub/a", b"1")
    with pytest.raises(CloudError, match="two files"):
        fetch(account, job, tmp_path / "there")


def test_an_instance_that_never_ends_is_stopped_at_the_deadline(parts, monkeypatch):
    account, instance, job = parts
    monkeypatch.setattr(runs, "MOVING", -5)
    instance.put_script("#!/bin/bash\n")
    instance.create(account.role())
    said = []
    found = follow(account, instance, job, said.append)
    assert found.state == "LOST" and "logs --hook" in found.reason
    assert any("stopping it from here" in line for line in said) and instance.status() == "Stopped"


def test_an_instance_that_does_not_stop_after_its_run_is_stopped_long_before_the_cap(parts, monkeypatch):
    account, instance, job = parts
    job, clock = replace(job, max_seconds=24 * 3600), [0.0]
    put(account, job, "status.json", json.dumps(told("FAILED", exit_code=3)).encode())
    instance.put_script("#!/bin/bash\n")
    instance.create(account.role())
    instance.wait(("InService",))

    def sleep(seconds):
        clock[0] += 60

    monkeypatch.setattr(runs, "time", SimpleNamespace(time=time.time, monotonic=lambda: clock[0], sleep=sleep))
    said = []
    assert follow(account, instance, job, said.append).state == "FAILED"
    assert any("stopping it from here" in line for line in said) and instance.status() == "Stopped"
    assert clock[0] <= runs.MOVING + 120


def test_a_glance_that_fails_is_repeated(parts, monkeypatch):
    account, instance, job = parts
    put(account, job, "status.json", json.dumps(told("FAILED", exit_code=3, reason="so")).encode())
    put(account, job, "log.txt", b"one line\n")
    looks, real = [], account.read

    def read(*arguments):
        looks.append(arguments)
        if len(looks) < 3:
            raise CloudError("no network")
        return real(*arguments)

    monkeypatch.setattr(account, "read", read)
    said = []
    found = follow(account, instance, job, said.append)
    assert (found.state, found.code, found.reason) == ("FAILED", 3, "so")
    assert said.count("cannot look at the moment: no network") == 2 and "  | one line" in said


def test_glances_that_always_fail_end(parts, monkeypatch):
    account, instance, job = parts
    monkeypatch.setattr(runs, "PATIENCE", 2)
    monkeypatch.setattr(account, "read", lambda *arguments: (_ for _ in ()).throw(CloudError("no network")))
    with pytest.raises(CloudError, match=r"no network; the run goes on .* mnist-lab sagemaker status"):
        follow(account, instance, job, print)


def test_another_runs_files_are_not_looked_at(parts, tmp_path):
    account, _, job = parts
    put(account, replace(job, run_id=job.run_id + "0"), "output/a", b"1")
    with pytest.raises(CloudError, match="has left nothing"):
        fetch(account, job, tmp_path / "there")
