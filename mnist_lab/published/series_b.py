"""Series B: no bias, a squeeze to ten channels before the pooling; from step 2 on norms and dropout of 7 %.

From step 2 on, the last block makes the ten class maps. As published it is a block like any other: its ReLU clips
the evidence for a class at 0, its norm scales what is left, and its dropout hides some of that.
"""

from torch import nn

REPOSITORY = "Shilpaj1994/Assignment7"


def plain_block(c_in: int, c_out: int, padding: int = 0) -> nn.Sequential:
    """3x3 convolution -> ReLU."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=padding, bias=False), nn.ReLU())


def block(c_in: int, c_out: int, padding: int = 0) -> nn.Sequential:
    """3x3 convolution -> ReLU -> norm -> dropout."""
    return nn.Sequential(*plain_block(c_in, c_out, padding), nn.BatchNorm2d(c_out), nn.Dropout(0.07))


def squeeze(channels: int, *following: nn.Module) -> nn.Sequential:
    """1x1 convolution to ten channels, without ReLU -> the layers that follow it in some steps."""
    return nn.Sequential(nn.Conv2d(channels, 10, 1, bias=False), *following)


# fmt: off
class B1(nn.Sequential):
    """Series B, step 1: no norm, no dropout, classes by a large kernel. 10,554 parameters.

    As published, no ReLU separates the third convolution, the squeeze and the pooling.
    """

    def __init__(self):
        super().__init__(                                   # output shape      RF
            plain_block(1, 10),                             # (N, 10, 26, 26)    3
            plain_block(10, 12),                            # (N, 12, 24, 24)    5
            nn.Conv2d(12, 12, 3, bias=False),               # (N, 12, 22, 22)    7
            squeeze(12),                                    # (N, 10, 22, 22)    7
            nn.MaxPool2d(2),                                # (N, 10, 11, 11)    8
            plain_block(10, 12),                            # (N, 12,  9,  9)   12
            plain_block(12, 12),                            # (N, 12,  7,  7)   16
            plain_block(12, 12),                            # (N, 12,  5,  5)   20
            plain_block(12, 12, padding=1),                 # (N, 12,  5,  5)   24
            nn.Conv2d(12, 10, 5, bias=False),               # (N, 10,  1,  1)   32
            nn.Flatten(),                                   # (N, 10)           32
        )


class B2(nn.Sequential):
    """Series B, step 2: norms, dropout, and an average for the large kernel. 7,498 parameters.

    Defect: ReLU, norm and dropout on the class maps.
    """

    def __init__(self):
        super().__init__(                                   # output shape      RF
            block(1, 10),                                   # (N, 10, 26, 26)    3
            block(10, 12),                                  # (N, 12, 24, 24)    5
            block(12, 12),                                  # (N, 12, 22, 22)    7
            squeeze(12),                                    # (N, 10, 22, 22)    7
            nn.MaxPool2d(2),                                # (N, 10, 11, 11)    8
            block(10, 12),                                  # (N, 12,  9,  9)   12
            block(12, 12),                                  # (N, 12,  7,  7)   16
            block(12, 12),                                  # (N, 12,  5,  5)   20
            block(12, 10, padding=1),                       # (N, 10,  5,  5)   24
            nn.AvgPool2d(5),                                # (N, 10,  1,  1)   32
            nn.Flatten(),                                   # (N, 10)           32
        )


class B3(nn.Sequential):
    """Series B, step 3: B2 two channels wider, with a norm after the squeeze. 9,776 parameters.

    This is the version whose results the series reports.

    Defect: ReLU, norm and dropout on the class maps.
    """

    def __init__(self):
        super().__init__(                                   # output shape      RF
            block(1, 12),                                   # (N, 12, 26, 26)    3
            block(12, 14),                                  # (N, 14, 24, 24)    5
            block(14, 14),                                  # (N, 14, 22, 22)    7
            squeeze(14, nn.BatchNorm2d(10)),                # (N, 10, 22, 22)    7
            nn.MaxPool2d(2),                                # (N, 10, 11, 11)    8
            block(10, 14),                                  # (N, 14,  9,  9)   12
            block(14, 14),                                  # (N, 14,  7,  7)   16
            block(14, 14),                                  # (N, 14,  5,  5)   20
            block(14, 10, padding=1),                       # (N, 10,  5,  5)   24
            nn.AvgPool2d(5),                                # (N, 10,  1,  1)   32
            nn.Flatten(),                                   # (N, 10)           32
        )


class B3Later(nn.Sequential):
    """Series B, step 3 as it later became in its repository: narrower, with a norm of the logits. 8,014 parameters.

    Defects: ReLU, norm and dropout on the class maps, and a second norm after their average.
    """

    def __init__(self):
        super().__init__(                                   # output shape      RF
            block(1, 14),                                   # (N, 14, 26, 26)    3
            block(14, 12),                                  # (N, 12, 24, 24)    5
            block(12, 12),                                  # (N, 12, 22, 22)    7
            squeeze(12, nn.BatchNorm2d(10), nn.Dropout(0.07)),  # (N, 10, 22, 22)    7
            nn.MaxPool2d(2),                                # (N, 10, 11, 11)    8
            block(10, 12),                                  # (N, 12,  9,  9)   12
            block(12, 12),                                  # (N, 12,  7,  7)   16
            block(12, 12),                                  # (N, 12,  5,  5)   20
            block(12, 10, padding=1),                       # (N, 10,  5,  5)   24
            nn.AvgPool2d(5),                                # (N, 10,  1,  1)   32
            nn.BatchNorm2d(10),                             # (N, 10,  1,  1)   32
            nn.Flatten(),                                   # (N, 10)           32
        )
# fmt: on


NETWORKS = (B1, B2, B3, B3Later)
