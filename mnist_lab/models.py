"""The networks, a class for each change of architecture, simplest first.

Each constructor reads as a table: one row per block, with the shape that leaves it and the receptive
field (RF) of one of its units, in pixels of the 28 x 28 image. Tests compare both with the network.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init
from torch.nn.utils.fusion import fuse_conv_bn_eval

PARAMETER_BUDGET = 8000  # a network has fewer, trainable and deployed


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation with a bias per channel but no scale.

    What a scale does, the filters of the next layer can nearly do as well, so it would be parameters spent for
    little; without it, folding the norm into its convolution (see :func:`fold_batch_norm`) leaves the number of
    parameters as it was. The scale is a constant 1: without one, PyTorch cannot train the bias on CUDA.
    """

    def __init__(self, channels: int):
        super().__init__(channels)
        del self.weight
        self.register_buffer("weight", torch.ones(channels), persistent=False)


def plain_block(c_in: int, c_out: int) -> nn.Sequential:
    """3x3 convolution with bias -> ReLU."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3), nn.ReLU(inplace=True))


def first_block(channels: int) -> nn.Sequential:
    """3x3 convolution of the image -> norm -> SiLU.

    SiLU, x sigmoid(x), is a ReLU with a smooth knee (Elfwing, Uchibe and Doya, Neural Networks 2018).
    """
    return nn.Sequential(nn.Conv2d(1, channels, 3, bias=False), BatchNorm(channels), nn.SiLU())


def separable_block(c_in: int, c_out: int, pool: bool = False) -> nn.Sequential:
    """3x3 convolution of each channel -> 1x1 convolution across channels (-> 2x2 max pooling) -> norm -> SiLU.

    About a seventh of a full convolution's weights buys width; there is no activation between the two
    (Chollet, "Xception", CVPR 2017, section 4.7, found that it harms). Pooling before norm and SiLU leaves them a
    quarter of the work.
    """
    return nn.Sequential(
        nn.Conv2d(c_in, c_in, 3, groups=c_in, bias=False),
        nn.Conv2d(c_in, c_out, 1, bias=False),
        *([nn.MaxPool2d(2)] if pool else []),
        BatchNorm(c_out),
        nn.SiLU(),
    )


def spatial_head(channels: int, size: int, classes: int = 10) -> nn.Sequential:
    """One learned size x size template per channel -> norm -> 1x1 convolution to the logits.

    Average pooling forgets where a feature was; a template weighs each place (Chen et al.,
    "MobileFaceNets", 2018, call it global depthwise convolution).
    """
    return nn.Sequential(
        nn.Conv2d(channels, channels, size, groups=channels, bias=False),
        BatchNorm(channels),
        nn.Conv2d(channels, classes, 1),
        nn.Flatten(),
    )


# fmt: off
class SkeletonNet(nn.Sequential):
    """The least that works: three plain convolutions, two poolings, an average. 4,978 parameters."""

    def __init__(self):
        super().__init__(                                   # output shape      RF
            plain_block(1, 8),                              # (N,  8, 26, 26)    3
            nn.MaxPool2d(2),                                # (N,  8, 13, 13)    4
            plain_block(8, 16),                             # (N, 16, 11, 11)    8
            nn.MaxPool2d(2),                                # (N, 16,  5,  5)   10
            plain_block(16, 24),                            # (N, 24,  3,  3)   18
            nn.AvgPool2d(3),                                # (N, 24,  1,  1)   26
            nn.Conv2d(24, 10, 1),                           # (N, 10,  1,  1)   26
            nn.Flatten(),                                   # (N, 10)           26
        )


class CompactNet(nn.Sequential):
    """Depth and width from separable convolutions, places from a learned head. 7,946 parameters."""

    def __init__(self):
        super().__init__(                                   # output shape      RF
            first_block(8),                                 # (N,  8, 26, 26)    3
            separable_block(8, 8),                          # (N,  8, 24, 24)    5
            separable_block(8, 16, pool=True),              # (N, 16, 11, 11)    8
            separable_block(16, 40),                        # (N, 40,  9,  9)   12
            separable_block(40, 40),                        # (N, 40,  7,  7)   16
            separable_block(40, 56),                        # (N, 56,  5,  5)   20
            spatial_head(56, size=5),                       # (N, 10)           28
        )
# fmt: on


MODELS: dict[str, type[nn.Sequential]] = {"SkeletonNet": SkeletonNet, "CompactNet": CompactNet}


def build(name: str) -> nn.Sequential:
    """Return a new network of MODELS by its name."""
    return MODELS[name]()


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters; the networks here train all of theirs."""
    return sum(parameter.numel() for parameter in model.parameters())


def leaves(model: nn.Module) -> list[nn.Module]:
    """Return the layers of nested ``nn.Sequential`` containers, in the order an image meets them."""
    if not isinstance(model, nn.Sequential):
        return [model]
    return [leaf for child in model for leaf in leaves(child)]


def fold_batch_norm(model: nn.Sequential) -> nn.Sequential:
    """Return the network as it would be deployed: every norm folded into the convolution that it follows.

    The copy computes what ``model`` computes in evaluation mode. A norm may follow its convolution at once or after
    a max pooling, with which a positive scale commutes. Any other norm, as one after a ReLU, stays a layer: what it
    computes is a scale and a bias per channel, a depthwise 1x1 convolution.
    """
    folded: list[nn.Module] = []
    for layer in leaves(copy.deepcopy(model).eval()):
        if not isinstance(layer, nn.BatchNorm2d):
            folded.append(layer)
            continue
        position = len(folded) - 1
        while position > 0 and isinstance(folded[position], nn.MaxPool2d):
            position -= 1
        commutes = position == len(folded) - 1 or layer.weight is None or layer.weight.min() > 0
        if position < 0 or not isinstance(folded[position], nn.Conv2d) or not commutes:
            position = len(folded)
            folded.append(identity(layer.running_mean))
        folded[position] = fuse_conv_bn_eval(folded[position], layer)
    return nn.Sequential(*folded)


def identity(like: Tensor) -> nn.Conv2d:
    """Return a depthwise 1x1 convolution that changes nothing, for as many channels as ``like`` (C,) has."""
    channels = len(like)
    convolution = skip_init(nn.Conv2d, channels, channels, 1, groups=channels, bias=False)  # draws no random numbers
    nn.init.ones_(convolution.weight)
    return convolution.to(like).eval()
