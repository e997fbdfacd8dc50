"""What only a GPU can show, point by point; nearer tests of single rooms are beside these rooms' other tests."""

import gc
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lab import experiment
from mnist_lab.batches import OrderedBatches
from mnist_lab.data import Dataset
from mnist_lab.evidence import records
from mnist_lab.models import MODELS, BatchNorm
from mnist_lab.recipe import Recipe, Settings
from mnist_lab.runtime import ROOT, make_repeatable
from mnist_lab.speed import diagnosis, side_by_side
from mnist_lab.speed.side_by_side import train_together
from mnist_lab.training import evaluate, predict

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
CPU, GPU = torch.device("cpu"), torch.device("cuda")
LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.fixture(scope="module")
def data(settings: Settings) -> Dataset:
    return experiment.load_data(settings)


@pytest.fixture
def on_gpu(settings) -> Settings:
    return replace(settings, device="cuda")


def largest_difference(ours: Tensor, exact: Tensor) -> float:
    """Return the largest difference between numbers on a GPU and exact ones, as a share of the largest of these."""
    return float((ours.detach().cpu().double() - exact).abs().max() / exact.abs().max())


def test_single_precision_is_not_rounded_further():
    make_repeatable(0, 1)
    images, weight = torch.randn(8, 16, 12, 12), torch.randn(32, 16, 3, 3)
    exact = F.conv2d(images.double(), weight.double())
    assert largest_difference(F.conv2d(images.to(GPU), weight.to(GPU)), exact) < 1e-5  # with TF32 it is 1e-3
    left, right = torch.randn(300, 300), torch.randn(300, 300)
    assert largest_difference(left.to(GPU) @ right.to(GPU), left.double() @ right.double()) < 1e-5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_bias_of_a_norm_without_scale_learns(layout, precision):
    make_repeatable(0, 1)
    entering, upstream, norms = torch.randn(50, 16, 12, 12), torch.randn(50, 16, 12, 12), [BatchNorm(16), BatchNorm(16)]
    norms[0](entering).backward(upstream)
    there = entering.to(GPU, precision).contiguous(memory_format=layout)
    norms[1].to(GPU)(there).backward(upstream.to(there).contiguous(memory_format=layout))
    tolerance = 1e-5 if precision == torch.float32 else 2e-2
    assert torch.allclose(norms[1].bias.grad.cpu(), norms[0].bias.grad, rtol=tolerance, atol=50 * tolerance)
    assert torch.allclose(norms[1].running_var.cpu(), norms[0].running_var, rtol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_a_batch_are_those_of_the_cpu(name, recipe, data, settings):
    recipe, found = replace(recipe, model=name), {}
    for device in (CPU, GPU):
        parts = experiment.assemble(recipe, data.to(device), settings)
        images, labels = next(iter(parts.batches))
        recipe.loss(parts.model.train()(images), labels).backward()
        found[device] = [parameter.grad.cpu() for parameter in parts.model.parameters()]
    for ours, theirs in zip(found[GPU], found[CPU], strict=True):
        assert largest_difference(ours, theirs.double()) < 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_training_gives_the_same_bits_twice(name, recipe, on_gpu):
    recipe, data = replace(recipe, model=name), experiment.load_data(on_gpu)
    first, second = (experiment.train(recipe, data, on_gpu, on_epoch=lambda epoch: None) for _ in range(2))
    assert torch.equal(first.probabilities, second.probabilities)
    assert [epoch.train for epoch in first.history] == [epoch.train for epoch in second.history]
    assert all(map(torch.equal, first.model.state_dict().values(), second.model.state_dict().values()))


def test_a_network_is_scored_as_on_the_cpu_in_batches_of_any_size(recipe, data, settings):
    model, test = experiment.initial_network(recipe, settings), data.to(GPU).test
    expected, probabilities = evaluate(model, OrderedBatches(data.test)), predict(model, OrderedBatches(data.test))
    for size in (50, 1000):
        found = evaluate(model.to(GPU), OrderedBatches(test, size))
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)
        assert abs(found.accuracy - expected.accuracy) <= 1 / len(data.test)  # one image may be on the edge
        assert torch.allclose(predict(model, OrderedBatches(test, size)), probabilities, atol=1e-4)


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("name", MODELS)
def test_a_seed_in_a_stack_learns_what_it_learns_alone(name, precision, tolerance, recipe, on_gpu, monkeypatch):
    if precision == torch.bfloat16 and side_by_side.pick_precision(GPU, 2) != precision:
        pytest.skip("this GPU has no bfloat16")
    recipe, data = replace(recipe, model=name, epochs=1), experiment.load_data(on_gpu)
    monkeypatch.setattr(side_by_side, "pick_precision", lambda device, networks: precision)
    for seed, found in zip([3, 4], train_together(recipe, data, on_gpu, [3, 4]), strict=True):
        alone = experiment.train(recipe, data, replace(on_gpu, seed=seed), on_epoch=lambda epoch: None)
        assert found.opening_loss == alone.opening_loss
        assert found.history[0].train.loss == pytest.approx(alone.history[0].train.loss, rel=tolerance)


class Reads(Recipe):
    """A recipe whose loss waits for the GPU, which no graph may."""

    def loss(self, logits, labels):
        found = super().loss(logits, labels)
        assert not torch.is_grad_enabled() or float(found) >= 0
        return found


def test_where_a_graph_cannot_be_recorded_training_goes_on_without_and_the_next_one_can(recipe, on_gpu):
    recipe, data = replace(recipe, epochs=1), experiment.load_data(on_gpu)
    (expected,), stream = train_together(recipe, data, on_gpu, [3]), torch.cuda.current_stream()
    with pytest.warns(UserWarning, match="without a CUDA graph, since recording one failed"):
        (found,) = train_together(Reads(**asdict(recipe)), data, on_gpu, [3])
    assert torch.cuda.current_stream() == stream
    (again,) = train_together(recipe, data, on_gpu, [3])
    assert torch.equal(found.probabilities, expected.probabilities)
    assert torch.equal(again.probabilities, expected.probabilities)


def test_seeds_that_do_not_fit_say_so_and_leave_room_for_those_that_do(recipe, on_gpu):
    recipe, data = replace(recipe, epochs=1, batch_size=250), experiment.load_data(on_gpu)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    room = torch.cuda.memory_reserved() + 200 * 2**20
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total))
    try:
        with pytest.raises(torch.OutOfMemoryError):
            train_together(recipe, data, on_gpu, range(64))
        gc.collect()  # what the error's frames held
        torch.cuda.empty_cache()
        (found,) = train_together(recipe, data, on_gpu, [3])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(found.history) == 1


def test_what_training_uses_works_here(recipe, on_gpu, monkeypatch):
    """Each operation of one network and of a stack, in the memory format of training, and with the same bits twice."""
    monkeypatch.setattr(diagnosis, "SECONDS", 0)
    used = {torch.float32, side_by_side.pick_precision(GPU, 32)}
    contiguous = {
        name: (precision, layout)
        for name, (precision, layout) in diagnosis.VARIANTS.items()
        if precision in used and layout == torch.contiguous_format
    }
    monkeypatch.setattr(diagnosis, "VARIANTS", contiguous)
    text = "\n".join(diagnosis.diagnose(replace(recipe, batch_size=125), on_gpu, [1, 32]))
    assert "fails" not in text and "not the same twice" not in text
    assert text.count("contiguous, as RecordedUpdate") == 2


def test_step_notebooks_run_on_a_gpu_and_their_rows_are_published_beside_those_of_cpus(tmp_path):
    pytest.importorskip("papermill")  # a machine that is lent for half an hour may lack it
    from mnist_lab.publishing import batch, headless
    from mnist_lab.publishing.notebooks import find_steps
    from mnist_lab.publishing.publish import replace_records

    steps, run, lab = find_steps(), tmp_path / "run", tmp_path / "lab"
    run.mkdir()
    parameters = {"EPOCHS": 1, "TRAIN_LIMIT": 1000, "DATA": "digits", "DEVICE": "cuda"}
    batch.conduct(run, batch.State([step.number for step in steps], parameters, "", []), processes=1)
    for step in steps:
        outputs = [one for cell in headless.code_cells(headless.read(run / step.path.name)) for one in cell.outputs]
        assert not [output.text for output in outputs if output.get("name") == "stderr"]
    made = records.load(run)
    assert [(one.name, one.device_type) for one in made] == [
        (name, "cuda") for name in ("1", "2a", "2", "3a", "3b", "3")
    ]
    assert {one.environment.device for one in made} == {torch.cuda.get_device_name()}
    on_cpu = [one.model_copy(update={"environment": replace(one.environment, device_type="cpu")}) for one in made]
    before = {path: path.read_bytes() for path in records.write(on_cpu, lab / records.TRACKED.relative_to(ROOT))}
    written = replace_records(made, lab)
    assert [path.name for path in written] == [f"{one.name}-cuda.jsonl" for one in made]
    assert before == {path: path.read_bytes() for path in before}
