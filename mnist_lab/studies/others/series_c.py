"""Series C: norm before ReLU, and three networks that have little else in common.

The title of the third step's notebook promises skip connections; there are none.
"""

from dataclasses import replace

from torch import nn

from mnist_lab.studies.others.claims import Claim, Log, numbers
from mnist_lab.studies.others.recipe import PublishedRecipe

REPOSITORY = "nagalakshmi-nimmagadda/MNIST-CNN-COLAB"
COMMIT = "2a5d05b39da04510d93f687a240dd7c2c476ece6"


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

RECIPES = (
    PublishedRecipe("C1", "C1", epochs=15, batch_size=128, learning_rate=0.01),
    PublishedRecipe("C2", "C2", epochs=15, batch_size=128, learning_rate=0.01),
    PublishedRecipe("C3", "C3", epochs=15, batch_size=128, method="Adam", learning_rate=0.003, weight_decay=5e-5,
                    schedule="one-cycle", warmup=0.2, end_divisor=1000.0, distortion="rotation of 5, affine"),
)
VARIANTS = (replace(RECIPES[1], variant="unclipped logits"),)
CLAIMS = {
    "C1": Claim(96.58, training=95.94, loss=0.1139, log=Log("MNIST_Model1_Development.ipynb", COMMIT, numbers(
        "26.05 84.45 91.14 92.32 92.01 93.59 94.82 94.74 94.74 95.28 94.59 95.77 96.58 95.03 96.40"))),
    "C2": Claim(98.91, training=99.02, loss=0.0435, log=Log("MNIST_Model2_Development.ipynb", COMMIT, numbers(
        "94.71 95.43 97.49 96.65 96.80 98.27 98.30 98.34 98.60 98.53 98.66 98.91 98.62 98.56 98.63"))),
    "C3": Claim(99.54, training=99.40, loss=0.0166, log=Log("MNIST_Model3_Development.ipynb", COMMIT, numbers(
        "96.17 98.43 98.79 98.99 99.18 99.30 99.23 99.37 99.22 99.38 99.49 99.54 99.44 99.48 99.44"))),
}
# fmt: on
