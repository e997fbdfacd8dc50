import json
import os
from dataclasses import replace

import nbformat
import pytest
import torch
from PIL import Image

from mnist_lab import benchmark, cli, commands, data, publish, runner, study, sweep, tables
from mnist_lab.models import MODELS
from mnist_lab.published.recipes import REPAIRED
from mnist_lab.records import load_records


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """An empty folder in place of ``runs/``; nothing tracked may change below it or beside it."""
    monkeypatch.setattr(runner, "RUNS", tmp_path / "runs")
    monkeypatch.setenv("MNIST_LAB_DATA", os.environ.get("MNIST_LAB_DATA", ""))  # what --data sets goes with the test
    tracked = [*runner.NOTEBOOKS.rglob("*.*"), *publish.IMAGES.iterdir(), publish.README]
    before = {path: path.read_bytes() for path in tracked if path.is_file()}
    yield tmp_path / "runs"
    assert all(path.read_bytes() == content for path, content in before.items())


def refuse_to_load():
    raise data.DataNotFound("MNIST is not in data and could not be downloaded (no network)")


def test_all_three_notebooks_run_on_mnist(mnist, runs, capfd):
    assert cli.main(["run", "-p", "EPOCHS", "1", "-p", "TRAIN_LIMIT", "1000"]) == 0
    said = capfd.readouterr().out
    folder = next(path for path in runs.iterdir() if path.is_dir())
    assert [record.row for record in load_records(folder)] == ["1", "2a", "2", "3a", "3"]
    assert all(record.data == "MNIST" for record in load_records(folder))
    assert "[3/3] 03_augmentation_onecycle.ipynb" in said and "epoch  1/1" in said
    assert "not published, since parameters were changed (EPOCHS, TRAIN_LIMIT)" in said
    for step in runner.find_steps():
        executed = nbformat.read(folder / step.path.name, as_version=4)
        assert not any(out.get("name") == "stderr" for cell in executed.cells for out in cell.get("outputs", []))
        names = {name for name in publish_figures(step)}
        assert names <= {path.name for path in folder.iterdir()}


def publish_figures(step) -> list[str]:
    files = nbformat.read(step.path, as_version=4).metadata.mnist_lab["files"]
    return [name for name in files if name.endswith(".png")]


def test_without_mnist_and_network_the_digits_take_its_place_loudly(runs, capfd, monkeypatch):
    monkeypatch.delenv("MNIST_LAB_DATA")
    monkeypatch.setattr(commands, "load_mnist", refuse_to_load)
    assert cli.main(["run", "--quick", "-p", "EPOCHS", "1"]) == 0
    said = capfd.readouterr().out
    assert "RUNNING ON" in said.upper() and "DIGITS SAMPLE, NOT MNIST" in said
    assert said.count("digits sample, not MNIST") >= 2  # the notebook's data line, and the table
    assert "not published" in said
    folder = next(path for path in runs.iterdir() if path.is_dir())
    records = load_records(folder)
    assert [record.row for record in records] == ["1", "2a", "2", "3a", "3"]
    assert {record.data for record in records} == {"digits sample, not MNIST"}


def test_a_folder_asked_for_by_name_is_never_replaced(runs, tmp_path, capsys):
    assert cli.main(["run", "--data", str(tmp_path)]) == 1
    assert f"no MNIST in {tmp_path}" in capsys.readouterr().err


def test_mnist_asked_for_by_name_is_never_replaced(runs, monkeypatch, capsys):
    monkeypatch.delenv("MNIST_LAB_DATA")
    monkeypatch.setattr(commands, "load_mnist", refuse_to_load)
    assert cli.main(["run", "-p", "DATA", "MNIST"]) == 1
    assert "could not be downloaded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "EPOHCS", "3"], "did you mean EPOCHS?"),
        (["-p", "EPOCHS", "0"], "EPOCHS is 0"),
        (["-p", "LEARNING_RATE", "-1"], "LEARNING_RATE is -1"),
        (["-p", "EPOCHS", "many"], "EPOCHS is 'many'"),
        (["--step", "9"], "there is no step 9, only 1, 2, 3"),
    ],
)
def test_bad_arguments_are_told_before_anything_runs(runs, capsys, arguments, message):
    assert cli.main(["run", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not runs.exists()


def test_cuda_without_a_gpu_is_told_before_anything_runs(runs, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["run", "--device", "cuda"]) == 1
    assert "no CUDA GPU" in capsys.readouterr().err
    assert not runs.exists()


@pytest.mark.parametrize("step", ["1", "3"])
def test_a_failing_step_fails_the_command(runs, capsys, step):
    arguments = ["-p", "DATA", "digits", "-p", "TRAIN_LIMIT", "100", "-p", "BATCH_SIZE", "500"]
    assert cli.main(["run", "--step", step, *arguments]) == 1
    assert "batch size 500 does not fit 100" in capsys.readouterr().err


def test_a_gpu_never_runs_on_the_sample_in_place_of_mnist(runs, monkeypatch, capsys):
    monkeypatch.delenv("MNIST_LAB_DATA")
    monkeypatch.setattr(commands, "load_mnist", refuse_to_load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cli.main(["run"]) == 1
    assert "could not be downloaded" in capsys.readouterr().err


def test_a_relative_data_folder_is_the_callers(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNIST_LAB_DATA", "here")
    assert cli.main(["run"]) == 1
    assert f"no MNIST in {tmp_path}/here" in capsys.readouterr().err


def test_overrides_are_read_as_papermill_reads_them():
    options = cli.parser().parse_args(
        [
            "run",
            "--quick",
            "--device",
            "cpu",
            "-p",
            "EPOCHS",
            "3",
            "-p",
            "MODEL",
            "SkeletonNet",
            "-p",
            "TRAIN_LIMIT",
            "None",
        ]
    )
    assert commands.read_overrides(options) == {
        "EPOCHS": 3,
        "TRAIN_LIMIT": None,
        "DEVICE": "cpu",
        "MODEL": "SkeletonNet",
    }


def test_results_are_those_of_the_records(capsys):
    assert cli.main(["results", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    records = load_records(publish.RECORDS)
    assert [result["row"] for result in found] == list(dict.fromkeys(record.row for record in records))
    assert found[-1]["trainable"] < 8000 and found[-1]["mean"] >= 0.994
    assert cli.main(["results"]) == 0
    said = capsys.readouterr().out
    assert all(table.text() in said for table in tables.overview(records))


def test_a_damaged_record_is_named(monkeypatch, tmp_path, capsys):
    (tmp_path / "step-1-seed-0.json").write_text("{")
    monkeypatch.setattr(publish, "RECORDS", tmp_path)
    assert cli.main(["results"]) == 1
    assert "step-1-seed-0.json" in capsys.readouterr().err


def test_no_records_is_an_instruction(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(publish, "RECORDS", tmp_path)
    for command in (["results"], ["study", "3"], ["bench"], ["readme"]):
        assert cli.main(command) == 1
        assert "run the steps first" in capsys.readouterr().err


def test_readme_and_its_figure_are_written_from_the_records(monkeypatch, tmp_path):
    stale = publish.README.read_text().replace("OneCycleLR", "something else")
    for name, place in {"README": "README.md", "IMAGES": "images", "RUNS": "runs"}.items():
        monkeypatch.setattr(publish, name, tmp_path / place)
    publish.README.write_text(stale)
    assert cli.main(["readme"]) == 0
    assert "| OneCycleLR |" in publish.README.read_text()
    drawn_from = Image.open(publish.IMAGES / publish.SEEDS).text["Description"]
    assert drawn_from == publish.seeds_fingerprint(load_records(publish.RECORDS))


def test_models_lists_every_network(capsys):
    assert cli.main(["models", "--json"]) == 0
    found = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert list(found) == list(MODELS)
    assert found["CompactNet"]["receptive_field"] == 28
    assert found["CompactNet"]["origin"] == "own" and found["D3"]["origin"] == "anirudh-s97/session_7"
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(MODELS) + 1 and "480,640" in lines[2]
    assert lines[0].endswith("  origin") and lines[2].endswith("  own")
    assert lines[-1].split() == ["E3", "7,236", "7,236", "1,444,872", "32", "dhairyag/multi_models_MNIST"]


def test_the_study_of_a_row_that_is_not_there_lists_the_rows(runs, capsys):
    assert cli.main(["study", "9"]) == 1
    assert "there is no row '9' in the results, only 1, 2a, 2, 3a, 3" in capsys.readouterr().err


@pytest.fixture
def conducted(monkeypatch):
    """Studies that train nothing: each seed repeats the tracked record. Returns the plans, and what was published."""
    plans, published = [], []

    def conduct(plan, folder, parallel):
        plans.append((plan, folder, parallel))
        tracked = next(record for record in load_records(publish.RECORDS) if record.row == plan.row)
        return [replace(tracked, settings=tracked.settings | {"seed": seed}) for seed in plan.seeds]

    monkeypatch.setattr(study, "conduct", conduct)
    monkeypatch.setattr(publish, "publish_study", lambda records: published.append(records) or records)
    return plans, published


def test_a_study_repeats_the_recipe_of_its_row_with_other_seeds(mnist, runs, conducted, capsys):
    plans, published = conducted
    assert cli.main(["study", "2a", "--seeds", "3"]) == 0
    ((plan, folder, parallel),) = plans
    tracked = next(record for record in load_records(publish.RECORDS) if record.row == "2a")
    assert vars(plan.recipe) == tracked.recipe and plan.change == tracked.change
    assert list(plan.seeds) == [0, 1, 2] and plan.settings.threads == 1 and parallel is None
    assert folder == runs / "study" / "2a"
    assert [record.seed for record in published[0]] == [0, 1, 2]
    assert " 3      " in capsys.readouterr().out  # seeds


def test_published_steps_are_trained_in_order_and_shown(mnist, runs, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(sweep, "train", lambda entry, *how: trained.append((entry.recipe.row, *how)))
    assert cli.main(["reproduce", "E", "repairs", "--device", "cpu", "--parallel", "1"]) == 0
    assert trained[:4] == [
        ("E1", 3, "cpu", 1), ("E2", 3, "cpu", 1), ("E3", 5, "cpu", 1), ("A3 unclipped logits", 3, "cpu", 1),
    ]  # fmt: skip
    assert len(trained) == 3 + len(REPAIRED)
    assert "our step 3" in capsys.readouterr().out
    assert cli.main(["reproduce", "E3", "--seeds", "2"]) == 0
    assert trained[-1] == ("E3", 2, "auto", None)


def test_a_step_that_fails_does_not_keep_the_others_waiting(mnist, runs, monkeypatch, capsys):
    trained = []

    def train(entry, *how):
        if entry.recipe.row == "E2":
            raise study.StudyError("1 of 3 seeds did not finish")
        trained.append(entry.recipe.row)

    monkeypatch.setattr(sweep, "train", train)
    assert cli.main(["reproduce", "E"]) == 1
    assert trained == ["E1", "E3"]
    assert "E2: 1 of 3 seeds did not finish" in capsys.readouterr().err


def test_what_is_known_of_the_published_series_is_printed_for_scripts(runs, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "train", None)  # nothing is trained
    assert cli.main(["reproduce", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["step"] for one in found][-3:] == ["our step 1", "our step 2", "our step 3"]
    assert found[-1]["last"]["mean"] >= 0.994 and found[-1]["claimed"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["F"], "there is nothing called F to train"), (["--data", "nowhere"], "no MNIST in")],
)
def test_what_cannot_be_reproduced_is_told(runs, capsys, arguments, message):
    assert cli.main(["reproduce", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_what_is_tracked_of_mnist_is_never_trained_on_the_sample(runs, monkeypatch, capsys):
    monkeypatch.delenv("MNIST_LAB_DATA")
    monkeypatch.setattr(commands, "load_mnist", refuse_to_load)
    for command in (["reproduce", "A1"], ["search", "sgd"], ["bench"]):
        assert cli.main(command) == 1
        said = capsys.readouterr()
        assert "MNIST is not in data" in said.err and "instead" not in said.out


def test_a_published_recipe_is_not_mixed_with_parameters_of_another(runs, capsys):
    assert cli.main(["run", "-p", "PUBLISHED", "E3", "-p", "EPOCHS", "3"]) == 1
    assert "a published recipe has its own EPOCHS: leave out one of the two" in capsys.readouterr().err
    options = cli.parser().parse_args(["run", "--quick", "-p", "PUBLISHED", "E3"])
    assert commands.read_overrides(options) == {"TRAIN_LIMIT": 3000, "PUBLISHED": "E3"}


def test_a_notebook_runs_a_published_recipe_and_says_so(runs, capfd, monkeypatch):
    """The last one, with its rung, on the sample."""
    monkeypatch.delenv("MNIST_LAB_DATA")
    assert (
        cli.main(["run", "--step", "3", "-p", "PUBLISHED", "C1", "-p", "DATA", "digits", "-p", "TRAIN_LIMIT", "200"])
        == 0
    )
    said = capfd.readouterr().out
    assert "digits sample, not MNIST, C1 as published: 200 images to train on" in said
    assert "not published, since parameters were changed (PUBLISHED, DATA, TRAIN_LIMIT)" in said
    assert "a published recipe took the place of our own" in said
    folder = next(path for path in runs.iterdir() if path.is_dir())
    records = load_records(folder)
    assert {record.published for record in records} == {"C1"} and {record.model["name"] for record in records} == {"C1"}
    assert {record.change for record in records} == {"C1 as published"}


def test_a_study_with_a_changed_parameter_is_not_published(mnist, runs, conducted, capsys, tmp_path):
    plans, published = conducted
    assert cli.main(["study", "3", "--parallel", "1", "-p", "SCORE_ON", "held-out", "--out", str(tmp_path)]) == 0
    assert plans[0][0].settings.score_on == "held-out" and plans[0][1:] == (tmp_path, 1)
    assert not published
    assert "not published, since parameters were changed" in capsys.readouterr().out


def test_a_benchmark_is_of_the_last_step_on_all_cores(mnist, runs, monkeypatch, speed, capsys):
    asked, published = [], []
    monkeypatch.setattr(benchmark, "measure", lambda recipe, settings: asked.append((recipe, settings)) or speed)
    monkeypatch.setattr(publish, "publish_benchmark", published.append)
    assert cli.main(["bench", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["two_processes"] == speed.two_processes
    assert asked[0][0].schedule == "one-cycle" and asked[0][1].threads == os.cpu_count()
    assert published == [speed]
