"""Nothing mixes the CPU with a GPU: everything runs here on a GPU that is pretended on the CPU."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mnist_lab import experiment, runtime
from mnist_lab.augment import pixel_centres
from mnist_lab.batches import ShuffledBatches
from mnist_lab.evidence import figures, records
from mnist_lab.fields.figures import effective_fields
from mnist_lab.fields.gradient import measure_fields
from mnist_lab.fields.trace import trace
from mnist_lab.models import MODELS
from mnist_lab.recipe import Settings
from mnist_lab.runtime import ROOT
from mnist_lab.speed import diagnosis, side_by_side, ways
from mnist_lab.speed.side_by_side import train_together
from mnist_lab.speed.stack import Update
from mnist_lab.training import Tally

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0*.ipynb"))


class Mixed(AssertionError):
    """On a GPU this would fail, or copy between GPU and CPU without being asked to."""


class Operators(TorchDispatchMode):
    """Knows where each tensor is, and looks at every operator that runs.

    What an operator makes is where its inputs are. A number, a tensor without dimensions, may come from the CPU if the
    operator works element by element, and ``copy_`` may copy from anywhere. What PyTorch itself makes out of nothing,
    it makes where it needs it.
    """

    def __init__(self):
        super().__init__()
        self.places: dict[StorageWeakRef, str] = {}  # all but the CPU; the weak references keep addresses unique
        self.inside = False  # of a function of PyTorch, called with tensors
        self.recording = False  # a graph, which holds no copies from the CPU, and nothing that the CPU waits for

    def where(self, tensor: Tensor) -> str:
        return self.places.get(StorageWeakRef(tensor.untyped_storage()), "cpu")

    def put(self, found: object, place: str) -> object:
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                memory = StorageWeakRef(tensor.untyped_storage())
                self.places[memory] = self.places.get(memory, place) if place == "anywhere" else place
        return found

    def forbid_in_a_graph(self, what: object) -> None:
        if self.recording:
            raise Mixed(f"no CUDA graph can hold {what}")

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        tensors = [value for value in tree_leaves((arguments, named)) if isinstance(value, Tensor)]
        where, aten = [self.where(tensor) for tensor in tensors], torch.ops.aten
        on_gpu, copies = "cuda" in where, operator is aten.copy_.default
        if on_gpu:
            strays = [tuple(tensor.shape) for tensor, place in zip(tensors, where, strict=True) if place == "cpu"]
            if strays and not copies and not (torch.Tag.pointwise in operator.tags and not any(strays)):
                raise Mixed(f"{operator} of tensors on a GPU and of tensors {strays} on the CPU")
            if strays or operator is aten._local_scalar_dense.default:
                self.forbid_in_a_graph(operator)
        found = operator(*arguments, **(named or {}))
        if on_gpu and not copies:
            self.put(found, "cuda")
        elif set(where) == {"anywhere"} or (not where and self.inside):
            self.put(found, "anywhere")
        return found


class PretendedGPU(TorchFunctionMode):
    """Lets tensors move to "cuda", and say that they are there; they stay in the CPU's memory."""

    def __init__(self):
        super().__init__()
        self.operators = Operators()

    def __enter__(self):
        self.operators.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.operators.__exit__(*error)

    def where(self, tensor: Tensor) -> torch.device:
        return GPU if self.operators.where(tensor) == "cuda" else CPU

    def __torch_function__(self, function, types, arguments=(), named=None):
        named, tensor, outside = dict(named or {}), next(iter(arguments), None), self.operators.inside
        if function == Tensor.device.__get__:
            return self.where(tensor)
        if function == Tensor.is_cuda.__get__:
            return self.where(tensor) == GPU
        if function in (Tensor.numpy, Tensor.__array__) and self.where(tensor) == GPU:
            raise Mixed("NumPy reads a tensor on a GPU")
        if function in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self.move(function, *arguments, **named)
        self.operators.inside = any(isinstance(value, Tensor) for value in tree_leaves((arguments, named)))
        try:
            if named.get("device") is None:
                found = function(*arguments, **named)
            else:
                found = function(*arguments, **named | {"device": CPU})
                self.operators.put(found, torch.device(named["device"]).type)
        finally:
            self.operators.inside = outside
        if function is Tensor.__deepcopy__:  # which copies memory past all operators
            self.operators.put(found, self.operators.where(tensor))
        return found

    def move(self, function, tensor: Tensor, *rest, **named) -> Tensor:
        target = {Tensor.cpu: CPU, Tensor.cuda: GPU}.get(function, self.where(tensor))
        for value in [*rest, *named.values()]:
            if isinstance(value, (torch.device, str)):
                target = torch.device(value)
            elif isinstance(value, Tensor):
                target = self.where(value)
        rest = [CPU if isinstance(value, (torch.device, str)) else value for value in rest]
        named |= {"device": CPU} if "device" in named else {}
        found = tensor if function is Tensor.cuda else function(tensor, *rest, **named)
        if target.type == self.where(tensor).type:
            return found
        self.operators.forbid_in_a_graph(f"a move to {target}")
        return self.operators.put(found.clone() if found.data_ptr() == tensor.data_ptr() else found, target.type)


class Graph:
    """A recording of an update, which is executed anew whenever it is replayed."""

    def replay(self):
        for static, new in zip(self.found, self.execute(), strict=True):
            static.copy_(new)


@pytest.fixture
def gpu(monkeypatch):
    """A machine whose GPU is pretended."""
    pretended, update = PretendedGPU(), Update.__call__

    @contextlib.contextmanager
    def record(graph, stream):
        def remember(self, images, labels):
            groups, before = self.optimizer.param_groups, [tensor.clone() for tensor in self.tensors()]
            numbers = [{name: value for name, value in group.items() if isinstance(value, float)} for group in groups]

            def execute():
                now = [dict(group) for group in groups]
                for group, then in zip(groups, numbers, strict=True):
                    group.update(then)  # a graph keeps the numbers that it was recorded with
                found = update(self, images, labels)
                for group, later in zip(groups, now, strict=True):
                    group.update(later)
                return found

            graph.execute, graph.found = execute, execute()
            for tensor, value in zip(self.tensors(), before, strict=True):
                tensor.detach().copy_(value)  # to record is not to execute
            return graph.found

        pretended.operators.recording = True
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Update, "__call__", remember)
            yield
        pretended.operators.recording = False

    def group(tensors, with_indices=False, by_device=Optimizer._group_tensors_by_device_and_dtype):
        found = by_device(tensors, with_indices)
        return {(group[0][0].device, kind): (group, indices) for (_, kind), (group, indices) in found.items()}

    pixel_centres.cache_clear()  # those of another test are not on this GPU
    monkeypatch.setattr(runtime, "gpu_problem", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a pretended GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: "a pretended GPU, in detail")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    monkeypatch.setattr(Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(group))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "Stream", Mock)
    monkeypatch.setattr(torch.cuda, "current_stream", Mock)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    with pretended:
        yield pretended


@pytest.fixture
def on_gpu(settings) -> Settings:
    return replace(settings, device="cuda")


def test_a_pretended_gpu_notices_what_a_gpu_would_refuse(gpu):
    there, here, where = torch.arange(6.0).to("cuda"), torch.arange(6.0), torch.arange(2)
    for mix in (
        lambda: there + here,
        lambda: torch.stack([there.sum(), here.sum()]),
        lambda: there[where],
        lambda: here[where.to(GPU)],
        lambda: here.add_(there.sum()),
        lambda: torch.nn.functional.linear(there, here[None]),
        lambda: there.numpy(),
    ):
        with pytest.raises(Mixed):
            mix()
    assert there.device == GPU and there[1:].view(-1).device == GPU and here.device == CPU
    assert (there * torch.tensor(2.0)).cpu().tolist() == [0, 2, 4, 6, 8, 10]
    assert torch.zeros(2, device=there.device).device == torch.ones_like(there).device == GPU
    assert there.to(torch.double).device == GPU and there.to(here).device == CPU
    assert torch.equal(here.copy_(there + 1).to("cuda"), there + 1) and here.device == CPU
    assert here.to(device="cuda").device == torch.nn.Linear(2, 2).to(GPU).weight.device == GPU


def test_forgotten_moves_are_noticed(gpu, recipe, on_gpu, monkeypatch):
    data, tally = experiment.load_data(on_gpu), Tally()
    with pytest.raises(Mixed):
        effective_fields({"before": experiment.initial_network(recipe, on_gpu)}, data.test, "on the CPU")
    draw = ShuffledBatches.draw_epoch
    monkeypatch.setattr(ShuffledBatches, "draw_epoch", lambda self: [drawn.cpu() for drawn in draw(self)])
    with pytest.raises(Mixed):
        experiment.train(recipe, data, on_gpu)
    for device in (GPU, CPU):
        tally.add(torch.zeros((), device=device), torch.zeros(2, 10, device=device), torch.zeros(2, device=device))
    with pytest.raises(Mixed):
        tally.metrics()


@pytest.mark.parametrize("changes", [{"model": name} for name in MODELS] + [{"engine": "albumentations"}])
def test_training_stays_on_the_gpu(gpu, recipe, on_gpu, changes):
    recipe, data = replace(recipe, epochs=1, **changes), experiment.load_data(on_gpu)
    run = experiment.train(recipe, data, on_gpu, on_epoch=lambda epoch: None, also_unaveraged=True)
    places = {tensor.device for tensor in run.model.state_dict().values()}
    assert places == {data.train.images.device} == {GPU} and run.probabilities.device == CPU
    assert len(experiment.learning_rates(recipe, data)) == 9
    assert len(measure_fields(run.model)) == len(trace(run.model))


@pytest.mark.parametrize("capability", [(7, 5), (9, 0)])
def test_a_stack_stays_on_the_gpu_and_its_updates_can_be_recorded(gpu, recipe, on_gpu, monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    recipe, data = replace(recipe, epochs=1), experiment.load_data(on_gpu)
    replayed = train_together(recipe, data, on_gpu, [3, 4])
    monkeypatch.setattr(side_by_side, "is_recordable", lambda recipe, updates: False)
    for run, plain in zip(replayed, train_together(recipe, data, on_gpu, [3, 4]), strict=True):
        assert {tensor.device for tensor in run.model.state_dict().values()} == {GPU}
        assert run.probabilities.device == CPU and torch.allclose(run.probabilities, plain.probabilities, atol=1e-3)
        assert run.history[0].train.loss == pytest.approx(plain.history[0].train.loss, rel=1e-4)


def test_every_way_to_train_feeds_the_gpu(gpu, recipe, on_gpu, monkeypatch):
    monkeypatch.setattr(ways, "BASELINE_BATCH", 50)
    assert ways.compare_ways(recipe, on_gpu, rounds=1, sample=100, workers=(0,))


def test_the_diagnosis_of_a_gpu_finds_nothing_that_fails(gpu, recipe, on_gpu, monkeypatch):
    monkeypatch.setattr(diagnosis, "SECONDS", 0)
    exact = {name: one for name, one in diagnosis.VARIANTS.items() if one[0] == torch.float32}
    monkeypatch.setattr(diagnosis, "VARIANTS", exact)  # a pretended GPU casts nothing to bfloat16
    lines = list(diagnosis.diagnose(replace(recipe, batch_size=8), on_gpu, [2]))
    assert not [line for line in lines if "fails" in line]
    assert "training uses, for 2: torch.float32, contiguous, as RecordedUpdate" in map(str.strip, lines)


def run_cells(path: Path, parameters: dict) -> None:
    """Run the code cells of a step's notebook in this process."""
    names: dict = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(line for line in cell["source"] if not line.startswith("%")), names)
            names |= parameters if "parameters" in cell["metadata"].get("tags", []) else {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_a_gpu(gpu, path, tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_LAB_RUNS", str(tmp_path))
    monkeypatch.setattr("mnist_lab.fields.figures.FIELD_IMAGES", 20)
    monkeypatch.setattr(figures, "show", lambda figure, path: figure)  # by then all numbers are NumPy's
    run_cells(path, {"EPOCHS": 1, "BATCH_SIZE": 25, "TRAIN_LIMIT": 200, "DATA": "digits", "DEVICE": "cuda"})
    found = records.load(tmp_path)
    assert found and {record.device_type for record in found} == {"cuda"}
    assert all(record.place.name == f"{record.name}-cuda.jsonl" for record in found)
