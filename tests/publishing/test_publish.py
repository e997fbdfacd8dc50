from dataclasses import replace

import pytest

from mnist_lab import LabError, use
from mnist_lab.evidence import records
from mnist_lab.publishing import notebooks, publish
from mnist_lab.publishing.card import WEIGHTS
from mnist_lab.use.weights import PUBLISHED, as_bytes


@pytest.fixture
def steps(write_step):
    return [write_step(1, "1"), write_step(2, "2")]


@pytest.fixture
def made(make_record):
    return [make_record("1"), make_record("2a", kind="intermediate"), make_record("2")]


@pytest.fixture
def folder(root, steps, has_run, made):
    """A complete run of two steps, with a figure each."""
    folder = root / "runs" / "now"
    for step in steps:
        has_run(step, folder)
        (folder / f"{step.path.name[:2]}_curves.png").write_bytes(step.path.name.encode())
    records.write(made, folder)
    return folder


def content(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def tracked(root):
    return records.load(root / "notebooks" / "records")


def test_a_run_replaces_notebooks_figures_and_its_seed(root, steps, folder, made, make_record):
    other, old = make_record("2", seed=7), make_record("2", accuracies=(0.98,) * 5)
    gpu, gone = make_record("2", device_type="cuda"), make_record("2b", kind="intermediate")
    records.write([other, old, gpu, gone], root / "notebooks" / "records")
    for name in ("02_old.png", "search.png"):
        (root / "images" / name).write_bytes(b"")
    publish.publish(folder, root)
    assert tracked(root) == records.in_order([*made, other, gpu])
    assert {path.name for path in (root / "images").iterdir()} == {"01_curves.png", "02_curves.png", "search.png"}
    notebook = notebooks.read(steps[1].path)
    assert notebooks.code_cells(notebook)[1].outputs[0].text == "line 2\n"
    assert notebook.metadata.mnist_lab["files"] == notebooks.digests([root / "images" / "02_curves.png"])
    before = content(root)
    publish.publish(folder, root)
    assert content(root) == before


def test_a_run_of_another_recipe_drops_the_seeds_of_the_old_one(root, folder, make_record):
    old = [make_record("2", seed=seed, recipe={"rotation": 1.0}) for seed in (0, 1)]
    records.write(
        [*old, make_record("2", device_type="cuda", recipe={"rotation": 1.0})], root / "notebooks" / "records"
    )
    publish.publish(folder, root)
    assert [(record.name, record.seed) for record in tracked(root)] == [("1", 0), ("2a", 0), ("2", 0)]


def test_what_may_not_be_published_changes_nothing(root, steps, folder, made, make_record):
    def refused(message):
        before = content(root)
        with pytest.raises(LabError, match=message):
            publish.publish(folder, root)
        assert content(root) == before

    ran = notebooks.read(folder / steps[1].path.name)
    del ran.cells[-1]
    notebooks.write(ran, folder / steps[1].path.name)
    refused(f"{steps[1].path.name} cannot be published: its code differs")
    records.write([made[2].model_copy(update={"train_images": 50_000})], folder)
    refused("it was not a full run on MNIST")
    records.write([made[2].model_copy(update={"recipe": made[2].recipe | {"model": "MyNet"}})], folder)
    refused("MyNet is a network of a notebook's own")
    (folder / "steps" / "2.jsonl").unlink()
    refused("a step left no record")


def test_a_damaged_record_of_another_row_changes_nothing(root, folder):
    other = root / "notebooks" / "records" / "steps" / "3c.jsonl"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("{\n", encoding="utf-8")
    before = content(root)
    with pytest.raises(records.RecordError, match=r"3c\.jsonl"):
        publish.publish(folder, root)
    assert content(root) == before
    other.write_text("", encoding="utf-8")
    publish.publish(folder, root)
    assert [one.name for one in tracked(root)] == ["1", "2a", "2"]


@pytest.fixture
def third(make_record):
    """The record that the published weights belong to."""
    header = use.load().header
    made = make_record("3", header.seed, (header.accuracy,))
    return made.model_copy(update={"recipe": header.recipe})


def test_the_weights_of_step_3_go_where_they_are_loaded_from(third, tmp_path):
    file = tmp_path / "03_weights.safetensors"
    assert publish.check_weights(tmp_path, [third]) is None
    file.write_bytes(PUBLISHED.read_bytes())
    assert publish.check_weights(tmp_path, [third]) == file
    environment = replace(third.environment, device_type="cuda")
    assert publish.check_weights(tmp_path, [third.model_copy(update={"environment": environment})]) is None
    with pytest.raises(LabError, match="not of the run that step 3's record describes"):
        publish.check_weights(tmp_path, [third.model_copy(update={"recipe": {"epochs": 3}})])
    file.write_bytes(b"something else")
    with pytest.raises(LabError, match="no file of weights"):
        publish.check_weights(tmp_path, [third])


def test_weights_are_published_with_the_rest(root, write_step, has_run, folder, made, make_record):
    has_run(write_step(3, "3"), folder)
    third = make_record("3")
    changes = {"recipe": third.recipe, "seed": third.seed, "accuracy": third.accuracy}
    network = use.load()
    content = as_bytes(network.header.model_copy(update=changes), network.arrays)
    (folder / "03_weights.safetensors").write_bytes(content)
    records.write([*made, third], folder)
    assert root / WEIGHTS in publish.publish(folder, root)
    assert (root / WEIGHTS).read_bytes() == content


def test_what_could_not_be_published_is_known_before(root, steps):
    publish.check_request(steps, {}, root)
    with pytest.raises(LabError, match=r"parameters are changed \(EPOCHS\), and not every step runs"):
        publish.check_request(steps[:1], {"EPOCHS": 15}, root)
    with pytest.raises(LabError, match="parameters are changed"):
        publish.check_request([replace(step) for step in steps], {"DATA": "digits"}, root)
