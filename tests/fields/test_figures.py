import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from mnist_lab.fields import figures
from mnist_lab.fields.trace import trace
from mnist_lab.models import MODELS, build, count_parameters


@pytest.fixture
def drawn(tmp_path):
    """Draws for real, with every warning an error, and returns the figure."""

    def draw(figure: Figure) -> Figure:
        figure.savefig(tmp_path / "figure.png")
        return figure

    return draw


def test_nested_fields_have_a_panel_per_layer_that_sees_more(few, drawn):
    figure = drawn(figures.nested_fields(trace(build("CompactNet")), few, "fields"))
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown] == [
        f"{layer}\nkernel {kernel}: {field} pixels"
        for layer, kernel, field in [
            ("0 Conv2d", 3, 3), ("3 Conv2d", 3, 5), ("7 Conv2d", 3, 7), ("9 MaxPool2d", 2, 8), ("12 Conv2d", 3, 12),
            ("16 Conv2d", 3, 16), ("20 Conv2d", 3, 20), ("24 Conv2d", 5, 28),
        ]
    ]  # fmt: skip
    assert (shown[0].images[0].get_array() == few.images[0, 0].numpy()).all()
    for number, axis in enumerate(shown, 1):
        *_, own = axis.patches
        assert len(axis.patches) == 1 + number  # the image's edge, the fields before, and its own
        assert own.get_width() == int(axis.get_title().split()[-2])
        clear = axis.images[1].get_alpha() == 0
        assert clear.sum() == own.get_width() ** 2


def test_a_field_that_leaves_the_image_is_drawn_up_to_its_edge(few, drawn):
    rows = trace(nn.Sequential(*(nn.Conv2d(1, 1, 5, padding=2) for _ in range(8))))
    shown = [axis for axis in drawn(figures.nested_fields(rows, few, "fields")).axes if axis.images]
    assert len(shown) == 8 and shown[-1].get_title().endswith("33 pixels")
    assert (shown[-1].patches[-1].get_x(), shown[-1].patches[-1].get_width()) == (-0.5, 28)


def test_effective_fields_stand_beside_the_theoretical_one(few, drawn):
    torch.manual_seed(0)
    stages = {"before": build("CompactNet"), "after": build("CompactNet")}
    figure = drawn(figures.effective_fields(stages, few, "effective"))
    titles = [axis.get_title().split("\n")[0] for axis in figure.axes]
    assert titles == ["21 Conv2d: 20 pixels", "before", "after", "26 Conv2d: 28 pixels", "before", "after"]
    theory, before, after = (axis.images[0].get_array() for axis in figure.axes[:3])
    assert theory.sum() == 20**2
    assert (before[theory == 0] == 0).all() and (before != after).any()
    assert figure.axes[0].get_title().endswith("16 x 16")


def test_a_dead_network_has_no_effective_field(few, drawn):
    dead = build("SkeletonNet")
    for parameter in dead.parameters():
        nn.init.constant_(parameter, -1.0)
    figure = drawn(figures.effective_fields({"dead": dead}, few, "effective"))
    assert figure.axes[-1].get_title() == "dead\nnothing moves it"


@pytest.mark.parametrize("network", MODELS.values())
def test_a_diagram_shows_every_block_with_its_cost_and_what_it_sees(network, few, drawn):
    figure = drawn(figures.network_diagram(network(), few, "diagram"))
    said = [text.get_text() for axis in figure.axes for text in axis.texts]
    costs = [int(line.split()[0].replace(",", "")) for text in said for line in text.splitlines() if "param" in line]
    assert sum(costs) == count_parameters(network())
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles[-1] == f"sees {trace(network())[-1].field_out} pixels" and len(titles) == len(costs)


def test_a_diagram_leaves_out_blocks_before_the_first_convolution(few, drawn):
    model = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU()))
    titles = [axis.get_title() for axis in drawn(figures.network_diagram(model, few, "late")).axes]
    assert [title for title in titles if title] == ["sees 3 pixels"]


def test_a_diagram_of_one_layer(few, drawn):
    figure = drawn(figures.network_diagram(nn.Sequential(nn.Conv2d(1, 3, 3)), few, "one"))
    assert "3 x 26 x 26\n3x3 convolution\n30 parameters" in [
        text.get_text() for axis in figure.axes for text in axis.texts
    ]
