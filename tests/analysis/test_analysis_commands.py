import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import repeat
from pathlib import Path

import pytest
import torch

from mnist_lab import cli
from mnist_lab.analysis import commands, ensembles, fresh, handwriting, kept, networks, parts, probabilities, tables
from mnist_lab.analysis.networks import AnalysisError, of_seeds
from mnist_lab.analysis.parts import MAKERS, Bench
from mnist_lab.data import data_folder
from mnist_lab.evidence.records import read_list, write, write_list
from mnist_lab.options import QUICK
from mnist_lab.use.handwriting import Handwriting
from mnist_lab.use.reading import CONFIDENCE, load_confidence
from mnist_lab.writers import deal


def test_an_unknown_part_is_refused_with_the_nearest(capsys):
    assert cli.main(["analyse", "robustnes"]) == 1
    assert "did you mean robustness" in capsys.readouterr().err


def test_a_quick_run_is_never_published():
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["analyse", "--quick", "--publish"])


def test_other_numbers_of_seeds_are_not_published(capsys):
    assert cli.main(["analyse", "inside", "--seeds", "3", "--publish"]) == 1
    assert "leave out --seeds" in capsys.readouterr().err


def test_every_part_has_a_maker():
    from mnist_lab.analysis.commands import PARTS

    assert list(MAKERS) == list(PARTS)


def test_publishing_replaces_what_is_tracked(tmp_path, capsys):
    made = [tmp_path / "runs" / name for name in ("one.json", CONFIDENCE.name)]
    tracked = [tmp_path / "notebooks/records/analysis/one.json", tmp_path / "mnist_lab/use" / CONFIDENCE.name]
    for path, text in [*((path, "new") for path in made), *((path, "old") for path in tracked)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    commands.publish(made, tmp_path)
    assert [path.read_text("utf-8") for path in tracked] == ["new", "new"]
    assert "records/analysis" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "out", "seeds", "changes"),
    [
        ([], "analysis", None, {}),
        (["--seeds", "3"], "analysis", 3, {}),
        (["--quick"], "analysis/quick", 2, QUICK),
        (["--quick", "--seeds", "1"], "analysis/quick", 1, QUICK),
        (["--publish"], "analysis", None, {}),
    ],
)
def test_a_quick_run_leaves_full_results_alone(mnist, tmp_path, monkeypatch, arguments, out, seeds, changes):
    asked = []

    def make(bench):
        asked.append((bench.out, bench.seeds, bench.changes))
        write_list(bench.out / "one.json", [])
        return [bench.out / "one.json"]

    monkeypatch.setitem(MAKERS, "shifts", make)
    monkeypatch.setenv("MNIST_LAB_DATA", str(data_folder()))  # the command changes it, and it is as it was afterwards
    assert commands.analyse(cli.parser().parse_args(["analyse", "shifts", *arguments]), tmp_path) == 0
    assert asked == [(tmp_path / "runs" / out, seeds, changes)]
    assert (tmp_path / "notebooks").exists() == ("--publish" in arguments)


@pytest.fixture
def bench(make_record, recipe, tmp_path):
    """Records of three steps, and threads that work."""
    plain = asdict(recipe)
    steps = [make_record(name=name, recipe=plain, accuracies=(0.99, 0.99)) for name in ("1", "2", "3")]
    write(steps, tmp_path / "records")
    with ThreadPoolExecutor(1) as executor:
        changes = {"EPOCHS": 1, "TRAIN_LIMIT": 300}
        yield Bench(tmp_path / "records", tmp_path / "networks", tmp_path / "out", executor, 1, changes)


def test_a_failed_task_does_not_stop_the_others(bench):
    done = []
    with pytest.raises(AnalysisError, match=r"1 of 3 tasks failed; .*\n  ZeroDivisionError: division by zero"):
        bench.do("divide", [(divide, 1, 1, done), (divide, 1, 0, done), (divide, 4, 2, done)])
    assert done == [1, 2]
    assert bench.do("divide", [(divide, 6, 2, done), (divide, 4, 2, done)]) == [3, 2]


def divide(a, b, done):
    done.append(a / b)
    return done[-1]


def test_steps_without_records_are_told(bench, tmp_path):
    assert bench.steps()["3"].epochs == 1 and bench.settings.train_limit == 300
    (tmp_path / "records" / "steps" / "2.jsonl").unlink()
    with pytest.raises(AnalysisError, match="step 2 has no records"):
        bench.steps()


def test_what_was_computed_is_not_computed_again(tmp_path):
    path, calls = tmp_path / "folder" / "one.json", []

    def compute(value):
        calls.append(value)
        return {"value": value}

    assert kept.once(path, compute, 3) == kept.once(path, compute, 3) == {"value": 3}
    assert calls == [3] and json.loads(path.read_text("utf-8")) == {"value": 3}


def test_probabilities_are_made_and_packed(bench, mnist):
    """A network, one epoch of 300 images."""
    made = MAKERS["probabilities"](bench)
    assert [path.name for path in made] == ["probabilities.json", "probabilities-3-test.xz"]
    packed = probabilities.read_index(bench.out)["3", "test"]
    assert packed.trained == bench.trained("3")
    found = probabilities.unpack(packed, bench.out)
    assert found.labels.tolist() == mnist.test.labels.tolist()
    correct = [int((one.argmax(-1) == found.labels).sum()) for one in found.probabilities]
    assert correct == packed.correct and packed.seeds == [0]


def test_an_index_keeps_what_is_tracked_and_of_todays_recipe(bench, mnist):
    made = MAKERS["probabilities"](bench)
    packed = probabilities.read_index(bench.out)["3", "test"]
    written = packed.model_copy(
        update={"scored_on": "held-out", "trained": bench.trained("3", "held-out"), "file": "there.xz"}
    )
    assert [path.name for path in parts.index([written], bench)] == ["probabilities.json", "there.xz"]
    assert set(probabilities.read_index(bench.out)) == {("3", "held-out")}  # not what was made before
    old = packed.model_copy(update={"name": "2", "trained": "2-0123456789", "file": "old.xz"})
    write_list(kept.tracked(bench.records) / probabilities.INDEX, [written, old])
    assert parts.index([packed], bench) == made  # there.xz is tracked, and not made anew
    assert set(probabilities.read_index(bench.out)) == {("3", "test"), ("3", "held-out")}
    newer = written.model_copy(update={"sha256": "another"})
    write_list(kept.tracked(bench.records) / probabilities.INDEX, [newer])
    parts.index([packed], bench)  # what was only copied from there before
    assert probabilities.read_index(bench.out)["3", "held-out"] == newer


def test_robustness_that_is_tracked_is_not_made_again(bench, mnist, recipe, monkeypatch):
    from mnist_lab.analysis import robustness

    monkeypatch.setattr(robustness, "CORRUPTIONS", {"blur": robustness.CORRUPTIONS["blur"]})
    monkeypatch.setattr(networks, "published_third_steps", lambda: {"A3": recipe})
    (path,) = MAKERS["robustness"](bench)
    every = read_list(path, robustness.Robustness)
    assert [one.name for one in every] == ["1", "1", "2", "2", "3", "3", "A3", "A3"]
    others = [one for one in every if one.name not in ("2", "A3")]
    write_list(kept.tracked(bench.records) / path.name, others)
    trained = []
    monkeypatch.setattr(Bench, "train", lambda self, trainings: trained.extend(one.name for one in trainings))
    (path,) = MAKERS["robustness"](bench)
    assert trained == ["2", "A3"] and read_list(path, robustness.Robustness) == every
    write_list(kept.tracked(bench.records) / path.name, [one for one in every if one.corruption != "blur"])
    MAKERS["robustness"](bench)
    assert trained[2:] == ["1", "2", "3", "A3"]  # none is whole


def test_what_is_tracked_of_a_smaller_step_is_not_made_again(bench, mnist, monkeypatch):
    from mnist_lab.analysis import smaller

    ways = [one for one in smaller.WAYS if one.name in ("32 bits", "8 bits", "50% of the weights, trained so")]
    monkeypatch.setattr(smaller, "WAYS", ways)
    (path,) = MAKERS["smaller"](bench)
    every = read_list(path, smaller.Smaller)
    assert [one.way for one in every] == [way.name for way in ways]
    assert smaller.not_measured(every) == ""
    others = [one for one in every if one.way != "8 bits"]
    assert smaller.not_measured(others) == "Not measured yet: 8 bits."
    older = others[0].model_copy(update={"trained": "3-0123456789", "way": "8 bits"})
    write_list(kept.tracked(bench.records) / path.name, [*others, older])
    done = []
    monkeypatch.setattr(Bench, "do", lambda self, what, tasks: done.extend(what for _ in tasks) or [dict(every[1])])
    (path,) = MAKERS["smaller"](bench)
    assert done == ["train", "shrink"] and read_list(path, smaller.Smaller) == every


@pytest.mark.parametrize("part", ["shifts", "inside"])
def test_every_file_of_a_part_is_made(bench, mnist, part):
    """Of networks of one epoch of 300 images."""
    made = MAKERS[part](bench)
    assert made and all(path.parent == bench.out and path.stat().st_size for path in made)


@pytest.fixture
def untrained(monkeypatch):
    """Trains nothing: the network of seed s reads its last digit in every image."""
    monkeypatch.setattr(Bench, "train", lambda self, trainings: None)

    def answer(training, folder, split):
        return torch.eye(10)[training.seed % 10].expand(len(split), 10)

    monkeypatch.setattr(networks, "probabilities", answer)
    monkeypatch.setattr(ensembles, "probabilities", answer)


def test_networks_judge_writers_that_they_were_not_trained_on(bench, mnist, writers, untrained):
    index, written, sure = MAKERS["writers"](bench)
    packed = probabilities.read_index(bench.out)["3", "held-out"]
    found = probabilities.unpack(packed, bench.out)
    judges = deal(writers["train"])
    assert (found.probabilities[0].argmax(-1) == judges).all()
    assert packed.correct == [int((judges == mnist.train.labels.numpy()).sum())]
    told = load_confidence(sure)
    assert (told.images, told.networks, told.scored_on, told.sure_from) == (60_000, 6, "held-out", 1)
    assert told.recipe == asdict(bench.steps()["3"]) and index.parent == written.parent == sure.parent == bench.out


def test_an_ensemble_is_asked_together_and_one_by_one(bench, mnist, monkeypatch):
    trainings = of_seeds("3", bench.steps()["3"], range(3), bench.settings)
    said = torch.rand(3, len(mnist.test), 10, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(ensembles, "probabilities", lambda training, folder, split: said[training.seed])
    told = ensembles.score(7, trainings, bench.networks)
    labels, all_of_them = mnist.test.labels.numpy(), said.double().numpy()
    assert told["errors_by_vote"] == (ensembles.vote(all_of_them) != labels).sum()
    assert told["errors_by_mean"] == (ensembles.mean_answer(all_of_them) != labels).sum() != told["errors_by_vote"]
    assert told["errors_alone"] == [int((one.argmax(-1) != mnist.test.labels).sum()) for one in said]
    assert (told["networks"], told["trial"], told["parameters"]) == (3, 7, 3 * 7946)


def test_ensembles_are_scored_trial_by_trial(bench, mnist, untrained):
    longer = replace(bench, changes={"EPOCHS": 15}, seeds=2)  # as long as a step, which no network here trains
    (path,) = MAKERS["ensembles"](longer)
    found = read_list(path, ensembles.Shared)
    assert [(one.networks, one.trial) for one in found] == [(size, trial) for size in (2, 3, 8) for trial in (0, 1)]
    assert all(one.errors_alone[0] == int((mnist.test.labels != one.trial * one.networks % 10).sum()) for one in found)


def test_drawings_are_read_by_the_networks_of_step_3(bench, mnist, monkeypatch, tmp_path):
    def made_writers(bench):
        bench.out.mkdir()
        return [Path(shutil.copy(CONFIDENCE, bench.out))]

    drawn = (255 - mnist.test.images[0, 0].numpy(), 7)
    monkeypatch.setattr(parts, "QUICK_IMAGES", 20)
    monkeypatch.setattr(parts, "make_writers", made_writers)
    monkeypatch.setattr(handwriting, "COLLECTIONS", {"Endless": lambda: repeat(drawn)})
    sure, path = MAKERS["handwriting"](bench)
    (reader,) = Handwriting.model_validate_json(path.read_bytes()).readers
    assert sure.name == CONFIDENCE.name and (reader.seed, list(reader.collections)) == (0, ["Endless"])
    assert reader.collections["Endless"].wrong["fitted"] in (0, parts.QUICK_IMAGES)  # all are alike


def test_fresh_digits_are_counted(training, store, digits, monkeypatch):
    monkeypatch.setattr(fresh, "load_lost_digits", lambda: digits.test)
    said = networks.probabilities(training, store, digits.test)
    right = int((said.argmax(1) == digits.test.labels).sum())
    assert fresh.score(training, store) == right and 0 < right < len(digits.test)


def test_what_was_read_of_fresh_digits_is_sorted_by_recipe(recipe):
    trainings = [*of_seeds("2", recipe, range(2)), *of_seeds("3", replace(recipe, rotation=7.0), range(1))]
    second, third = fresh.gather(trainings, [49_000, 49_500, 49_800])
    assert (second.name, second.correct, third.name, third.correct) == ("2", [49_000, 49_500], "3", [49_800])
    rows = tables.fresh_table([second, third]).rows
    assert [row[0] for row in rows] == ["2", "3"] and "98.50" in " ".join(rows[0])
