"""Muon for the filters that mix channels, Adam for everything else, as one optimizer."""

from collections.abc import Iterable
from itertools import chain

import torch
from torch import nn
from torch.optim import Adam, Muon, Optimizer

CLASSES = 10


class MuonAndAdam(Optimizer):
    """Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon) where it is meant to be used.

    Muon makes the step of a weight matrix orthogonal, so that no direction of its input is learned much faster than
    another. That makes sense for filters that map many channels to many: here the 1x1 convolutions of the separable
    blocks, half of all weights. A depthwise filter sees a single channel. Adam updates these, the biases and, as Jordan
    advises, the first and the last layer. Muon's steps are scaled to the size of Adam's (Liu et al., "Muon is scalable
    for LLM training", 2025), so that one learning rate suits both; no weight decays.

    PyTorch's Muon takes only matrices: it gets matrices that share the filters' memory, and at each step the filters'
    gradients. If networks train side by side as one (their filters one after the other), each has matrices of its own.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float):
        """Take the ``parameters`` of one network, or of several side by side; the last is the bias of the logits."""
        *others, bias = parameters
        networks = bias.numel() // CLASSES
        mixing = [filters for filters in others if filters.dim() == 4 and filters.size(1) > 1]
        self.filters = mixing[:-1]  # without those of the logits
        self.matrices = [
            [nn.Parameter(own.view(len(own), -1)) for own in filters.detach().chunk(networks)]
            for filters in self.filters
        ]
        known = set(map(id, self.filters))
        rest = [parameter for parameter in (*others, bias) if id(parameter) not in known]
        matrices = {"params": list(chain(*self.matrices))}  # a group, since a group may be empty
        self.muon = Muon([matrices], rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        self.adam = Adam(rest, rate, fused=True)
        super().__init__([*self.muon.param_groups, *self.adam.param_groups], {})  # shared, so a schedule sets all

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update all weights by their gradients."""
        for filters, matrices in zip(self.filters, self.matrices, strict=True):
            for matrix, gradient in zip(matrices, filters.grad.chunk(len(matrices)), strict=True):
                matrix.grad = gradient.reshape(matrix.shape)
            filters.grad = None
        self.muon.step()
        self.adam.step()
