"""Series A: no bias, dropout of 5 % after every norm, classes after the average.

As published, the logits pass a norm and a ReLU: whatever is below 0 becomes 0, and gives no gradient.
"""

from torch import nn

REPOSITORY = "nikhiljaiswal/mnist-cnn-aws"


def block(c_in: int, c_out: int, padding: int = 0) -> nn.Sequential:
    """3x3 convolution -> ReLU -> norm -> dropout of 5 %."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=padding, bias=False), nn.ReLU(), nn.BatchNorm2d(c_out), nn.Dropout(0.05)
    )


def clipped_head(channels: int) -> nn.Sequential:
    """1x1 convolution to the logits -> norm -> ReLU, the defect of the series."""
    return nn.Sequential(nn.Conv2d(channels, 10, 1, bias=False), nn.BatchNorm2d(10), nn.ReLU(), nn.Flatten())


# fmt: off
class A1(nn.Sequential):
    """Series A, step 1: eight channels, then twelve. 5,732 parameters.

    Defect: norm and ReLU on the logits.
    """

    def __init__(self):
        super().__init__(                                   # output shape      RF
            block(1, 8),                                    # (N,  8, 26, 26)    3
            block(8, 8),                                    # (N,  8, 24, 24)    5
            nn.Conv2d(8, 8, 1, bias=False),                 # (N,  8, 24, 24)    5
            nn.MaxPool2d(2),                                # (N,  8, 12, 12)    6
            block(8, 12),                                   # (N, 12, 10, 10)   10
            block(12, 12),                                  # (N, 12,  8,  8)   14
            block(12, 12, padding=1),                       # (N, 12,  8,  8)   18
            block(12, 12, padding=1),                       # (N, 12,  8,  8)   22
            nn.AvgPool2d(8),                                # (N, 12,  1,  1)   36
            clipped_head(12),                               # (N, 10)           36
        )


class A2(nn.Sequential):
    """Series A, step 2: A1 with fourteen channels for twelve. 7,316 parameters.

    Defect: norm and ReLU on the logits.
    """

    def __init__(self):
        super().__init__(                                   # output shape      RF
            block(1, 8),                                    # (N,  8, 26, 26)    3
            block(8, 8),                                    # (N,  8, 24, 24)    5
            nn.Conv2d(8, 8, 1, bias=False),                 # (N,  8, 24, 24)    5
            nn.MaxPool2d(2),                                # (N,  8, 12, 12)    6
            block(8, 14),                                   # (N, 14, 10, 10)   10
            block(14, 14),                                  # (N, 14,  8,  8)   14
            block(14, 14, padding=1),                       # (N, 14,  8,  8)   18
            block(14, 14, padding=1),                       # (N, 14,  8,  8)   22
            nn.AvgPool2d(8),                                # (N, 14,  1,  1)   36
            clipped_head(14),                               # (N, 10)           36
        )


class A3(A2):
    """Series A, step 3: A2 as it is, trained otherwise. 7,316 parameters.

    Defect: norm and ReLU on the logits.
    """
# fmt: on


NETWORKS = (A1, A2, A3)
