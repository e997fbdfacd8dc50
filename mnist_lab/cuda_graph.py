"""On a GPU, an update recorded once as a CUDA graph and then replayed: its kernels cost less than their launches."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from mnist_lab.training import Update

WARM_UPS = 3  # before a recording, libraries must have set themselves up

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class GraphedUpdate(Update):
    """An update that records itself with its first batch and replays the recording for every later one.

    All batches must have the same shape. Where a recording fails, a warning says so and the updates go on
    without it.
    """

    step: Step | None = None

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.step is None:
            try:
                self.step = self.record(images.clone(), labels.clone())
            except RuntimeError as error:
                warnings.warn(f"training without a CUDA graph, since it cannot be recorded: {error}", stacklevel=2)
                self.step = super().__call__
        return self.step(images, labels)

    def record(self, images: Tensor, labels: Tensor) -> Step:
        """Record an update that reads ``images`` and ``labels``; return what fills them and replays it."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.warm_up(images, labels)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            losses, correct = super().__call__(images, labels)

        def replay(new_images: Tensor, new_labels: Tensor) -> tuple[Tensor, Tensor]:
            images.copy_(new_images)
            labels.copy_(new_labels)
            graph.replay()
            return losses.clone(), correct.clone()  # the next replay overwrites these

        return replay

    def warm_up(self, images: Tensor, labels: Tensor) -> None:
        """Update a few times, and put everything that changed back."""
        before = [(tensor, tensor.clone()) for tensor in self.tensors()]
        for _ in range(WARM_UPS):
            super().__call__(images, labels)
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
            known = {id(tensor) for tensor, _ in before}
            for tensor in self.tensors():
                if id(tensor) not in known:  # the optimizer's, made by its first update out of zeros
                    tensor.zero_()

    def tensors(self) -> list[Tensor]:
        """Return every tensor that an update changes."""
        found = [*self.model.parameters(), *self.model.buffers()]
        if self.average is not None:
            found += [*self.average.averages, self.average.updates]
        for state in self.optimizer.state.values():
            found += [value for value in state.values() if isinstance(value, Tensor)]
        return found
