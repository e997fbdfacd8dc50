"""The layers of a network in training, block by block, compiled for their shapes from ``kernels.cpp``.

PyTorch runs each layer over the whole batch, so that on a CPU most of the time of a small network goes into memory and
not into arithmetic. Here a block of layers, from its convolutions to its activation, is a function of its own, which
keeps an image in the cache. It needs g++ and a processor with AVX2. Whatever it does not cover PyTorch computes.
"""

import contextlib
import ctypes
import functools
import hashlib
import itertools
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from mnist_lab.models import leaves
from mnist_lab.runtime import ROOT

SOURCE = Path(__file__).with_name("kernels.cpp")
FOLDER = ROOT / "runs" / "compiled"  # of the libraries, one for each shape of a block
OPTIONS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
)
COMPILE_TIMEOUT = 120  # seconds
LAST = torch.channels_last


@dataclass
class Block:
    """Layers that follow each other, which kernels.cpp can compute together; None is not there."""

    layers: list[nn.Module]  # all of them, in order
    norm: nn.BatchNorm2d | None
    activation: nn.SiLU | None
    depthwise: nn.Conv2d | None
    convolution: nn.Conv2d | None
    pooling: nn.MaxPool2d | None
    entering: tuple[int, ...] = ()  # channels, height and width
    leaving: tuple[int, ...] = ()
    library: Path | None = None  # None: PyTorch computes this block

    def weights(self) -> list[Tensor | None]:
        """Return scale and bias of the norm, and the weights of both convolutions."""
        scale, *taps = [layer and layer.weight for layer in (self.norm, self.depthwise, self.convolution)]
        return [scale, self.norm and self.norm.bias, *taps]

    def layerwise(self, x: Tensor, scale, bias, depthwise, convolution) -> Tensor:
        """Return what the layers make of ``x`` with these weights; the norm's running statistics stay as they are."""
        if self.norm is not None:
            x = F.batch_norm(x, None, None, scale, bias, training=True, eps=self.norm.eps)
        if self.activation is not None:
            x = F.silu(x)
        if depthwise is not None:
            x = F.conv2d(x, depthwise, padding=self.depthwise.padding, groups=len(depthwise))
        if convolution is not None:
            x = F.conv2d(x, convolution, padding=self.convolution.padding)
        return x if self.pooling is None else F.max_pool2d(x, 2)

    def macros(self) -> dict[str, int]:
        """Return what kernels.cpp is compiled with."""
        layers = {"NORM": self.norm, "SILU": self.activation, "POOL": self.pooling}
        taps = {"DEPTHWISE": self.depthwise, "CONV": self.convolution}
        return {
            **dict(zip(("IN", "HEIGHT", "WIDTH"), self.entering, strict=True)),
            "OUT": self.leaving[0],
            **{name: int(layer is not None) for name, layer in layers.items()},
            **{name: layer.kernel_size[0] if layer else 0 for name, layer in taps.items()},
            **{f"{name}_PAD": layer.padding[0] if layer else 0 for name, layer in taps.items()},
        }


@dataclass
class Chain:
    """Blocks that follow each other, all compiled or none."""

    blocks: list[Block]

    def __call__(self, x: Tensor) -> Tensor:
        weights = [weight for block in self.blocks for weight in block.weights()]
        if self.can_compute(x, weights):
            return CompiledChain.apply(x, self.blocks, *weights)
        for block in self.blocks:
            for layer in block.layers:
                x = head(layer, x) if x.shape[2:] == (1, 1) and type(layer) is nn.Conv2d else layer(x)
        return x

    def can_compute(self, x: Tensor, weights: list[Tensor | None]) -> bool:
        """Whether the libraries compute ``x`` as the layers would."""
        return (
            self.blocks[0].library is not None
            and x.shape[1:] == self.blocks[0].entering
            and len(x) > 1  # the variance of one number is an error, which PyTorch raises
            and all(is_plain(one) for one in (x, *weights) if one is not None)
            and x.is_contiguous(memory_format=LAST)
            and (x.shape[1] > 1 or not x.requires_grad)  # the kernels compute channels side by side
            and all(layer.training and not is_hooked(layer) for block in self.blocks for layer in block.layers)
        )


def is_hooked(layer: nn.Module) -> bool:
    """Whether ``layer`` has hooks, as pruning and rounding add them; kernels would not call them."""
    forward = layer._forward_pre_hooks or layer._forward_hooks
    return bool(forward or layer._backward_pre_hooks or layer._backward_hooks)


def head(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Return what a convolution makes of single pixels: a matrix product, for which PyTorch has a faster way."""
    if is_hooked(layer) or layer.kernel_size != (1, 1) or layer.groups != 1 or layer.padding != (0, 0):
        return layer(x)
    return F.linear(x.flatten(1), layer.weight.flatten(1), layer.bias)[:, :, None, None]


class CompiledChain(Function):
    """A chain by its libraries. A derivative of its derivatives goes through PyTorch's own layers."""

    @staticmethod
    def forward(ctx, x: Tensor, blocks: list[Block], *weights: Tensor | None) -> Tensor:
        images, threads = len(x), min(torch.get_num_threads(), len(x))
        entering, kept, moments = x, [], None
        for i, block in enumerate(blocks):
            scale, bias, *taps = weights[4 * i : 4 * i + 4]
            taps, norm = [by_tap(one) for one in taps], block.norm
            y = torch.empty((images, *block.leaving), memory_format=LAST)
            which = torch.empty_like(y, dtype=torch.uint8) if block.pooling else None
            statistics = torch.empty(4, block.entering[0]) if norm else None
            measured = torch.zeros(threads, 2, block.leaving[0], dtype=torch.float64) if i + 1 < len(blocks) else None
            running = (norm.running_mean, norm.running_var) if norm else (None, None)
            load(block.library).forward(
                images, threads, *addresses(x, moments, scale, bias, *running),
                *((norm.momentum, norm.eps) if norm else (0, 0)), *addresses(*taps, statistics, y, which, measured),
            )  # fmt: skip
            if norm is not None:
                norm.num_batches_tracked.add_(1)
            kept += [*taps, statistics, which, y]
            x, moments = y, measured
        ctx.blocks, ctx.threads, ctx.kept = blocks, threads, kept[:-1]  # not y itself, which would keep ctx
        ctx.save_for_backward(entering, *weights)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        (entering, *weights), wanted = ctx.saved_tensors, ctx.needs_input_grad
        if torch.is_grad_enabled():
            return layerwise_gradients(ctx.blocks, entering, weights, dy, wanted)
        kept = [entering, *ctx.kept, None]
        dy, following, found = dy.contiguous(memory_format=LAST), (None, None), []
        for i, block in reversed(list(enumerate(ctx.blocks))):
            x, *taps, statistics, which, y = kept[5 * i : 5 * i + 6]
            dx = torch.empty_like(x) if i or block.norm or wanted[0] else None
            taken = torch.empty(2, block.entering[0]) if block.norm else None
            d_norm = [one if one is None else torch.empty_like(one) for one in weights[4 * i : 4 * i + 2]]
            d_taps = [one if one is None else torch.zeros(ctx.threads, *one.shape) for one in taps]
            kernels = load(block.library)
            kernels.backward(
                len(x), ctx.threads,
                *addresses(x, *taps, statistics, which, y, *following, dy, dx, taken, *d_norm, *d_taps),
            )  # fmt: skip
            d_taps = [one if one is None else one.sum(0) if ctx.threads > 1 else one[0] for one in d_taps]
            found = [*d_norm, *[one if one is None else one.permute(3, 2, 0, 1) for one in d_taps], *found]
            dy, following = dx, (statistics, taken)
        if block.norm and wanted[0]:
            kernels.complete(len(x), *addresses(x, statistics, taken, dx))
        return tuple(one if needed else None for one, needed in zip((dx, None, *found), wanted, strict=True))


def layerwise_gradients(blocks: list[Block], x: Tensor, weights: Sequence, dy: Tensor, wanted: Sequence[bool]) -> tuple:
    """Return the gradients of a chain's inputs as PyTorch finds them, so that they have gradients themselves."""
    y = x
    for i, block in enumerate(blocks):
        y = block.layerwise(y, *weights[4 * i : 4 * i + 4])
    given = [one for one, needed in zip((x, None, *weights), wanted, strict=True) if needed]
    found = iter(torch.autograd.grad(y, given, dy, create_graph=True))
    return tuple(next(found) if needed else None for needed in wanted)


def is_plain(tensor: Tensor) -> bool:
    """Whether the kernels can read ``tensor``."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and type(tensor) in (Tensor, nn.Parameter)


def by_tap(weight: Tensor | None) -> Tensor | None:
    """Return the weights (out, in, K, K) of a convolution as the kernels read them: (K, K, in, out)."""
    return None if weight is None else weight.permute(2, 3, 1, 0).contiguous()


def addresses(*tensors: Tensor | None) -> list[int | None]:
    """Return where the numbers of tensors are."""
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


class CompiledNetwork:
    """What :func:`compiled` adds to the class of a network: while it trains, its chains compute what its layers would.

    Everything else stays: its modules, its state, copies of it, its ``forward``, its hooks, and how it is evaluated.
    But it cannot be pickled: keep its state.
    """

    chains: list[Chain]
    compiler: str

    def __call__(self, x: Tensor) -> Tensor:
        containers = [module for module in self.modules() if isinstance(module, nn.Sequential)]
        if not (self.training and torch.is_grad_enabled()) or any(map(is_hooked, containers)):
            return super().__call__(x)
        for chain in self.chains:
            x = chain(x)
        return x


def compiled(model: nn.Module, folder: Path = FOLDER) -> nn.Module:
    """Return ``model`` itself, on its device and in its memory format, made to train faster if that is possible here.

    Libraries are kept in ``folder``. :func:`compiler_of` tells whether it is compiled.
    """
    containers = [module for module in model.modules() if module is model or isinstance(module, nn.Sequential)]
    if any(type(container).forward is not nn.Sequential.forward for container in containers):
        return model
    if not all(map(is_plain, model.parameters())) or toolchain() is None:
        return model
    blocks = find_blocks(leaves(model))
    measure_shapes(model, blocks)
    for block in blocks:
        if is_covered(block):
            block.library = build(block.macros(), folder)
    if any(block.library for block in blocks):
        model.__class__ = type(type(model).__name__, (CompiledNetwork, type(model)), {})
        chains = itertools.groupby(blocks, key=lambda block: block.library is not None)
        model.chains, model.compiler = [Chain(list(chain)) for _, chain in chains], toolchain()[0]
    return model


def compiler_of(model: nn.Module) -> str | None:
    """Return the compiler of the kernels that ``model`` trains with; None if it trains with PyTorch's alone."""
    return model.compiler if isinstance(model, CompiledNetwork) else None


def find_blocks(layers: list[nn.Module]) -> list[Block]:
    """Cut layers into blocks, each as long as possible. A layer that fits into none is one by itself."""
    blocks, rest = [], list(layers)
    while rest:
        found: list[nn.Module | None] = []
        for fits in (is_norm, is_silu, is_depthwise, is_convolution, is_pooling):
            size = sum(layer is not None for layer in found)
            after_norm = fits is not is_silu or found[0] is not None
            found.append(rest[size] if size < len(rest) and after_norm and fits(rest[size]) else None)
        size = max(1, sum(layer is not None for layer in found))
        blocks.append(Block(rest[:size], *found))
        rest = rest[size:]
    return blocks


def is_covered(block: Block) -> bool:
    """Whether kernels.cpp computes a block, and 4 channels at a time at least: it would be slow otherwise."""
    return any((block.norm, block.depthwise, block.convolution, block.pooling)) and in_fours(block.leaving[0])


def is_norm(layer: nn.Module) -> bool:
    """Whether ``layer`` is a batch norm with a bias, a scale (constant or not) and running statistics."""
    return (
        isinstance(layer, nn.BatchNorm2d)
        and type(layer).forward is nn.BatchNorm2d.forward
        and in_fours(layer.num_features)
        and layer.track_running_stats
        and layer.momentum is not None
        and layer.weight is not None
        and layer.bias is not None
    )


def is_silu(layer: nn.Module) -> bool:
    """Whether ``layer`` is a SiLU."""
    return type(layer) is nn.SiLU


def is_depthwise(layer: nn.Module) -> bool:
    """Whether ``layer`` is a convolution of each channel by itself."""
    return is_simple(layer) and layer.groups == layer.in_channels == layer.out_channels


def is_convolution(layer: nn.Module) -> bool:
    """Whether ``layer`` is a convolution across channels."""
    return is_simple(layer) and layer.groups == 1 and (layer.in_channels == 1 or in_fours(layer.in_channels))


def is_simple(layer: nn.Module) -> bool:
    """Whether ``layer`` is a convolution with square kernels, without bias, stride or anything special."""
    return (
        type(layer) is nn.Conv2d
        and in_fours(layer.out_channels)
        and layer.bias is None
        and layer.stride == layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and layer.kernel_size[0] == layer.kernel_size[1]
        and layer.padding in [(pad, pad) for pad in range(layer.kernel_size[0])]
    )


def in_fours(channels: int) -> bool:
    """Whether the kernels are worth it: they compute 16, 8 or 4 channels at a time."""
    return channels % 4 == 0


def is_pooling(layer: nn.Module) -> bool:
    """Whether ``layer`` is a 2x2 max pooling."""
    return type(layer) is nn.MaxPool2d and repr(layer) == repr(nn.MaxPool2d(2)) and not layer.return_indices


def measure_shapes(model: nn.Module, blocks: list[Block]) -> None:
    """Tell each block what enters and leaves it."""
    training, x = {module: module.training for module in model.modules()}, torch.zeros(1, 1, 28, 28)
    model.eval()
    with torch.no_grad():
        for block in blocks:
            block.entering = tuple(x.shape[1:])
            for layer in block.layers:
                x = layer(x)
            block.leaving = tuple(x.shape[1:])
    for module, mode in training.items():
        module.training = mode


@functools.cache
def toolchain() -> tuple[str, str] | None:
    """Return the compiler with its version, and all it says of this processor; None if it is not there or cannot."""
    said = run("g++", "-march=native", "-dM", "-E", "-x", "c++", os.devnull)
    if said is None or "#define __AVX2__ 1" not in said.splitlines():
        return None
    version = next(line for line in said.splitlines() if line.startswith("#define __VERSION__ "))
    return f"g++ {version.split(' ', 2)[2].strip(chr(34))}", said


def run(*command: str) -> str | None:
    """Return what a command printed; None if it is not there or failed."""
    with contextlib.suppress(OSError, subprocess.SubprocessError, UnicodeError):
        done = subprocess.run(command, capture_output=True, timeout=COMPILE_TIMEOUT, check=True, encoding="utf-8")
        return done.stdout
    return None


def build(macros: dict[str, int], folder: Path) -> Path | None:
    """Return the library for ``macros`` in ``folder``, compiled if it is not there yet; None if that fails."""
    defined = [f"-D{name}={number}" for name, number in macros.items()]
    with contextlib.suppress(OSError, AttributeError):
        key = "\n".join((SOURCE.read_text(encoding="utf-8"), toolchain()[1], *OPTIONS, *defined))
        library = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.so"
        if not library.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"), tempfile.TemporaryDirectory(dir=folder) as place:
                new = Path(place, library.name)
                command = ("g++", *OPTIONS, *defined, "-w", "-shared", "-fPIC", str(SOURCE), "-o", str(new))
                if not library.is_file() and run(*command) is not None:
                    new.replace(library)
        load(library)
        return library
    return None


@functools.cache
def load(library: Path) -> ctypes.CDLL:
    """Load a library. Raises OSError if it is not there or damaged, and AttributeError if it is another one."""
    found = ctypes.CDLL(str(library))
    pointer, number = ctypes.c_void_p, ctypes.c_float
    found.forward.argtypes = [ctypes.c_long, ctypes.c_int, *[pointer] * 6, number, number, *[pointer] * 6]
    found.backward.argtypes = [ctypes.c_long, ctypes.c_int, *[pointer] * 15]
    found.complete.argtypes = [ctypes.c_long, *[pointer] * 4]
    found.forward.restype = found.backward.restype = found.complete.restype = None
    return found
