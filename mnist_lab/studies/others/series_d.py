"""Series D: convolutions with bias, one width throughout, dropout of 5 % here and there.

The repository speaks of residual-style information flow; there are no skip connections. Its committed configuration
says 15 epochs of batches of 32 and its README 20 epochs of 32, while its claim comes from a run of 20 epochs of
batches of 64: its log shows 938 updates in an epoch. All three steps are trained as that run was. It reports no result
of the other two; the notebook that trained is not in the repository, only a screenshot of it is.
"""

from dataclasses import replace

from torch import nn

from mnist_lab.studies.others.claims import Claim, Log, numbers
from mnist_lab.studies.others.recipe import PublishedRecipe

REPOSITORY = "anirudh-s97/session_7"
COMMIT = "5b5e4073abdbf97cd9084782e8d284a6f14423b5"


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


class D3(D2):
    """Series D, step 3: D2 with dropout after all seven blocks. 6,016 parameters."""

    def __init__(self):
        super().__init__(more_dropout=0.05)


RECIPES = (
    PublishedRecipe("D1", "D1", epochs=20, batch_size=64, method="Adam", learning_rate=0.001),
    PublishedRecipe("D2", "D2", epochs=20, batch_size=64, method="Adam", learning_rate=0.001,
                    distortion="rotation of 7"),
    PublishedRecipe("D3", "D3", epochs=20, batch_size=64, method="Adam", learning_rate=0.001,
                    distortion="rotation of 7, holes"),
)
VARIANTS = (replace(RECIPES[2], variant="batches of 32", batch_size=32),)
CLAIMS = {
    "D1": Claim(),
    "D2": Claim(),
    "D3": Claim(
        99.37, note="stated as 99.4, of 20 epochs of batches of 64", training=98.43, loss=0.0187,
        log=Log("aws_sagemaker.png", COMMIT, numbers("99.06 99.11 99.21 99.32 99.37"), first_epoch=16),
        other=Log("7th assignment.png", COMMIT, numbers(  # a plot, labelled with one decimal
            "98.0 98.8 98.4 99.0 98.8 98.9 99.0 99.0 98.9 99.2 99.3 99.3 99.2 99.3 99.4")),
    ),
}
# fmt: on
