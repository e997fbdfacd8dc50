"""What works here and how fast, in about a minute: to read before a long run, or to paste into a report of a problem.

Which kernels there are depends on card, driver, CUDA and cuDNN, and with deterministic algorithms only, some may be
missing. So every operation is tried by itself, in each precision and memory format.
"""

import copy
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from mnist_lab.batches import ShuffledBatches
from mnist_lab.data import Dataset
from mnist_lab.experiment import initial_network, load_data
from mnist_lab.models import MODELS, build
from mnist_lab.recipe import Recipe, Settings
from mnist_lab.runtime import environment
from mnist_lab.speed.cuda_graph import RecordedUpdate, make_recordable
from mnist_lab.speed.side_by_side import assemble_stack
from mnist_lab.speed.stack import StackedBatches, Update, stack
from mnist_lab.training import WeightAverage

TRIED = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)  # the other layers work number by number
PRECISIONS = (torch.float32, torch.bfloat16)
VARIANTS = {str(precision).removeprefix("torch."): (precision, torch.contiguous_format) for precision in PRECISIONS}
VARIANTS |= {f"{name} channels_last": (precision, torch.channels_last) for name, (precision, _) in VARIANTS.items()}
SECONDS = 0.05  # in which something is repeated
FAILS = "fails with"

Layer = Callable[[Tensor], Tensor]


def diagnose(recipe: Recipe, settings: Settings, counts: Sequence[int]) -> Iterator[str]:
    """Return line by line what this machine is, which operations of our networks work for so many networks in a stack,
    how long an update by ``recipe`` takes, and what training would choose. A failure is a line, and not the end.
    """
    data = load_data(replace(settings, data="digits", score_on="test", train_limit=None))
    device, kinds = data.train.images.device, [Update]
    initial_network(recipe, settings)  # which allows deterministic algorithms only
    yield str(environment(device))
    if device.type == "cuda":
        kinds.append(RecordedUpdate)
        yield f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        yield str(torch.cuda.get_device_properties(device))
    yield f"\nmicroseconds, forward and backward, batches of {recipe.batch_size}:\n"
    yield from row("operation", "networks", VARIANTS)
    for count in counts:
        for name, layer, shape in operations(count, recipe):
            yield from row(name, count, [attempt(time_layer, layer, shape, device, *one) for one in VARIANTS.values()])
        for kind in kinds:
            cells = [attempt(time_update, kind, recipe, data, count, *one) for one in VARIANTS.values()]
            yield from row(kind.__name__, count, cells)
        yield f"training uses, for {count}: {attempt(choice, recipe, data, settings, count)}\n"


def row(name: str, count: int | str, cells: Iterable[str]) -> Iterator[str]:
    """Return a row of the table, and a line below it for each cell that is the reason of a failure."""
    failures = {column: cell for column, cell in zip(VARIANTS, cells, strict=True) if cell.startswith(FAILS)}
    shown = ["fails" if cell in failures.values() else cell for cell in cells]
    yield f"{name:<30}{count:>9}" + "".join(f"{cell:>24}" for cell in shown)
    yield from (f"    {column}: {cell}" for column, cell in failures.items())


def attempt(measure: Callable[..., str], *arguments: object) -> str:
    """Return what ``measure`` returns, or the first line of the error or warning that it ends with."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return measure(*arguments)
    except Exception as error:  # whatever it is, the next one may work
        return f"{FAILS} {type(error).__name__}: {str(error).partition(chr(10))[0]}"


def operations(count: int, recipe: Recipe) -> Iterator[tuple[str, Layer, tuple[int, ...]]]:
    """Return the name and the input's shape of each convolution, norm and pooling in our networks, and of the loss."""
    for network in MODELS:
        maps = torch.zeros(2, count, 28, 28)
        for position, layer in enumerate(stack([build(network) for _ in range(count)])):
            name = f"{network} {position} {type(layer).__name__} {getattr(layer, 'kernel_size', '')}"
            if isinstance(layer, TRIED):
                yield name, layer, (recipe.batch_size, *maps.shape[1:])
            with torch.no_grad():
                maps = layer(maps)
    labels = torch.arange(recipe.batch_size * count) % 10
    yield "loss", lambda logits: recipe.loss(logits.float(), labels.to(logits.device)), (len(labels), 10)


def time_layer(
    layer: Layer, shape: tuple[int, ...], device: torch.device, precision: torch.dtype, layout: torch.memory_format
) -> str:
    """Return the microseconds of a layer forward and backward, or that it gives other numbers the second time."""
    entering, weights = torch.randn(shape).to(device, precision), []
    if isinstance(layer, nn.Module):
        layer, entering = copy.deepcopy(layer).to(device, memory_format=layout), entering.to(memory_format=layout)
        weights = list(layer.parameters())
    entering.requires_grad_()

    def once() -> list[Tensor]:
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            leaving = layer(entering)
        return [leaving, *torch.autograd.grad(leaving, [entering, *weights], leaving.detach())]

    return microseconds(once, device) if all(map(torch.equal, once(), once())) else "not the same twice"


def time_update(
    kind: type[Update], recipe: Recipe, data: Dataset, count: int, precision: torch.dtype, layout: torch.memory_format
) -> str:
    """Return the microseconds of an update of a stack, as it is or replayed, without drawing its batch."""
    device = data.train.images.device
    model = stack([recipe.network() for _ in range(count)]).to(device, memory_format=layout)
    optimizer, average = recipe.optimizer(model.parameters()), WeightAverage(model, recipe.averaging)
    if kind is RecordedUpdate:
        make_recordable(optimizer, device)
    update = kind(model, optimizer, average, recipe.loss, precision)
    alone = [ShuffledBatches(data.train, recipe.batch_size, seed=seed) for seed in range(count)]
    return microseconds(partial(update, *next(iter(StackedBatches(alone)))), device)


def microseconds(once: Callable[[], object], device: torch.device) -> str:
    """Return how long ``once`` takes, in the median of some repetitions after two that do not count."""
    times, end = [], time.perf_counter() + SECONDS
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        once()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return f"{1e6 * statistics.median(times[2:]):,.0f}"


def choice(recipe: Recipe, data: Dataset, settings: Settings, count: int) -> str:
    """Return how so many seeds of ``recipe`` would be trained here."""
    update, batches, _, _ = assemble_stack(recipe, data, settings, range(count))
    images, labels = next(iter(batches))
    update(images, labels)
    last = update.model[0](images).is_contiguous(memory_format=torch.channels_last)
    return f"{update.precision}, {'channels_last' if last else 'contiguous'}, as {type(update).__name__}"
