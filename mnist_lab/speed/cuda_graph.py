"""On a GPU, an update recorded once as a CUDA graph and then replayed: small kernels take longer to launch than to run.

See "CUDA Graphs" in PyTorch's notes on CUDA semantics for what a recording may hold.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from mnist_lab.recipe import AnyRecipe
from mnist_lab.speed.stack import Update

WARM_UPS = 3  # updates before a recording, in which libraries set themselves up

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def is_recordable(recipe: AnyRecipe, updates: int) -> bool:
    """Whether an update may be recorded: whatever changes from one to the next has to be a tensor on the device.

    The learning rate of these optimizers can be one. A momentum cannot, so no schedule may cycle it.
    """
    optimizer = recipe.optimizer([nn.Parameter(torch.zeros(()))])
    scheduler = recipe.scheduler(optimizer, updates)
    return type(optimizer) in (Adam, AdamW, SGD) and not getattr(scheduler, "cycle_momentum", False)


def make_recordable(optimizer: Optimizer, device: torch.device) -> None:
    """Keep the learning rate and the count of updates of ``optimizer`` on ``device``; make its scheduler after this."""
    for group in optimizer.param_groups:
        group.update(lr=torch.tensor(float(group["lr"]), device=device), fused=True)
        if "capturable" in group:  # of Adam, which counts its updates; SGD does not
            group["capturable"] = True


@dataclass
class RecordedUpdate(Update):
    """An update that is recorded with its first batch, and replayed for that batch and every later one.

    All batches must have the same shape. If recording fails, a warning says why, and training goes on without it.
    Raises torch.OutOfMemoryError.
    """

    step: Step | None = None

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.step is None:
            try:
                self.step = self.record(images.clone(), labels.clone())
            except RuntimeError as error:
                for cause in (error, error.__context__):  # to end a recording may fail because of the first error
                    if isinstance(cause, torch.OutOfMemoryError):  # which would only come back
                        raise cause from None
                warnings.warn(f"training without a CUDA graph, since recording one failed: {error}", stacklevel=2)
                self.step = super().__call__
        return self.step(images, labels)

    def record(self, images: Tensor, labels: Tensor) -> Step:
        """Record an update that reads ``images`` and ``labels``; return what fills these and replays it."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # leaves it also if recording fails, which torch.cuda.graph may not
            self.warm_up(images, labels)
            with torch.cuda.graph(graph, stream=stream):
                losses, correct = super().__call__(images, labels)
        torch.cuda.current_stream().wait_stream(stream)

        def replay(new_images: Tensor, new_labels: Tensor) -> tuple[Tensor, Tensor]:
            images.copy_(new_images)
            labels.copy_(new_labels)
            graph.replay()
            return losses.clone(), correct.clone()  # the next replay overwrites these

        return replay

    def warm_up(self, images: Tensor, labels: Tensor) -> None:
        """Update a few times, and then put back everything that this changed, also if an update fails."""
        before = {id(tensor): tensor.clone() for tensor in self.tensors()}
        try:
            with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):  # dropout draws from it
                for _ in range(WARM_UPS):
                    super().__call__(images, labels)
        finally:
            with torch.no_grad():
                for tensor in self.tensors():  # the optimizer's first update made its state, out of zeros
                    tensor.copy_(before.get(id(tensor), torch.zeros_like(tensor)))

    def tensors(self) -> list[Tensor]:
        """Return every tensor that an update changes."""
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        average = [] if self.average is None else [*self.average.averages, self.average.updates]
        return [*self.model.parameters(), *self.model.buffers(), *average, *filter(torch.is_tensor, states)]
