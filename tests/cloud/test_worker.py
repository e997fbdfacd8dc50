"""The worker and its guards, rendered, stored as AWS stores them, and carried out by bash on a notebook instance.

The worker is the same behind every door; test_no_forgotten_bill.py tells the doors apart.

In most tests a stub takes the place of the package: what is tested is what the scripts do with a run, not the run.
No verdict depends on the clock: time limits are half an hour, and where one is to be over, a test ends what waits
for it.
"""

import fcntl
import json
import os
import re
import signal
import subprocess
import threading

import nbformat
import pytest
from trial import DELETES, HANGS, OUTPUTS, Trial

from mnist_lab.cloud.bundle import make_bundle
from mnist_lab.cloud.runs import SCRIPTS
from mnist_lab.publishing.notebooks import code_cells


@pytest.fixture
def trial(tmp_path, machine, environments, connect):
    machine.work.mkdir(parents=True)
    (machine.work / ".environments").symlink_to(environments)
    return Trial(tmp_path / "lab", machine, connect)


def test_a_run_succeeds_stops_itself_and_is_not_repeated(trial, machine, environments):
    frozen = machine.root / "frozen"
    frozen.touch()
    trial.place()
    trial.start()  # to its end, though the worker cannot go on: the start script waits for nothing
    frozen.unlink()
    status = trial.end()
    assert (status.state, status.exit_code, status.code) == ("SUCCEEDED", 0, 0)
    assert trial.files() == {*OUTPUTS, "log.txt", "status.json"}
    assert trial.text("output/steps/3.jsonl") == "a step"
    assert trial.text("output/note.txt") == "run --step 3 -p DATA digits -p DEVICE cpu"
    assert machine.said.startswith("mnist-lab: run")
    times = {
        entry["Key"].rpartition("/")[2]: entry["LastModified"] for entry in trial.account.objects(trial.job.folder)
    }
    assert times["status.json"] == max(times.values())  # the word of its success comes last
    assert (machine.work / trial.job.run_id / "notebooks" / "03_trial.ipynb").is_file()  # for work by hand
    assert len(list(environments.glob("*/.installed"))) == 1  # kept, for the next start

    before = trial.files(), trial.text("status.json")
    kernels = machine.home / ".local" / "share" / "jupyter" / "kernels" / "mnist-lab" / "kernel.json"
    kernels.unlink()  # home does not outlive a stop
    trial.start()
    trial.until(kernels.is_file, "the kernel")
    trial.until(lambda: machine.tasks() == {"cap"}, "the worker's end")
    assert "nothing is repeated" in machine.log()
    assert (trial.files(), trial.text("status.json")) == before
    assert trial.word() == "InService"  # a person started it; the cap stays
    shown = json.loads(kernels.read_text())
    assert shown["argv"][0].startswith(str(machine.work))
    kernel = [shown["argv"][0], "-c", "import mnist_lab; print(mnist_lab.__file__)"]  # wherever its notebook is
    found = subprocess.check_output(kernel, cwd="/", env=machine.environment, text=True).strip()
    assert found == f"{machine.work / trial.job.run_id}/mnist_lab/__init__.py"
    end_the_cap(trial)
    assert trial.end().state == "SUCCEEDED"


def test_a_failing_cell_fails_the_run_and_its_notebook_comes_home(trial):
    status = trial.run(cells=("1 / 0",))
    assert (status.state, status.exit_code, status.code) == ("FAILED", 1, 1)
    assert "ZeroDivisionError" in status.reason and "ZeroDivisionError" in trial.text("log.txt")
    assert "ZeroDivisionError" in trial.text("output/03_trial.ipynb")


def test_a_run_beyond_its_time_is_ended_and_what_it_has_comes_home(trial, machine):
    """The alarm of timeout(1) is given once the notebook is under way, however long a busy machine took for that."""
    begun = machine.root / "begun"
    trial.place(cells=("print('begun')", f"open({str(begun)!r}, 'w').close()\nimport time; {HANGS}"))
    trial.start()
    trial.until(begun.exists, "the notebook")
    ((pid, words),) = [(pid, words) for pid, words in machine.commands().items() if words[0] == "timeout"]
    assert 0 < int(words[2]) <= 1800
    os.kill(pid, signal.SIGALRM)
    status = trial.end()
    assert (status.state, status.exit_code) == ("TIMED_OUT", 124)
    assert status.reason == "the time was up (1800 s) while training"
    notebook = nbformat.reads(trial.text("output/03_trial.ipynb"), as_version=4)
    assert any("begun" in str(cell.outputs) for cell in code_cells(notebook))


def end_the_cap(trial) -> None:
    pid, seconds = trial.until(trial.machine.cap, "the cap's sleep")
    assert seconds == trial.job.max_seconds + trial.job.grace_seconds == 2400
    os.kill(pid, signal.SIGKILL)


def test_a_run_that_died_with_its_instance_is_carried_out_by_the_next_start(trial, machine):
    trial.place(HANGS)
    trial.start()
    trial.until(trial.told, "the status")
    machine.halt()  # power gone
    trial.door.stop()
    assert trial.end().state == "LOST"
    trial.account.call("s3", "delete_object", Bucket="lab-bucket", Key=trial.job.bundle_key)  # for a short second try
    trial.start()
    assert "could not be fetched" in trial.end().reason


def test_the_seeds_of_a_study_come_home_all_along_and_outlive_their_machine(trial, machine):
    """On a spot machine, say: the next one fetches them before it trains."""
    kept = "pathlib.Path('runs/0-study/steps/3.jsonl')"
    wrote = f"{kept}.write_text('was fetched' if {kept}.exists() else 'seed 0')"
    trial.place(f"{kept}.parent.mkdir(parents=True, exist_ok=True); {wrote}; {HANGS}", looks=0.2, seeds=200)
    assert trial.job.command[:7] == ("study", "3", "--seeds", "200", "--device", "cpu", "--out")
    trial.start()
    trial.until(lambda: trial.files() >= {"output/steps/3.jsonl"}, "the first seed")
    machine.halt()
    trial.door.stop()
    code = machine.work / trial.job.run_id
    (code / ".complete").unlink()
    trial.start()
    again = code / "runs" / "0-study" / "steps" / "3.jsonl"
    trial.until(lambda: again.is_file() and again.read_text() == "was fetched", "the first seed, on another machine")


def test_a_held_lock_keeps_a_second_worker_from_starting(trial, machine):
    trial.place()
    with open(machine.work / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        trial.start()
        trial.until(lambda: "another worker holds" in machine.log(), "the second worker")
        trial.until(lambda: machine.tasks() == {"cap"}, "its end")
        assert trial.files() == set() and trial.word() == "InService"


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
    status = trial.run(cells=("1",), device="cuda", instance_type="ml.g4dn.xlarge")
    assert status.state == "FAILED" and "no usable GPU" in status.reason
    assert "PyTorch sees no CUDA GPU" in trial.text("log.txt")
    assert trial.files() == {"log.txt", "status.json"}


def test_without_pytorch_the_run_fails(trial, machine):
    for python in machine.pythons():
        python.unlink()
    status = trial.run()
    assert status.state == "FAILED" and "no Python with PyTorch" in status.reason


def test_what_the_kernel_kills_for_its_memory_is_no_time_out(trial, machine):
    python = "#!/bin/bash\n[[ $1 == -c ]] && echo 3.10.9-2.10.0 && exit\nkill -KILL $$\n"
    machine.write("home/ec2-user/anaconda3/envs/pytorch/bin/python", python, 0o755)
    (machine.work / ".environments").unlink()
    status = trial.run()
    assert (status.state, status.exit_code) == ("FAILED", 137)
    assert status.reason == "killed while installing packages: the memory of the machine may be too small"


def test_a_full_volume_stops_the_instance_and_is_told(trial, machine):
    trial.place(grace_minutes=0.05, looks=0.2)
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
    trial.place(f"open({str(machine.root / 'offline')!r}, 'w').close()", looks=0.2)
    trial.start()
    trial.until((machine.root / "offline").exists, "the run")
    trial.until(lambda: "could not upload: again" in machine.log(), "the failing upload")
    assert trial.word() == "InService"
    (machine.root / "offline").unlink()
    assert trial.end().state == "SUCCEEDED" and trial.files() >= OUTPUTS


def test_an_upload_that_lost_a_file_of_a_name_that_is_there_twice_is_no_success(trial, machine):
    """aws has been seen to do nothing, successfully; what S3 lists is compared path by path."""
    trial.edit = lambda text: text.replace("--recursive", "--recursive --exclude 'ablations/*'")
    status = trial.run(grace_minutes=0.05, looks=0.2)
    assert (status.state, "the outputs could not be uploaded" in status.reason) == ("FAILED", True)
    assert "output/steps/3.jsonl" in trial.files()


def test_an_instance_whose_uploads_always_fail_stops_all_the_same(trial, machine):
    (machine.root / "offline").touch()
    trial.place(grace_minutes=0.05, looks=0.2)
    trial.start()
    assert trial.end().state == "NEW"  # not a word of it reached S3
    assert "S3 cannot be written to" in machine.log()


def test_a_start_without_a_name_fails_and_costs_nothing(trial, machine):
    (machine.root / "opt" / "ml" / "metadata" / "resource-metadata.json").write_text("{}")
    trial.place()
    trial.start()
    assert (trial.word(), trial.status().state) == ("Failed", "FAILED")
    assert "the machine failed" in trial.status().reason and "nothing could stop it" in machine.said
    assert machine.processes() == []


def test_windows_line_ends_do_not_start(trial, machine):
    """Why the script is checked before it is stored."""
    trial.place()
    assert machine.boot("mnist-lab", trial.script.replace("\n", "\r\n").encode()) == 127


def test_warnings_of_an_old_aws_do_not_keep_it_from_stopping(trial, machine, aws):
    (machine.root / "chatty").touch()
    assert trial.run(upload=False, looks=0.2).state == "FAILED"
    assert aws.refused_stops == 0


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
    names = [name for name, item in type(trial.job).model_fields.items() if item.annotation is str and name != "run_id"]
    values = {name: words[index % len(words)] for index, name in enumerate(names)}
    trial.job = trial.job.model_copy(update=values | {"command": words})
    assert machine.boot("mnist-lab", trial.script.encode()) == 0
    shown = " ".join(f'"${name}"' for name in names)
    read = f'. {machine.control}/settings.sh; printf "%s\\n" {shown} "${{command[@]}}"'
    said = subprocess.check_output(["bash", "-c", read], env=machine.environment, text=True).splitlines()
    assert said == [*values.values(), *words]
    machine.halt()
    assert not pwned.exists()


def test_the_scripts_make_no_call_that_the_roles_policy_does_not_allow():
    """That S3 does what these need with the execution policy alone is in test_policy."""
    calls = "".join((SCRIPTS / name).read_text() for name in ("worker.sh", "notebook.sh"))
    assert set(re.findall(r"\baws (s3api|s3|sagemaker) ([a-z0-9-]+)", calls)) == {
        ("s3", "cp"), ("s3api", "head-object"), ("s3api", "list-objects-v2"),
        ("sagemaker", "describe-notebook-instance"), ("sagemaker", "stop-notebook-instance"),
    }  # fmt: skip


class TestMutations:
    """Each guard of the scripts removed: the harm that it prevents has to show, or these tests could not see it."""

    def edit(self, trial, *change) -> None:
        """Change the script; as with any change, it has to be one."""
        trial.edit = lambda text: re.sub(*change, text, flags=re.MULTILINE)
        unchanged = trial.door.script(trial.job)
        assert trial.edit(unchanged) != unchanged

    def test_without_redirection_the_hook_waits_for_the_worker(self, trial, machine):
        trial.place(HANGS)
        self.edit(trial, r' </dev/null >>"\$control/\$task.log" 2>&1 &', " &")
        hook = threading.Thread(target=machine.boot, args=("mnist-lab", trial.script.encode()))
        hook.start()
        trial.until(trial.told, "the status")  # so the hook has done its part long ago
        waits = hook.is_alive()
        machine.halt()
        hook.join()
        assert waits and "mnist-lab: run" in machine.said

    def test_without_trying_again_a_pending_instance_is_never_stopped(self, trial, machine, aws):
        aws.pending_stops = 1
        trial.place(upload=False, looks=0.2)
        self.edit(trial, "^until stop_machine; do", "stop_machine; while false; do")
        trial.start()
        trial.until(lambda: machine.tasks() == {"cap"}, "the worker's end")
        assert aws.refused_stops == 1 and trial.word() == "InService"

    def test_with_trying_again_it_is(self, trial, aws):
        aws.pending_stops = 2
        assert trial.run(upload=False, looks=0.2).state == "FAILED"
        assert aws.refused_stops == 2

    def test_without_the_guard_a_killed_worker_leaves_the_instance_running_until_the_cap(self, trial, machine):
        trial.place(HANGS, looks=0.5)
        self.edit(trial, r"^for task in cap worker", "bash $control/worker.sh >/dev/null 2>&1 & for task in cap")
        trial.machine.work.mkdir(parents=True, exist_ok=True)
        (trial.machine.work / "logs").mkdir(exist_ok=True)
        (trial.machine.work / "logs" / f"{trial.job.run_id}.txt").touch()
        trial.start()
        trial.until(trial.told, "the status")
        os.kill(trial.until(machine.worker, "the worker"), signal.SIGKILL)
        trial.until(lambda: "worker" not in machine.tasks(), "the worker's end")
        assert trial.word() == "InService" and machine.tasks() == {"cap"}
        end_the_cap(trial)
        assert trial.end().state == "LOST"

    def test_without_the_cap_a_killed_guard_leaves_it_running_for_good(self, trial, machine):
        trial.place(HANGS, looks=0.5)
        self.edit(trial, "^for task in cap worker", "for task in worker")
        trial.start()
        trial.until(trial.told, "the status")
        os.kill(machine.guard(), signal.SIGKILL)
        os.kill(trial.until(machine.worker, "the worker"), signal.SIGKILL)
        trial.until(lambda: machine.tasks() <= {"worker"} and not machine.worker(), "the end of both")
        assert trial.word() == "InService" and machine.cap() is None  # nobody is left who could stop it

    def test_without_leaving_a_folder_that_is_gone_nothing_is_uploaded(self, trial, machine):
        """aws does nothing, successfully, in a folder that was deleted; so the end happens in /."""
        trial.place(DELETES, looks=0.5)
        self.edit(trial, r"^ *cd / .*\n", "")
        trial.start()
        trial.until(lambda: "could not upload" in machine.log(), "the failing upload")
        assert json.loads(trial.text("status.json"))["state"] == "RUNNING"

    def test_without_the_checksum_other_bytes_would_be_carried_out(self, trial, machine):
        trial.place()
        (trial.folder / "mnist_lab" / "other.py").write_text("")
        trial.account.upload(trial.job.bundle_key, make_bundle(trial.folder))
        self.edit(trial, r"^ *sha256sum --check .*\n", "    true ||\n")
        trial.start()
        trial.end()
        assert (machine.work / trial.job.run_id / "mnist_lab" / "other.py").is_file()


def test_a_run_that_deletes_its_own_folder_still_tells_and_stops(trial):
    assert trial.run(f"{DELETES}; 1 / 0").state == "FAILED"
    assert "log.txt" in trial.files()


def test_outside_of_tests_paths_are_the_instances(trial, tmp_path):
    trial.place()
    settings = trial.script.partition("END_OF_SETTINGS'\n")[2].partition("END_OF_SETTINGS\n")[0]
    (tmp_path / "settings.sh").write_text(settings)
    read = f'. {tmp_path}/settings.sh 2>/dev/null; echo "$user $work $control"'
    said = subprocess.check_output(["env", "-i", "bash", "-c", read], text=True)
    assert said.split() == ["ec2-user", "/home/ec2-user/SageMaker/mnist-lab", "/var/lib/mnist-lab"]


def test_the_emulator_is_on_this_machine_alone(emulator, connect):
    assert emulator.url.startswith("http://127.0.0.1:") and connect().caller["Account"] == "123456789012"
