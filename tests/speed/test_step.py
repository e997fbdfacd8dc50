import pytest
import torch

from mnist_lab.fields.trace import facts
from mnist_lab.models import MODELS
from mnist_lab.speed import figures, step
from mnist_lab.speed.step import CAUSES, EVERYTHING_ELSE, GIVEN_BACK, Cost
from mnist_lab.speed.ways import usable_layers
from mnist_lab.studies.others.series_e import E3


@pytest.mark.parametrize("make", [*MODELS.values(), E3])
def test_multiply_accumulates_are_those_of_the_facts(make):
    assert step.multiply_accumulates(make()) == facts(make()).multiply_accumulates


def test_shares_of_the_time_add_up_and_convolutions_are_seen(recipe, settings):
    shares = step.time_shares(recipe, settings, sample=200)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in shares.values()) and "convolution, backward" in shares


def test_a_matrix_product_is_no_slower_than_in_plain_python():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert step.matrix_rate(size=64, repeats=3) > 1e7
        assert torch.get_num_threads() == 1  # what it is compared with is of one
    finally:
        torch.set_num_threads(before)


def test_a_step_is_taken_apart_by_layer_and_cause(recipe, settings):
    costs = step.step_costs(recipe, settings, 0.01)
    kinds = list(dict.fromkeys(cost.layers for cost in costs))
    assert kinds == [GIVEN_BACK, *reversed(usable_layers(recipe, torch.device("cpu")))]
    for kind in kinds:
        own = [cost for cost in costs if cost.layers == kind]
        assert own[0].part == "3x3 convolution" and own[-1].part == "optimizer and average"
        assert all(getattr(cost, cause) >= 0 for cost in own for cause in CAUSES)
        assert all(cost.total > 0 for cost in own)
        most = max(own, key=lambda cost: cost.arithmetic)  # 22 x 22 x 8 x (9 + 16) products, three times
        assert most.part == "norm, SiLU, 3x3 depthwise, 1x1 convolution, max pooling"


def test_touching_new_memory_takes_time():
    assert 1e-9 < step.seconds_per_fault() < 1e-4


def test_everything_else_comes_last():
    figure = figures.time_shares({"norm": 0.2, EVERYTHING_ELSE: 0.5, "pooling": 0.3}, "shares")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [EVERYTHING_ELSE, "norm", "pooling"]


def test_costs_are_drawn_a_panel_for_each_kind_of_layers():
    costs = [Cost(kind, part, 100, 20, 0, 300) for kind in ("ours", "theirs") for part in ("norm", "loss")]
    figure = figures.step_costs(costs, "a step")
    assert [axis.get_title() for axis in figure.axes] == ["ours: 0.8 ms", "theirs: 0.8 ms"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "arithmetic", "dispatch", "page faults", "the rest",
    ]  # fmt: skip
    assert len(figures.step_costs([], "nothing yet").axes) == 1


def test_small_parts_are_one_bar():
    """A part is small if it is so with every kind of layers, or the bars of two panels would not match."""
    small, large = Cost("ours", "loss", 50, 20, 0, 30), Cost("theirs", "loss", 50, 20, 0, 300)
    rest = [Cost(kind, part, 10, 20, 0, 30) for kind in ("ours", "theirs") for part in ("norm", "flatten")]
    figure = figures.step_costs([small, *rest[:2], large, *rest[2:]], "an update")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["loss", "2 small parts"]
    assert [bar.get_width() for bar in figure.axes[0].containers[0]] == pytest.approx([0.05, 0.02])
