"""Series A: no bias, dropout of 5 % after every norm, logits after the average pooling.

The defect of the series: the logits pass a norm and a ReLU; whatever is below 0 becomes 0 and has no gradient.
"""

from dataclasses import replace

from torch import nn

from mnist_lab.studies.others.claims import Claim, Log, numbers
from mnist_lab.studies.others.recipe import PublishedRecipe

REPOSITORY = "nikhiljaiswal/mnist-cnn-aws"
COMMIT = "b32ea3511b8bbb710f54b32b212b2bf96a38c6b7"


def block(c_in: int, c_out: int, padding: int = 0) -> nn.Sequential:
    """3x3 convolution -> ReLU -> norm -> dropout of 5 %."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=padding, bias=False), nn.ReLU(), nn.BatchNorm2d(c_out), nn.Dropout(0.05)
    )


def clipped_head(channels: int) -> nn.Sequential:
    """1x1 convolution to the logits -> norm -> ReLU."""
    return nn.Sequential(nn.Conv2d(channels, 10, 1, bias=False), nn.BatchNorm2d(10), nn.ReLU(), nn.Flatten())


# fmt: off
class A1(nn.Sequential):
    """Series A, step 1: eight channels, then twelve. 5,732 parameters."""

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
    """Series A, step 2: A1 with fourteen channels for twelve. 7,316 parameters."""

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
    """Series A, step 3: the network of A2, trained in another way. 7,316 parameters."""

RECIPES = (
    PublishedRecipe("A1", "A1", epochs=15, batch_size=156, learning_rate=0.02, weight_decay=1e-4,
                    schedule="step", step_epochs=5, step_factor=0.5),
    PublishedRecipe("A2", "A2", epochs=15, batch_size=156, learning_rate=0.02, weight_decay=1e-4,
                    schedule="step", step_epochs=5, step_factor=0.5),
    PublishedRecipe("A3", "A3", epochs=15, batch_size=156, learning_rate=0.01,
                    schedule="step", step_epochs=8, step_factor=0.1, distortion="rotation of 3, affine"),
)
VARIANTS = (replace(RECIPES[2], variant="unclipped logits"), replace(RECIPES[2], variant="no dropout"))
CLAIMS = {
    "A1": Claim(99.29, training=99.14, loss=0.0260, log=Log("Model_1.ipynb", COMMIT, numbers(
        "98.23 98.80 98.86 98.84 98.77 99.13 99.16 99.20 99.27 99.18 99.27 99.22 99.29 99.22 99.21"))),
    "A2": Claim(99.33, training=99.27, loss=0.0208, log=Log("Model_2.ipynb", COMMIT, numbers(
        "98.41 98.70 98.94 98.87 98.90 99.08 99.19 99.19 99.23 99.19 99.31 99.29 99.30 99.30 99.33"))),
    "A3": Claim(
        99.46, note="on SageMaker 99.42", training=98.97, loss=0.0212,
        log=Log("Model_3.ipynb", COMMIT, numbers(
            "97.81 98.66 98.65 99.02 99.08 99.29 99.28 99.20 99.42 99.39 99.43 99.43 99.42 99.46 99.40")),
        other=Log("Model_3_AWS.ipynb", COMMIT, numbers(
            "98.50 98.78 98.81 99.14 99.12 99.16 99.12 99.23 99.32 99.34 99.37 99.32 99.40 99.41 99.42")),
    ),
}
# fmt: on
