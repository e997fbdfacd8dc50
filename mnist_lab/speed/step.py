"""Where the time of a training step goes on one CPU thread: by operator, and by layer and cause.

The causes: arithmetic, as fast as in a large matrix product; dispatch, which a step of two images costs as well; page
faults, when the system maps memory that was given back; and the rest, above all memory that the caches do not hold.
"""

import mmap
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from pydantic.dataclasses import dataclass
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mnist_lab.data import Dataset
from mnist_lab.experiment import AS_IT_IS, load_data
from mnist_lab.models import leaves
from mnist_lab.recipe import STRICT, Recipe, Settings
from mnist_lab.runtime import make_repeatable
from mnist_lab.speed.compiled import Block, Chain, compiled, compiler_of, find_blocks, measure_shapes
from mnist_lab.speed.ways import LAYERS, SAMPLE, train_once
from mnist_lab.training import Tally, WeightAverage

try:
    import resource
except ImportError:  # Windows
    resource = None

# Which part of training an operator of PyTorch belongs to, by how its name begins.
PARTS = {
    "convolution, forward": ("aten::mkldnn_convolution", "aten::cudnn_convolution", "aten::_conv_depthwise2d"),
    "convolution, backward": ("aten::convolution_backward",),
    "norm": ("aten::native_batch_norm", "aten::cudnn_batch_norm"),
    "pooling": ("aten::max_pool2d", "aten::avg_pool2d"),
    "activation": ("aten::silu", "aten::clamp_min", "aten::threshold_backward"),
    "images: pick, distort, normalise": ("aten::index", "aten::grid_sampler", "aten::bmm"),
    "optimizer and average": ("aten::_fused_adam", "Optimizer.", "aten::_foreach"),
}
EVERYTHING_ELSE = "everything else"
GIVEN_BACK = "PyTorch's layers, memory given back"  # as glibc does by itself
CAUSES = ("arithmetic", "dispatch", "page_faults", "memory")
REPEATED = 0.3  # seconds that a part is repeated for


@dataclass(config=STRICT)
class Cost:
    """Microseconds that a part of a training step takes, by cause."""

    layers: str
    part: str
    arithmetic: float
    dispatch: float
    page_faults: float
    memory: float

    @property
    def total(self) -> float:
        return sum(getattr(self, cause) for cause in CAUSES)


def time_shares(recipe: Recipe, settings: Settings, sample: int = SAMPLE) -> dict[str, float]:
    """Return what share of the time of PyTorch's layers each part of training takes, as PyTorch's profiler sees it."""
    settings = replace(settings, device="cpu", threads=1, train_limit=sample)
    once = train_once(recipe, load_data(settings), settings)
    once()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:
        once()
    operators = {entry.key: entry.self_cpu_time_total for entry in seen.key_averages()}
    total = sum(operators.values())
    shares = {
        part: sum(spent for name, spent in operators.items() if name.startswith(beginnings)) / total
        for part, beginnings in PARTS.items()
    }
    return {**shares, EVERYTHING_ELSE: 1 - sum(shares.values())}


def step_costs(recipe: Recipe, settings: Settings, seconds: float = REPEATED) -> list[Cost]:
    """Measure the parts of a step with PyTorch's layers, first with memory given back, and with compiled layers.

    Call it in a new process: one that has trained keeps its memory for good.
    """
    data = load_data(replace(settings, device="cpu", train_limit=SAMPLE))
    torch.set_flush_denormal(True)
    rate, fault, found = matrix_rate(), seconds_per_fault(), []
    for layers, prepare in {GIVEN_BACK: AS_IT_IS, **dict(reversed(LAYERS.items()))}.items():
        if layers != GIVEN_BACK:
            make_repeatable(settings.seed, threads=1)
        network = prepare(recipe.network().to(memory_format=torch.channels_last)).train()
        if prepare is compiled and compiler_of(network) is None:
            continue
        for part, products, once in [*network_parts(network), *other_parts(network, recipe, data, settings)]:
            spent, faults = measure(once(recipe.batch_size), seconds)
            fixed, _ = measure(once(2), seconds)
            arithmetic = products * recipe.batch_size / rate
            dispatch = min(max(fixed - 2 * products / rate, 0), max(spent - arithmetic, 0))
            faulting = min(faults * fault, max(spent - arithmetic - dispatch, 0))
            rest = max(spent - arithmetic - dispatch - faulting, 0)
            found.append(Cost(layers, part, *(1e6 * one for one in (arithmetic, dispatch, faulting, rest))))
    return found


Part = tuple[str, int, Callable[[int], Callable[[], object]]]  # name, products per image, what makes a run of so many


def network_parts(network: nn.Sequential) -> Iterator[Part]:
    """Return each block of a network, forward and backward."""
    chains = getattr(network, "chains", None)
    blocks = [block for chain in chains for block in chain.blocks] if chains else find_blocks(leaves(network))
    if not chains:
        measure_shapes(network, blocks)
    for i, block in enumerate(blocks):
        products = multiply_accumulates(nn.Sequential(*block.layers), block.entering)
        passes = 3 if i else 2  # forward, and backward to the weights and to what enters, except for images
        yield ", ".join(map(describe, block.layers)), passes * products, partial(pass_through, block, bool(i))


def pass_through(block: Block, to_input: bool, count: int) -> Callable[[], None]:
    """Return what sends so many random maps through a block and back."""
    x, dy = (torch.randn(count, *shape) for shape in (block.entering, block.leaving))
    if x.dim() == 4:
        x = x.to(memory_format=torch.channels_last)
    chain, weights = Chain([block]), [weight for layer in block.layers for weight in layer.parameters()]
    wanted = [*([x.requires_grad_()] if to_input else []), *weights]
    return lambda: torch.autograd.grad(chain(x), wanted, dy)


def other_parts(network: nn.Sequential, recipe: Recipe, data: Dataset, settings: Settings) -> Iterator[Part]:
    """Return what a step does besides the network."""
    average = WeightAverage(network, recipe.averaging or 0.5)
    batches, optimizer = recipe.batches(data.train, settings.seed, None), recipe.optimizer(network.parameters())
    order, numbers = batches.draw_epoch()
    tally, labels = Tally(), torch.arange(recipe.batch_size) % 10

    def cut(count: int) -> Callable[[], object]:
        return lambda: batches.cut(order[:count], None if numbers is None else numbers[:count])

    def lose(count: int) -> Callable[[], None]:
        logits = torch.randn(count, 10, requires_grad=True)

        def once() -> None:
            loss = recipe.loss(logits, labels[:count])
            loss.backward()
            tally.add(loss, logits, labels[:count])

        return once

    def update(count: int) -> Callable[[], None]:
        def once() -> None:
            for weight in network.parameters():
                weight.grad = torch.zeros_like(weight)
            optimizer.step()
            average.update()

        return once

    yield "images: pick, distort, normalise", 0, cut
    yield "loss and metrics", 0, lose
    yield "optimizer and average", 0, update


def describe(layer: nn.Module) -> str:
    """Return a layer in a word or two."""
    if isinstance(layer, nn.BatchNorm2d):
        return "norm"
    if isinstance(layer, nn.Conv2d):
        kind = "depthwise" if layer.groups > 1 else "convolution"
        return f"{layer.kernel_size[0]}x{layer.kernel_size[1]} {kind}"
    return {"MaxPool2d": "max pooling", "Flatten": "flatten"}.get(type(layer).__name__, type(layer).__name__)


def measure(once: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Return the median seconds of CPU time of a run, and how many page faults it has on average."""
    for _ in range(2):  # the first needs memory that the others get again
        once()
    times, before, end = [], page_faults(), time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.process_time()
        once()
        times.append(time.process_time() - start)
    return statistics.median(times), (page_faults() - before) / len(times)


def page_faults() -> int:
    """Return how often this process had to wait for a new page of memory; 0 where the system does not tell."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def seconds_per_fault(pages: int = 4096) -> float:
    """Return the CPU time of one page fault."""
    with mmap.mmap(-1, pages * mmap.PAGESIZE) as memory:
        start = time.process_time()
        for page in range(pages):
            memory[page * mmap.PAGESIZE] = 1
        touched = time.process_time()
        for page in range(pages):
            memory[page * mmap.PAGESIZE] = 1
        return max(touched - start - (time.process_time() - touched), 0) / pages


def multiply_accumulates(network: nn.Module, entering: tuple[int, ...] = (1, 28, 28)) -> int:
    """Return how many multiply-accumulates ``network`` needs for one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, *entering))
    network.train()
    return counter.get_total_flops() // 2


def matrix_rate(size: int = 1024, repeats: int = 20) -> float:
    """Return multiply-accumulates per second of a square matrix product in single precision, on one thread."""
    torch.set_num_threads(1)
    left, right = torch.randn(size, size), torch.randn(size, size)
    times = []
    for _ in range(repeats):
        start = time.process_time()  # nothing waits here, and other processes do not count
        left @ right
        times.append(time.process_time() - start)
    return size**3 / min(times)
