import json

import pytest

from mnist_lab.cloud import verbs
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.notebook import NotebookInstance
from mnist_lab.cloud.runs import (
    NONE,
    Machine,
    Report,
    Run,
    RunStatus,
    classify,
    fetch,
    find,
    make_run,
    read_log,
    read_status,
    save,
)
from mnist_lab.recipe import ParameterError

BUNDLE = b"code"


def told(state: str, **more) -> dict:
    return {"state": state, "exit_code": 0, "reason": "", "machine": "T4", "started": 1000, "updated": 1060, **more}


STARTING, RUNNING = Machine("Pending", True), Machine("InService", True)
STOPPING, STOPPED = Machine("Stopping", True, stopping=True), Machine("Stopped", False)
FAILED = Machine("Failed", False, failure="x")


@pytest.mark.parametrize(
    ("said", "machine", "state"),
    [
        (None, NONE, "NEW"),
        (None, STOPPED, "NEW"),
        (None, STARTING, "QUEUED"),
        (None, RUNNING, "QUEUED"),
        (None, FAILED, "FAILED"),
        ("RUNNING", STARTING, "RUNNING"),
        ("RUNNING", RUNNING, "RUNNING"),
        ("RUNNING", STOPPING, "LOST"),
        ("RUNNING", STOPPED, "LOST"),
        ("RUNNING", FAILED, "LOST"),
        ("RUNNING", NONE, "LOST"),
        ("SUCCEEDED", RUNNING, "SUCCEEDED"),
        ("SUCCEEDED", NONE, "SUCCEEDED"),
        ("FAILED", STOPPED, "FAILED"),
        ("TIMED_OUT", RUNNING, "TIMED_OUT"),
    ],
)
def test_a_run_is_judged_by_its_file_and_its_machine(said, machine, state):
    found = classify("id", Report(**told(said)) if said else None, machine, now=1120)
    assert (found.state, found.machine) == (state, machine)
    assert found.code == (0 if state == "SUCCEEDED" else 1)
    if said:
        assert found.minutes == (2 if state == "RUNNING" else 1)


def test_the_exit_code_is_the_runs():
    assert classify("id", Report(**told("TIMED_OUT", exit_code=124)), STOPPED, 0).code == 124
    assert RunStatus("id", "LOST", NONE).code == 1


@pytest.fixture
def parts(connect):
    account = connect(max_minutes=0.05, grace_minutes=0.05)
    account.make_bucket()
    return account, NotebookInstance(account), make_run(account, BUNDLE, {})


def put(account, run: Run, name: str, content: bytes) -> None:
    account.upload(run.folder + name, content)


class TestMade:
    def test_two_runs_of_one_second_are_two(self, parts):
        account = parts[0]
        runs = [make_run(account, BUNDLE, {}) for _ in range(20)]
        assert len({run.run_id for run in runs}) == len({run.bundle_key for run in runs}) == 20
        for run in runs[:3]:
            save(account, run)
        assert [find(account, run.run_id) for run in runs[:3]] == runs[:3]
        assert find(account).run_id == max(run.run_id for run in runs[:3])
        with pytest.raises(CloudError, match=r"there is no run x in s3://lab-bucket/.*/src/: there are 2"):
            find(account, "x")

    def test_no_parameter_reaches_past_the_device(self, parts):
        made = make_run(parts[0], BUNDLE, {"DEVICE": "cpu", "DATA": "digits"})
        assert made.command == ("run", "--step", "3", "-p", "DATA", "digits", "-p", "DEVICE", "cuda")
        assert made.device == "cuda"

    @pytest.mark.parametrize(
        ("parameters", "message"), [({"EPOHCS": 3}, "did you mean EPOCHS"), ({"EPOCHS": 0}, "EPOCHS is 0")]
    )
    def test_bad_parameters_are_told(self, parts, parameters, message):
        with pytest.raises(ParameterError, match=message):
            make_run(parts[0], BUNDLE, parameters)

    def test_a_study_is_told_only_what_changes_its_recipe(self, parts):
        made = make_run(parts[0], BUNDLE, {}, seeds=200)
        assert made.command == ("study", "3", "--seeds", "200", "--device", "cuda", "--out", made.kept)
        assert make_run(parts[0], BUNDLE, {"EPOCHS": 8}, seeds=2).command[-3:] == ("-p", "EPOCHS", "8")

    def test_one_of_another_version_is_a_sentence(self, parts):
        account, _, run = parts
        account.upload(run.description_key, run.model_dump_json(exclude={"usd_per_hour"}).encode())
        with pytest.raises(CloudError, match="not described by this version"):
            find(account)

    def test_what_machines_leave_describes_no_run(self, parts):
        account, _, run = parts
        save(account, run)
        other = run.model_copy(update={"run_id": "99999999-000000-notebook-000000", "command": ("other",)})
        for name in ("run.json", f"{run.run_id}.json"):
            put(account, run, name, run.model_copy(update={"command": ("other",)}).model_dump_json().encode())
            put(account, other, name, other.model_dump_json().encode())
        assert find(account) == find(account, run.run_id) == run

    @pytest.mark.parametrize(
        ("changes", "price"),
        [
            ({}, 0.736),
            ({"door": "ec2"}, 0.526),
            ({"instance_type": "ml.g5.xlarge"}, None),
            ({"region": "eu-west-1"}, None),
            ({"door": "job", "spot": True}, None),
            ({"door": "job", "local": True}, None),
        ],
    )
    def test_its_price_is_told_only_where_the_table_holds_it(self, connect, changes, price):
        assert make_run(connect(**changes), BUNDLE, {}).usd_per_hour == price


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b'{"state": "RUNNING", "started": "x", "updated": 1}', b"\xff"]
)
def test_a_damaged_status_is_named(parts, content):
    account, _, run = parts
    put(account, run, "status.json", content)
    with pytest.raises(CloudError, match="is damaged"):
        read_status(account, run, NONE)


def test_a_log_is_read_in_whole_lines(parts):
    account, _, run = parts
    assert read_log(account, run) == []
    put(account, run, "log.txt", b"one\ntw")
    assert read_log(account, run) == ["one"]
    put(account, run, "log.txt", b"one\ntwo\n\xff\n")
    assert read_log(account, run) == ["one", "two", "\N{REPLACEMENT CHARACTER}"]


def test_files_are_fetched_in_full_or_not_at_all(parts, tmp_path, monkeypatch):
    account, _, run = parts
    folder = tmp_path / "there"
    with pytest.raises(CloudError, match="has left nothing"):
        fetch(account, run, folder)
    put(account, run.model_copy(update={"run_id": run.run_id + "0"}), "output/a", b"1")  # another run's do not count
    with pytest.raises(CloudError, match="has left nothing"):
        fetch(account, run, folder)
    contents = {"status.json": b"1", "output/a.png": b"22", "output/steps/3.jsonl": b"3", "output/x/3.jsonl": b"4"}
    for name, content in contents.items():
        put(account, run, name, content)
    fetch(account, run, folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in files} == contents  # as they lie there
    put(account, run, "output/b.png", b"333")
    monkeypatch.setattr(account, "read", lambda key: contents.get(key.removeprefix(run.folder), b"short"))
    with pytest.raises(CloudError, match="fetch again"):
        fetch(account, run, folder)
    assert not (folder / "output" / "b.png").exists() and (folder / "status.json").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["../../evil", "output/../../evil", "/evil", "output//a", "c:evil", "a\\..\\evil"])
def test_no_name_leads_out_of_the_folder(parts, tmp_path, name):
    account, _, run = parts
    put(account, run, "output/a", b"1")
    listed = [{"Key": run.folder + name, "Size": 1}]
    account.objects = lambda prefix: [*type(account).objects(account, prefix), *listed]
    with pytest.raises(CloudError, match="cannot be stored here"):
        fetch(account, run, tmp_path / "lab" / "there")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_is_a_sentence(parts, tmp_path):
    account, _, run = parts
    put(account, run, "output/a", b"1")
    (tmp_path / "file").write_text("")
    with pytest.raises(CloudError, match="cannot write"):
        fetch(account, run, tmp_path / "file" / "there")


class TestFollow:
    @pytest.fixture
    def follow(self, parts, options, capsys):
        """Follows the run; returns its end and what was said, in lines."""
        _, door, run = parts
        look, looks = door.machine, []

        def machine(run: Run) -> Machine:
            looks.append(run)
            assert len(looks) < 1000, "it is followed without an end"
            return look(run)

        door.machine = machine

        def follow(patience: int = 20, **changes):
            session = verbs.Session(options("status", "--poll-seconds", "0.01"))
            session.door = door
            found = verbs.follow(session, run.model_copy(update=changes), patience, moving=0.2)
            return found, capsys.readouterr().out.splitlines()

        return follow

    def start(self, parts) -> None:
        _, door, run = parts
        door.start(run, door.script(run))

    def test_a_machine_that_never_ends_is_stopped_at_the_deadline(self, parts, follow):
        self.start(parts)
        found, said = follow(max_seconds=0, grace_seconds=0)
        assert found.state == "LOST" and "CloudWatch" in found.reason
        assert any("stopping it from here" in line for line in said) and parts[1].status() == "Stopped"

    def test_one_that_does_not_end_after_its_run_is_stopped_long_before_the_time_limit(self, parts, follow):
        put(parts[0], parts[2], "status.json", json.dumps(told("FAILED", exit_code=3)).encode())
        self.start(parts)
        parts[1].wait("in_service")
        found, said = follow(max_seconds=86_400)
        assert found.state == "FAILED" and any("stopping it from here" in line for line in said)
        assert parts[1].status() == "Stopped"

    def test_a_request_that_fails_is_repeated(self, parts, follow, monkeypatch):
        account, _, run = parts
        put(account, run, "status.json", json.dumps(told("FAILED", exit_code=3, reason="so")).encode())
        put(account, run, "log.txt", b"one line\n")
        failures, real = [CloudError("no network")] * 2, account.read

        def read(*arguments):
            if failures:
                raise failures.pop()
            return real(*arguments)

        monkeypatch.setattr(account, "read", read)
        found, said = follow()
        assert (found.state, found.code, found.reason) == ("FAILED", 3, "so")
        assert sum("no network" in line for line in said) == 2 and "  | one line" in said
        failures += [CloudError("no network")] * 3
        with pytest.raises(CloudError, match=r"no network; the run goes on .* mnist-lab cloud status"):
            follow(patience=3)

    def test_a_listing_that_is_behind_does_not_lose_the_run(self, parts, follow, monkeypatch):
        account, door, _ = parts
        seen = [NONE, NONE, STARTING, RUNNING, STOPPED]
        monkeypatch.setattr(door, "machine", lambda run: seen.pop(0) if len(seen) > 1 else seen[0])
        report = json.dumps(told("SUCCEEDED")).encode()
        monkeypatch.setattr(account, "read", lambda key, *more: None if len(seen) > 1 else report)
        found, said = follow()
        assert found.state == "SUCCEEDED" and "run QUEUED, machine Pending" in said
