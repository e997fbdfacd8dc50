"""mnist-lab predict and export as a user meets them."""

import io
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from drawings import as_file, draw

from mnist_lab import cli
from mnist_lab.use import load
from mnist_lab.use.reading import ALLOWED, find_sure, load_confidence, percent, read
from mnist_lab.use.weights import PUBLISHED, as_bytes


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw("7").save(folder / "b.png")
    draw("405").save(folder / "a.jpg")
    (folder / "notes.txt").write_text("no picture", encoding="utf-8")
    return folder


def predict(capsys, *arguments) -> tuple[int, str, str]:
    code = cli.main(["predict", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_pictures_and_folders(capsys, pictures):
    code, out, err = predict(capsys, pictures, pictures / "b.png")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{pictures / 'a.jpg'}: 405"
    assert [line.split()[0] for line in lines[1:4]] == ["4", "0", "5"]
    assert all(line.startswith(f"{pictures / 'b.png'}: 7  ") for line in lines[4:]) and len(lines) == 6


def test_json(capsys, pictures):
    code, out, _ = predict(capsys, pictures / "a.jpg", pictures / "none.png", "--json")
    found, failed = json.loads(out)
    assert code == 1 and failed["file"].endswith("none.png") and "No such file" in failed["error"]
    assert [one["digit"] for one in found["digits"]] == ["4", "0", "5"]
    first = found["digits"][0]
    assert first["probability"] > first["second_probability"] >= 0 and first["sure"] is True
    assert first["box"][2] < found["digits"][1]["box"][0]


def test_stdin(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(as_file(draw("2")))))
    code, out, _ = predict(capsys, "-", "--show")
    assert code == 0 and out.startswith("stdin: 2")
    shown = out.splitlines()[1:]
    assert len(shown) == 28 and max(map(len, shown)) <= 56 and "██" in out


def test_what_cannot_be_read_keeps_nothing_else_from_it(capsys, pictures, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    code, out, err = predict(capsys, tmp_path / "empty.png", pictures / "b.png", tmp_path / "nowhere.png")
    assert code == 1 and ": 7" in out
    assert [line.split(": ")[2].split(" ")[0] for line in err.splitlines()] == ["it", "it"]
    assert "Traceback" not in err and "empty.png: it is empty: 0 bytes" in err
    (tmp_path / "none").mkdir()
    code, _, err = predict(capsys, tmp_path / "none")
    assert code == 1 and "there is no picture in the folder" in err


def test_weights_that_are_not_there_or_wrong(capsys, pictures, tmp_path):
    assert predict(capsys, pictures, "--weights", PUBLISHED)[0] == 0
    code, _, err = predict(capsys, pictures, "--weights", tmp_path / "none")
    assert code == 1 and "No such file" in err
    code, _, err = predict(capsys, pictures, "--weights", pictures / "b.png")
    assert code == 1 and "no file of weights in safetensors" in err


def test_an_unsure_reading_says_so_and_names_the_runner_up(capsys, pictures, tmp_path):
    """The published network with its logits made a fiftieth cannot be sure of anything."""
    network = load()
    last = max(int(name.split(".")[0]) for name in network.arrays)
    blunt = {name: array / 50 if name.startswith(f"{last}.") else array for name, array in network.arrays.items()}
    (tmp_path / "blunt").write_bytes(as_bytes(network.header, blunt))
    (reading,) = load(tmp_path / "blunt").read(str(pictures / "b.png"))
    assert (reading.digit, reading.sure, reading.is_close) == ("7", False, True)
    assert reading.probability < 0.3 and reading.second != "7"
    _, out, _ = predict(capsys, pictures / "b.png", "--weights", tmp_path / "blunt")
    assert f"%  unsure, or {reading.second} (" in out


def test_a_network_of_another_recipe_gets_a_note_on_sure(capsys, pictures, tmp_path):
    network = load()
    other = network.header.model_copy(update={"recipe": network.header.recipe | {"epochs": 3}})
    (tmp_path / "other").write_bytes(as_bytes(other, network.arrays))
    code, out, err = predict(capsys, pictures / "b.png", "--weights", tmp_path / "other")
    assert (code, err.count("was not measured"), out.splitlines()[0].split()[1]) == (0, 1, "7")
    assert predict(capsys, pictures / "b.png", "--weights", PUBLISHED)[2] == ""


def test_no_reading_is_certain():
    said = {0.5: "50.0 %", 0.9994: "99.9 %", 0.9996: "> 99.9 %", 1: "> 99.9 %"}
    assert {share: percent(share) for share in said} == said


def test_from_where_on_readings_are_sure():
    probabilities = np.linspace(1, 0, 1900)
    right = np.ones(1900, dtype=bool)
    assert find_sure(probabilities, right) == 0
    right[1500] = False  # 1 of 1,501 is rare enough
    assert find_sure(probabilities, right) == 0
    right[1600] = False  # 2 of 1,601 are not, nor are they of all 1,900
    assert find_sure(probabilities, right) == probabilities[1599]
    assert find_sure(probabilities[::-1], right[::-1]) == probabilities[1599]
    assert find_sure(probabilities, np.zeros(1900, dtype=bool)) == 1
    tied = np.array([0.9] * 1000 + [0.5])
    assert find_sure(tied, np.array([False, False] + [True] * 999)) == 1


def test_the_tracked_confidence_is_what_it_says():
    found = load_confidence()
    assert found.scored_on == "held-out" and found.recipe == load().header.recipe
    assert found.wrong_of_sure <= ALLOWED * (found.images - found.unsure)


def test_reading_needs_neither_pytorch_nor_what_trains(pictures):
    """In a process that cannot import them, as after a pip install without extras; the command line, too."""
    code = f"""
        import sys

        class Refuse:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {{"torch", "torchvision", "sklearn", "matplotlib", "filelock", "tqdm"}}:
                    raise ModuleNotFoundError(f"no {{name}}", name=name)

        sys.meta_path.insert(0, Refuse())
        from mnist_lab import cli
        assert cli.main(["predict", {str(pictures)!r}]) == 0
        assert cli.main(["run", "--quick"]) == 1
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, encoding="utf-8", check=True
    )
    assert "a.jpg: 405" in done.stdout
    assert 'is not installed: in the checkout, pip install -e ".[train]"' in done.stderr


def test_one_line_of_python(pictures):
    (reading,) = load().read(pictures / "b.png")
    assert (reading.digit, reading.sure) == ("7", True)
    assert [one.digit for one in read(load(), as_file(draw("123")))] == ["1", "2", "3"]
