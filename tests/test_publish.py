import shutil
from dataclasses import replace

import nbformat
import pytest

from mnist_lab import publish, records, runner
from mnist_lab.runner import RunError, Step

STEPS = runner.find_steps()
OUTPUT = 6  # a code cell of step 2


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of what is published, which a test may publish over; returns (root, folder of a run, steps)."""
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
    for path in [*publish.RECORDS.glob("*"), *publish.IMAGES.glob("*"), *(root / "notebooks").glob("*.ipynb")]:
        shutil.copy(path, folder)
    return root, folder, [Step(root / "notebooks" / step.path.name) for step in STEPS]


def content(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def edit(path, change):
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def test_publishing_what_is_published_changes_nothing(checkout):
    root, folder, steps = checkout
    before = content(root)
    replaced = publish.publish(folder, steps)
    after = content(root)
    for drawn_anew in (before, after):
        del drawn_anew[root / "images" / publish.LADDER]
    assert after == before
    assert {path.name for path in replaced} >= {"README.md", "03_augmentation_onecycle.ipynb", "step-1-seed-0.json"}


def test_what_a_step_no_longer_makes_is_removed_and_other_seeds_stay(checkout):
    _, folder, steps = checkout
    rung = records.load_record(folder / "step-2a-seed-0.json")
    old = records.save(replace(rung, row="2b"), publish.RECORDS)
    other = records.save(replace(rung, settings={**rung.settings, "seed": 1}), publish.RECORDS)
    figure = publish.IMAGES / "02_something_old.png"
    figure.write_bytes(b"")
    publish.publish(folder, steps)
    assert not old.exists() and not figure.exists()
    assert other.exists()
    row = next(line for line in publish.README.read_text().splitlines() if line.startswith("| 2a |"))
    assert row.split(" | ")[4:6] == ["15", "2"]  # epochs, seeds


def test_prose_edited_during_the_run_is_kept(checkout):
    _, folder, steps = checkout

    def edit_prose(notebook):
        notebook.cells[0].source += "\n\nAn afterthought."

    edit(steps[0].path, edit_prose)
    publish.publish(folder, steps)
    notebook = nbformat.read(steps[0].path, as_version=4)
    assert notebook.cells[0].source.endswith("An afterthought.")
    assert runner.faults(notebook) == []


def test_new_results_replace_records_notebooks_and_tables(checkout):
    root, folder, steps = checkout
    old = records.load_record(folder / "step-3-seed-0.json")
    records.save(replace(old, change="another change"), folder)
    publish.publish(folder, steps)
    assert "another change" in (root / "README.md").read_text()
    assert records.load_record(root / "notebooks" / "records" / "step-3-seed-0.json").change == "another change"
    files = nbformat.read(steps[2].path, as_version=4).metadata.mnist_lab.files
    assert files["step-3-seed-0.json"] == publish.digest(root / "notebooks" / "records" / "step-3-seed-0.json")


def test_noise_is_removed(checkout):
    _, folder, steps = checkout

    def add_noise(notebook):
        notebook.metadata["papermill"] = {"duration": 1.0}
        notebook.metadata.kernelspec["name"] = "somebodys-kernel"
        for cell in notebook.cells:
            cell.metadata["papermill"] = {"duration": 1.0}
            cell.metadata["execution"] = {"iopub.status.busy": "2026"}

    before = steps[0].path.read_bytes()
    edit(folder / steps[0].path.name, add_noise)
    publish.publish(folder, steps)
    assert steps[0].path.read_bytes() == before


def stderr(notebook):
    notebook.cells[OUTPUT].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="UserWarning: beware"))


def widget(notebook):
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}}
    notebook.cells[OUTPUT].outputs.append(nbformat.v4.new_output("display_data", data=data))


def path_of_this_machine(notebook):
    notebook.cells[OUTPUT].outputs.append(nbformat.v4.new_output("stream", name="stdout", text=str(publish.ROOT)))


def injected(notebook):
    cell = nbformat.v4.new_code_cell("EPOCHS = 1", execution_count=1)
    cell.metadata["tags"] = ["injected-parameters"]
    notebook.cells.insert(4, cell)


def unexecuted(notebook):
    runner.code_cells(notebook)[-1].execution_count = None


def raised(notebook):
    notebook.cells[OUTPUT].outputs = [nbformat.v4.new_output("error", ename="E", evalue="v", traceback=[])]


def other_source(notebook):
    runner.code_cells(notebook)[-1].source += "\n# edited"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (stderr, "wrote to stderr: UserWarning"),
        (widget, "shows a widget"),
        (path_of_this_machine, "shows a path"),
        (injected, "injected parameters"),
        (unexecuted, "not executed in order"),
        (raised, "raised E: v"),
        (other_source, "its code differs from that in the repository"),
    ],
)
def test_what_a_reader_should_not_meet_is_refused_and_nothing_changes(checkout, damage, message):
    root, folder, steps = checkout
    before = content(root)
    edit(folder / steps[1].path.name, damage)
    with pytest.raises(RunError, match=rf"{steps[1].path.name} cannot be published.*{message}"):
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
    seeds = [replace(shown, settings=shown.settings | {"seed": seed}, seconds=1.0) for seed in range(3)]
    publish.publish_study(seeds)
    assert records.load_record(publish.RECORDS / shown.file_name) == shown
    assert {path.name for path in publish.RECORDS.glob("step-3-*")} == {f"step-3-seed-{seed}.json" for seed in range(3)}
    row = next(line for line in publish.README.read_text().splitlines() if line.startswith("| 3 |"))
    assert " | 3 | " in row and "± 0.00" in row
    assert not [path for path in root.rglob(".*")]


def test_a_study_of_another_recipe_changes_nothing(checkout):
    root, folder, _ = checkout
    shown = records.load_record(folder / "step-3-seed-0.json")
    other = replace(shown, settings=shown.settings | {"seed": 1}, recipe=shown.recipe | {"rotation": 1.0})
    before = content(root)
    with pytest.raises(RunError, match="mixes different recipes"):
        publish.publish_study([other])
    assert content(root) == before


def test_a_run_with_another_recipe_drops_the_seeds_of_the_old_one(checkout):
    _, folder, steps = checkout
    shown = records.load_record(folder / "step-3-seed-0.json")
    publish.publish_study([replace(shown, settings=shown.settings | {"seed": 1})])
    records.save(replace(shown, recipe=shown.recipe | {"rotation": 1.0}), folder)
    publish.publish(folder, steps)
    assert {path.name for path in publish.RECORDS.glob("step-3-*")} == {"step-3-seed-0.json"}


def test_a_benchmark_is_tracked_with_its_figure_and_table(checkout, speed):
    root, _, _ = checkout
    publish.publish_benchmark(speed)
    assert publish.load_benchmarks() == [speed]
    assert "| image by image | CompactNet | 125 | 2 | 40.0 | 4.00 |" in publish.README.read_text()
    assert (publish.IMAGES / publish.SPEED).stat().st_size > 1000
    assert not [path for path in root.rglob(".*")]
