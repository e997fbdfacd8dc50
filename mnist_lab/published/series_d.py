"""Series D: convolutions with bias, one width throughout, dropout of 5 % here and there.

The repository speaks of residual-style information flow; there are no skip connections.
"""

from torch import nn

REPOSITORY = "anirudh-s97/session_7"


def block(c_in: int, c_out: int, dropout: float = 0.0) -> nn.Sequential:
    """3x3 convolution with bias -> ReLU -> norm -> dropout, if any."""
    layers = [nn.Conv2d(c_in, c_out, 3), nn.ReLU(), nn.BatchNorm2d(c_out)]
    return nn.Sequential(*layers, nn.Dropout(dropout)) if dropout else nn.Sequential(*layers)


# fmt: off
class D1(nn.Sequential):
    """Series D, step 1: fifteen channels, one dropout. 12,316 parameters."""

    def __init__(self):
        super().__init__(                                   # output shape      RF
            block(1, 15),                                   # (N, 15, 26, 26)    3
            block(15, 15),                                  # (N, 15, 24, 24)    5
            block(15, 15),                                  # (N, 15, 22, 22)    7
            nn.MaxPool2d(2),                                # (N, 15, 11, 11)    8
            block(15, 15),                                  # (N, 15,  9,  9)   12
            block(15, 15, dropout=0.05),                    # (N, 15,  7,  7)   16
            block(15, 15),                                  # (N, 15,  5,  5)   20
            block(15, 12),                                  # (N, 12,  3,  3)   24
            nn.AvgPool2d(3),                                # (N, 12,  1,  1)   28
            nn.Conv2d(12, 10, 1),                           # (N, 10,  1,  1)   28
            nn.Flatten(),                                   # (N, 10)           28
        )


class D2(nn.Sequential):
    """Series D, step 2: ten channels, four dropouts. 6,016 parameters."""

    def __init__(self, more_dropout: float = 0.0):
        super().__init__(                                   # output shape      RF
            block(1, 10, dropout=0.05),                     # (N, 10, 26, 26)    3
            block(10, 10, dropout=0.05),                    # (N, 10, 24, 24)    5
            block(10, 10, dropout=more_dropout),            # (N, 10, 22, 22)    7
            nn.MaxPool2d(2),                                # (N, 10, 11, 11)    8
            block(10, 10, dropout=0.05),                    # (N, 10,  9,  9)   12
            block(10, 10, dropout=0.05),                    # (N, 10,  7,  7)   16
            block(10, 10, dropout=more_dropout),            # (N, 10,  5,  5)   20
            block(10, 12, dropout=more_dropout),            # (N, 12,  3,  3)   24
            nn.AvgPool2d(3),                                # (N, 12,  1,  1)   28
            nn.Conv2d(12, 10, 1),                           # (N, 10,  1,  1)   28
            nn.Flatten(),                                   # (N, 10)           28
        )
# fmt: on


class D3(D2):
    """Series D, step 3: D2 with dropout after all seven blocks. 6,016 parameters."""

    def __init__(self):
        super().__init__(more_dropout=0.05)


NETWORKS = (D1, D2, D3)
