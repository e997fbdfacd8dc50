import subprocess
import sys
from pathlib import Path

from mnist_lab.evidence import records

PLAN = Path(__file__).with_name("plan.py")


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, PLAN, *arguments], capture_output=True, encoding="utf-8")
    return done.returncode, done.stdout + done.stderr


def test_the_plan_for_a_lent_gpu_can_be_rehearsed_on_a_cpu(tmp_path):
    code, said = run(str(tmp_path), "--rehearse")
    assert code == 0, said
    lines = said.splitlines()
    assert [line.split()[0] for line in lines] == ["smoke", "smoke", "one", "one", "profile", "many", "many", "records"]
    assert (tmp_path / "plan.txt").read_text(encoding="utf-8").splitlines() == lines
    assert [one.seed for one in records.load(tmp_path / "records")] == [0, 1]
    assert "CompactNet 24 Conv2d" in (tmp_path / "log" / "smoke-0.txt").read_text(encoding="utf-8")


def test_what_fails_is_a_line(tmp_path):
    (tmp_path / "records").write_text("a file where a folder should be")
    code, said = run(str(tmp_path), "--rehearse", "--parts", "records")
    assert code == 1 and "2 seeds, all epochs, recorded: FAILED (1): " in said
