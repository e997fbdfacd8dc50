import shutil
from dataclasses import replace

import nbformat
import pytest
from PIL import Image

from mnist_lab import executed, publish, readme, records, runner
from mnist_lab.runner import RunError, Step

STEPS = runner.find_steps()
NEW = 1000  # a seed that no study reaches


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of what is published, which a test may publish over, and the folder of the run that its notebooks show.

    Returns (root, folder, steps). A test must not count on how many seeds are tracked beside those shown.
    """
    root = tmp_path / "checkout"
    shutil.copytree(runner.NOTEBOOKS, root / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(publish.IMAGES, root / "images")
    shutil.copy(publish.README, root / "README.md")
    monkeypatch.setattr(publish, "RECORDS", root / "notebooks" / "records")
    monkeypatch.setattr(publish, "IMAGES", root / "images")
    monkeypatch.setattr(publish, "README", root / "README.md")
    monkeypatch.setattr(publish, "BENCHMARKS", root / "notebooks" / "benchmarks")
    monkeypatch.setattr(publish, "RUNS", tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    shown = publish.RECORDS.glob("*-seed-0.json")
    for path in [*shown, *publish.IMAGES.glob("*"), *(root / "notebooks").glob("*.ipynb")]:
        shutil.copy(path, folder)
    return root, folder, [Step(root / "notebooks" / step.path.name) for step in STEPS]


def content(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_publishing_what_is_published_changes_nothing(checkout):
    root, folder, steps = checkout
    before = content(root)
    replaced = publish.publish(folder, steps)
    after = content(root)
    for drawn_anew in (before, after):
        del drawn_anew[root / "images" / publish.SEEDS]
    assert after == before
    assert {path.name for path in replaced} >= {"README.md", "03_augmentation_onecycle.ipynb", "step-1-seed-0.json"}


def test_what_a_step_no_longer_makes_is_removed_and_other_seeds_stay(checkout):
    _, folder, steps = checkout
    rung = records.load_record(folder / "step-2a-seed-0.json")
    old = records.save(replace(rung, row="2b"), publish.RECORDS)
    other = records.save(replace(rung, settings={**rung.settings, "seed": NEW}), publish.RECORDS)
    seeds = len([*publish.RECORDS.glob("step-2a-*")])
    figure = publish.IMAGES / "02_something_old.png"
    figure.write_bytes(b"")
    publish.publish(folder, steps)
    assert not old.exists() and not figure.exists()
    assert other.exists()
    row = next(line for line in publish.README.read_text().splitlines() if line.startswith("| 2a |"))
    assert row.split(" | ")[3:5] == ["15", str(seeds)]  # epochs, seeds


def test_new_results_replace_records_notebooks_and_tables(checkout):
    root, folder, steps = checkout
    old = records.load_record(folder / "step-3-seed-0.json")
    records.save(replace(old, change="another change"), folder)
    publish.publish(folder, steps)
    assert "another change" in (root / "README.md").read_text()
    assert records.load_record(root / "notebooks" / "records" / "step-3-seed-0.json").change == "another change"
    files = nbformat.read(steps[2].path, as_version=4).metadata.mnist_lab.files
    assert files["step-3-seed-0.json"] == executed.digest(root / "notebooks" / "records" / "step-3-seed-0.json")


def test_a_notebook_that_cannot_be_published_changes_nothing(checkout):
    root, folder, steps = checkout
    before = content(root)
    notebook = nbformat.read(folder / steps[1].path.name, as_version=4)
    runner.code_cells(notebook)[-1].source += "\n# edited"
    nbformat.write(notebook, folder / steps[1].path.name)
    with pytest.raises(RunError, match=rf"{steps[1].path.name} cannot be published.*its code differs"):
        publish.publish(folder, steps)
    assert content(root) == before


@pytest.mark.parametrize(
    ("function", "call"), [("copyfile", 1), ("copyfile", 20), ("replace", 1), ("replace", 36), ("replace", 43)]
)
def test_a_disk_that_fails_changes_nothing(checkout, monkeypatch, function, call):
    root, folder, steps = checkout
    records.save(replace(records.load_record(folder / "step-3-seed-0.json"), change="another change"), folder)
    before, calls = content(root), []
    owner = shutil if function == "copyfile" else type(root)
    works = getattr(owner, function)

    def fail_once(source, target):
        calls.append(target)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        return works(source, target)

    monkeypatch.setattr(owner, function, fail_once)
    with pytest.raises(RunError, match="cannot publish: No space left on device"):
        publish.publish(folder, steps)
    assert len(calls) >= call
    assert content(root) == before


def test_a_missing_block_in_the_readme_changes_nothing(checkout):
    root, folder, steps = checkout
    publish.README.write_text("# no blocks\n")
    before = content(root)
    with pytest.raises(RunError, match="generated blocks"):
        publish.publish(folder, steps)
    assert content(root) == before


def test_only_complete_default_runs_on_mnist_are_published(checkout):
    _, folder, steps = checkout
    full = records.load_records(folder)
    assert publish.refusals(steps, {}, full, steps) == []
    assert "EPOCHS" in publish.refusals(steps, {"EPOCHS": 15}, full, steps)[0]
    assert publish.refusals(steps[:2], {}, [r for r in full if r.step < 3], steps) == ["not every step ran"]
    sample = [replace(record, data="digits sample, not MNIST") for record in full]
    assert publish.refusals(steps, {}, sample, steps) == ["it was not a full run on MNIST"]
    held_out = [replace(record, train_images=50_000) for record in full]
    assert publish.refusals(steps, {}, held_out, steps) == ["it was not a full run on MNIST"]
    assert publish.refusals(steps, {}, full[:-1], steps) == ["a step left no record"]
    theirs = [replace(record, recipe=record.recipe | {"published": "E3"}) for record in full]
    assert publish.refusals(steps, {}, theirs, steps) == ["a published recipe took the place of our own"]


def test_a_study_adds_seeds_and_keeps_the_one_that_the_notebook_shows(checkout):
    root, folder, _ = checkout
    shown = records.load_record(folder / "step-3-seed-0.json")
    before = {path.name for path in publish.RECORDS.glob("step-3-*")}
    seeds = [replace(shown, settings=shown.settings | {"seed": seed}, seconds=1.0) for seed in (0, NEW, NEW + 1)]
    publish.publish_study(seeds)
    assert records.load_record(publish.RECORDS / shown.file_name) == shown
    assert {path.name for path in publish.RECORDS.glob("step-3-*")} == before | {seed.file_name for seed in seeds}
    row = next(line for line in publish.README.read_text().splitlines() if line.startswith("| 3 |"))
    assert f" | {len(before) + 2} | " in row
    tracked = records.load_records(publish.RECORDS)
    assert Image.open(publish.IMAGES / publish.SEEDS).text["Description"] == publish.seeds_fingerprint(tracked)
    text = publish.README.read_text()
    assert readme.render(text, publish.tracked(records=tracked)) == text
    assert not [path for path in root.rglob(".*")]


def test_the_fingerprint_tells_when_the_figure_of_all_seeds_is_stale(published, seeds):
    study = seeds([0.9950, 0.9951])
    assert publish.seeds_fingerprint(study) == publish.seeds_fingerprint(seeds([0.9950, 0.9951]))
    others = [study[:1], study[::-1], seeds([0.9950, 0.9952]), seeds([0.9950, 0.9951], change="another")]
    assert len({publish.seeds_fingerprint(other) for other in [study, *others]}) == 5


def test_a_study_of_another_recipe_changes_nothing(checkout):
    root, folder, _ = checkout
    shown = records.load_record(folder / "step-3-seed-0.json")
    other = replace(shown, settings=shown.settings | {"seed": NEW}, recipe=shown.recipe | {"rotation": 1.0})
    before = content(root)
    with pytest.raises(RunError, match="mixes different recipes"):
        publish.publish_study([other])
    assert content(root) == before


def test_a_run_with_another_recipe_drops_the_seeds_of_the_old_one(checkout):
    _, folder, steps = checkout
    shown = records.load_record(folder / "step-3-seed-0.json")
    publish.publish_study([replace(shown, settings=shown.settings | {"seed": NEW})])
    records.save(replace(shown, recipe=shown.recipe | {"rotation": 1.0}), folder)
    publish.publish(folder, steps)
    assert {path.name for path in publish.RECORDS.glob("step-3-*")} == {"step-3-seed-0.json"}


def test_a_run_on_a_gpu_is_tracked_where_the_study_does_not_look(checkout, on_gpu):
    root, folder, steps = checkout
    before = records.load_records(publish.RECORDS)
    publish.publish_gpu_run([on_gpu])
    publish.publish_gpu_run([replace(on_gpu, settings=on_gpu.settings | {"seed": 1})])
    assert [run.seed for run in publish.load_gpu_runs()] == [0, 1] and publish.load_gpu_runs()[0] == on_gpu
    assert records.load_records(publish.RECORDS) == before
    assert publish.README.read_text().count("**On a GPU:** Tesla T4") == 2
    publish.publish(folder, steps)  # further runs on the CPU leave it
    publish.write_overview()
    assert publish.README.read_text().count("**On a GPU:** Tesla T4") == 2
    assert not [path for path in root.rglob(".*")]


def test_a_gpu_run_on_a_full_disk_changes_nothing(checkout, on_gpu, monkeypatch):
    root, _, _ = checkout
    before = content(root)
    monkeypatch.setattr(
        shutil, "copyfile", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(RunError, match="No space left"):
        publish.publish_gpu_run([on_gpu])
    assert content(root) == before


def test_a_benchmark_is_tracked_with_its_figure_and_table(checkout, speed):
    root, _, _ = checkout
    publish.publish_benchmark(speed)
    assert publish.load_benchmarks() == [speed]
    assert "| image by image | CompactNet | 125 | 2 | 40.0 | 4.00 |" in publish.README.read_text()
    assert (publish.IMAGES / publish.SPEED).stat().st_size > 1000
    assert not [path for path in root.rglob(".*")]
