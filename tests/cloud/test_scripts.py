import re
import subprocess

import pytest

from mnist_lab.cloud.doors import DOORS
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.runs import SCRIPTS, Run, render
from mnist_lab.runtime import ROOT


@pytest.fixture
def run() -> Run:
    return Run(
        run_id="20261121-000000-job-0123ab", bucket="lab-bucket", prefix="mnist-lab/job", region="us-east-1",
        device="cuda", bundle_sha256="0" * 64, commit="abc" * 14, max_seconds=3600, grace_seconds=600, poll_seconds=15,
        kept="", command=("run", "-p", "EPOCHS", "3"), usd_per_hour=0.736,
    )  # fmt: skip


def test_the_files_pass_shellcheck_and_are_few(shellcheck):
    files = sorted(SCRIPTS.glob("*.sh"))
    shellcheck(*files)
    assert sum(len(path.read_text().splitlines()) for path in files) <= 350


@pytest.mark.parametrize("door", DOORS)
def test_a_script_and_what_it_writes_are_complete(door, run, connect, tmp_path):
    text = DOORS[door](connect(door=door)).script(run)
    assert text.startswith("#!/bin/bash\n") and text.isascii() and "#include" not in text
    (tmp_path / "start.sh").write_text(text)
    parts = dict(re.findall(r"cat >\"\$\w+/(\w+\.sh)\" <<'\w+'\n(.*?)\nEND_OF_\w+\n", text, re.DOTALL))
    assert parts.keys() >= {"settings.sh", "worker.sh"}
    for name, part in parts.items():
        (tmp_path / name).write_text(f"{part}\n")
    for path in tmp_path.glob("*.sh"):
        subprocess.run(["bash", "-n", path], check=True)
    assert "when_ready()" in parts["settings.sh"] and "worker.sh" in text
    assert not re.search(r"\b(yum|crontab|initctl|pytorch_p310|sudo|key-name)\b", text)  # of platforms that are gone
    assert not re.search(r"AKIA|ASIA|secret|password", text, re.IGNORECASE)


def test_user_data_begins_with_the_systems_own_end(run, connect):
    text = DOORS["ec2"](connect(door="ec2")).script(run)
    assert text.splitlines()[1] == "shutdown -h +70 || shutdown -h now"


def test_what_a_machine_installs_is_what_the_package_needs_besides_torch():
    lists = re.findall(
        r"^(?:dependencies|train) = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    declared = {one for text in lists for one in re.findall(r'"([^"]+)"', text)}
    lines = (SCRIPTS / "requirements.txt").read_text().splitlines()
    assert {line for line in lines if line[0] != "#"} == {
        one for one in declared if not one.startswith(("torch>", "optuna>"))
    }


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\x00", "\x1b[0m", "é", "\u202e"])
def test_what_is_not_printable_ascii_is_refused(run, text):
    with pytest.raises(CloudError, match="printable ASCII"):
        render(run.model_copy(update={"command": ("-p", "MODEL", text)}), "job.sh", 100_000)


def test_a_script_that_is_too_large_is_refused_with_its_size(run):
    size = len(render(run, "job.sh", 100_000))
    assert len(render(run, "job.sh", size)) == size
    with pytest.raises(CloudError, match=f"{size:,} bytes, and AWS takes {size - 1:,}"):
        render(run, "job.sh", size - 1)


def test_windows_line_ends_are_refused(run, tmp_path):
    for path in SCRIPTS.glob("*.sh"):
        (tmp_path / path.name).write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(CloudError, match="Unix line ends"):
        render(run, "job.sh", 100_000, scripts=tmp_path)
