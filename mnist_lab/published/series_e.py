"""Series E: norm before a leaky ReLU in step 1, after a ReLU in steps 2 and 3; no bias."""

from torch import nn

REPOSITORY = "dhairyag/multi_models_MNIST"


def leaky_block(c_in: int, c_out: int) -> nn.Sequential:
    """3x3 convolution that keeps the size -> norm -> leaky ReLU with PyTorch's usual slope, 0.01."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.LeakyReLU())


def block(c_in: int, c_out: int, padding: int = 0, dropout: float = 0.0) -> nn.Sequential:
    """3x3 convolution -> ReLU -> norm -> dropout, if any."""
    layers = [nn.Conv2d(c_in, c_out, 3, padding=padding, bias=False), nn.ReLU(), nn.BatchNorm2d(c_out)]
    return nn.Sequential(*layers, nn.Dropout(dropout)) if dropout else nn.Sequential(*layers)


# fmt: off
class E1(nn.Sequential):
    """Series E, step 1: three stages of two convolutions and a pooling, sixteen logits. 6,984 parameters.

    Defect: the last six logits stand for no digit; training has to learn that. Loss and accuracy are over all
    sixteen, as published: an image read as one of the six is misread. The layers that the notebook lists have
    dropout of 0.01; the run that it logs had none, and so has this network.
    """

    def __init__(self):
        super().__init__(                                   # output shape      RF
            leaky_block(1, 8),                              # (N,  8, 28, 28)    3
            leaky_block(8, 8),                              # (N,  8, 28, 28)    5
            nn.MaxPool2d(2),                                # (N,  8, 14, 14)    6
            leaky_block(8, 12),                             # (N, 12, 14, 14)   10
            leaky_block(12, 12),                            # (N, 12, 14, 14)   14
            nn.MaxPool2d(2),                                # (N, 12,  7,  7)   16
            leaky_block(12, 16),                            # (N, 16,  7,  7)   24
            leaky_block(16, 16),                            # (N, 16,  7,  7)   32
            nn.MaxPool2d(2),                                # (N, 16,  3,  3)   36
            nn.AvgPool2d(3),                                # (N, 16,  1,  1)   52
            nn.Flatten(),                                   # (N, 16)           52
        )


class E2(nn.Sequential):
    """Series E, step 2: no padding, a squeeze before the pooling, a linear head. 7,236 parameters."""

    def __init__(self, dropout: float = 0.0):
        super().__init__(                                   # output shape      RF
            block(1, 12, dropout=dropout),                  # (N, 12, 26, 26)    3
            block(12, 16, dropout=dropout),                 # (N, 16, 24, 24)    5
            nn.Conv2d(16, 10, 1, bias=False),               # (N, 10, 24, 24)    5
            nn.MaxPool2d(2),                                # (N, 10, 12, 12)    6
            block(10, 12, dropout=dropout),                 # (N, 12, 10, 10)   10
            block(12, 12, dropout=dropout),                 # (N, 12,  8,  8)   14
            block(12, 12, dropout=dropout),                 # (N, 12,  6,  6)   18
            block(12, 12, padding=1, dropout=dropout),      # (N, 12,  6,  6)   22
            nn.AvgPool2d(6),                                # (N, 12,  1,  1)   32
            nn.Conv2d(12, 10, 1, bias=False),               # (N, 10,  1,  1)   32
            nn.Flatten(),                                   # (N, 10)           32
        )
# fmt: on


class E3(E2):
    """Series E, step 3: E2 with dropout of 4 % after every norm. 7,236 parameters."""

    def __init__(self):
        super().__init__(dropout=0.04)


NETWORKS = (E1, E2, E3)
