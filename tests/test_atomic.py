import os
import signal
from pathlib import Path

import pytest

from mnist_lab.atomic import replace_together, write_whole


@pytest.fixture
def files(tmp_path) -> tuple[Path, list[Path]]:
    """A new file, and three old ones to be replaced by it."""
    new, targets = tmp_path / "new", [tmp_path / name for name in "abc"]
    new.write_text("new")
    for target in targets:
        target.write_text("old")
    return new, targets


def test_all_are_replaced_and_the_unwanted_removed(files, tmp_path):
    new, targets = files
    replace_together(dict.fromkeys([*targets[:2], tmp_path / "folder" / "d"], new), targets[2:])
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"new", "a", "b", "d"}
    assert targets[0].read_text() == "new" and new.exists()


def test_a_missing_source_changes_nothing(files, tmp_path):
    new, targets = files
    with pytest.raises(OSError):
        replace_together({targets[0]: new, targets[1]: tmp_path / "missing"}, targets[2:])
    assert [path.read_text() for path in targets] == ["old"] * 3
    assert {path.name for path in tmp_path.iterdir()} == {"new", "a", "b", "c"}


def test_a_swap_that_fails_midway_is_undone(files, tmp_path, monkeypatch):
    new, targets = files
    replace_file = Path.replace

    def refused(source, target):
        if target == targets[1] and source.name.endswith(".new"):
            raise OSError(28, "No space left on device")
        return replace_file(source, target)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(OSError, match="No space left"):
        replace_together(dict.fromkeys([tmp_path / "d", *targets[:2]], new), targets[2:])  # "d" was not there before
    assert [path.read_text() for path in targets] == ["old"] * 3
    assert {path.name for path in tmp_path.iterdir()} == {"new", "a", "b", "c"}


def test_a_signal_waits_until_all_files_are_replaced(files, monkeypatch):
    new, targets = files
    received, replace_file = [], Path.replace

    def interrupted(source, target):
        if target == targets[0]:
            os.kill(os.getpid(), signal.SIGTERM)
        return replace_file(source, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    before = signal.signal(signal.SIGTERM, lambda *_: received.append([path.read_text() for path in targets]))
    try:
        replace_together(dict.fromkeys(targets, new))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [["new", "new", "new"]]


def test_a_file_is_written_whole_or_stays(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    write_whole(path, b"first")
    assert path.read_bytes() == b"first"

    def full(self, content):
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"second")
    assert [file.name for file in path.parent.iterdir()] == ["file"]
    assert path.read_text() == "first"
