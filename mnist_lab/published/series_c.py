"""Series C: norm before ReLU, and three networks that have little else in common.

The title of the third step's notebook promises skip connections; there are none.
"""

from torch import nn

REPOSITORY = "nagalakshmi-nimmagadda/MNIST-CNN-COLAB"


def plain_block(c_in: int, c_out: int) -> nn.Sequential:
    """3x3 convolution with bias -> ReLU."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3), nn.ReLU())


def block(c_in: int, c_out: int, kernel: int = 3, padding: int = 0) -> nn.Sequential:
    """Convolution -> norm -> ReLU."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=padding, bias=False), nn.BatchNorm2d(c_out), nn.ReLU())


def pool(dropout: float) -> nn.Sequential:
    """2x2 max pooling -> dropout."""
    return nn.Sequential(nn.MaxPool2d(2), nn.Dropout(dropout))


# fmt: off
class C1(nn.Sequential):
    """Series C, step 1: three convolutions and an average, without norms. 1,674 parameters."""

    def __init__(self):
        super().__init__(                                   # output shape      RF
            plain_block(1, 4),                              # (N,  4, 26, 26)    3
            plain_block(4, 8),                              # (N,  8, 24, 24)    5
            nn.MaxPool2d(2),                                # (N,  8, 12, 12)    6
            plain_block(8, 16),                             # (N, 16, 10, 10)   10
            nn.Conv2d(16, 10, 1),                           # (N, 10, 10, 10)   10
            nn.AvgPool2d(10),                               # (N, 10,  1,  1)   28
            nn.Flatten(),                                   # (N, 10)           28
        )


class C2(nn.Sequential):
    """Series C, step 2: norms, and a squeeze after the pooling. 5,208 parameters.

    Defect: ReLU on the class maps, so that evidence against a class does not count.
    """

    def __init__(self):
        super().__init__(                                   # output shape      RF
            block(1, 8),                                    # (N,  8, 26, 26)    3
            block(8, 12),                                   # (N, 12, 24, 24)    5
            block(12, 16, padding=1),                       # (N, 16, 24, 24)    7
            nn.MaxPool2d(2),                                # (N, 16, 12, 12)    8
            block(16, 8, kernel=1),                         # (N,  8, 12, 12)    8
            block(8, 12),                                   # (N, 12, 10, 10)   12
            block(12, 12),                                  # (N, 12,  8,  8)   16
            nn.Conv2d(12, 10, 1, bias=False),               # (N, 10,  8,  8)   16
            nn.ReLU(),                                      # (N, 10,  8,  8)   16
            nn.AvgPool2d(8),                                # (N, 10,  1,  1)   30
            nn.Flatten(),                                   # (N, 10)           30
        )


class C3(nn.Sequential):
    """Series C, step 3: two poolings, a little dropout, and a linear layer after the average. 6,188 parameters."""

    def __init__(self):
        super().__init__(                                   # output shape      RF
            block(1, 8),                                    # (N,  8, 26, 26)    3
            block(8, 10),                                   # (N, 10, 24, 24)    5
            pool(dropout=0.008),                            # (N, 10, 12, 12)    6
            block(10, 12),                                  # (N, 12, 10, 10)   10
            block(12, 16),                                  # (N, 16,  8,  8)   14
            pool(dropout=0.008),                            # (N, 16,  4,  4)   16
            block(16, 16),                                  # (N, 16,  2,  2)   24
            nn.AvgPool2d(2),                                # (N, 16,  1,  1)   28
            nn.Dropout(0.008),                              # (N, 16,  1,  1)   28
            nn.Conv2d(16, 10, 1, bias=False),               # (N, 10,  1,  1)   28
            nn.Flatten(),                                   # (N, 10)           28
        )
# fmt: on


NETWORKS = (C1, C2, C3)
