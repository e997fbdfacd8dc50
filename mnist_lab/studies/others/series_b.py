"""Series B: no bias, a squeeze to ten channels before the pooling; from step 2 on norms and dropout of 7 %.

A defect from step 2 on: the last block, which makes the ten class maps, is a block like any other. Its ReLU clips the
evidence for a class at 0, its norm scales what is left, and its dropout hides some of that.

Step 3 was published twice: B3 is the version at an earlier commit, B3Later the one that replaced it.
"""

from dataclasses import replace

from torch import nn

from mnist_lab.studies.others.claims import Claim, Log, numbers
from mnist_lab.studies.others.recipe import PublishedRecipe

REPOSITORY = "Shilpaj1994/Assignment7"
COMMIT = "21474ba4156b15fa18d41042c7ddf8edcbc1cfbb"
COMMIT_OF_B3 = "674c3bcb9be3880235f372405846b6aaf508d57b"
# As published, scored images are normalised by other numbers than training images.
OTHER_NUMBERS = {"scored_mean": 0.1325, "scored_std": 0.3104}


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
    """Series B, step 2: norms, dropout, and an average for the large kernel. 7,498 parameters."""

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
    """Series B, step 3: B2 two channels wider, with a norm after the squeeze. 9,776 parameters."""

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
    """Series B, step 3 as it was published later: narrower, with a norm of the logits. 8,014 parameters."""

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

RECIPES = (  # B1 ran for 20 epochs and its claim counts the first 15; its rate is constant, so 15 are the same
    PublishedRecipe("B1", "B1", epochs=15, batch_size=128, learning_rate=0.01,
                    distortion="crop, rotation of 7", **OTHER_NUMBERS),
    PublishedRecipe("B2", "B2", epochs=15, batch_size=128, learning_rate=0.01,
                    distortion="crop, rotation of 7", **OTHER_NUMBERS),
    PublishedRecipe("B3", "B3", epochs=15, batch_size=64, learning_rate=0.01,
                    schedule="step", step_epochs=7, step_factor=0.1,
                    distortion="crop, rotation of 15, erasing", **OTHER_NUMBERS),
    PublishedRecipe("B3Later", "B3Later", epochs=15, batch_size=64, learning_rate=0.01,
                    schedule="step", step_epochs=7, step_factor=0.1,
                    distortion="crop, rotation of 15 on grey, erasing", **OTHER_NUMBERS),
)
VARIANTS = (replace(RECIPES[3], variant="black corners", distortion=RECIPES[2].distortion),)
CLAIMS = {
    "B1": Claim(99.09, note="of the first 15 of 20 epochs", training=98.38, loss=0.0314, log=Log(
        "step_1.ipynb", COMMIT, numbers(
            "91.23 96.97 97.80 97.80 98.38 98.37 98.67 98.81 99.01 98.96 99.01 98.98 99.09 98.95 98.88"))),
    "B2": Claim(99.30, training=98.47, loss=0.0228, log=Log("step_2.ipynb", COMMIT, numbers(
        "97.94 98.44 98.77 98.96 98.91 98.85 98.90 99.04 99.06 98.98 99.21 99.24 99.30 99.11 99.27"))),
    "B3": Claim(99.47, training=97.32, loss=0.0198, log=Log("step_3.ipynb", COMMIT_OF_B3, numbers(
        "98.37 98.95 99.14 99.00 99.26 99.08 99.38 99.38 99.38 99.43 99.41 99.41 99.45 99.47 99.44"))),
    "B3Later": Claim(99.46, note="in place of B3 from commit 8d7af76 on", training=96.78, loss=0.0203, log=Log(
        "step_3.ipynb", COMMIT, numbers(
            "98.27 98.73 98.79 99.17 99.07 99.24 99.19 99.36 99.43 99.40 99.39 99.41 99.40 99.45 99.46"))),
}
# fmt: on
