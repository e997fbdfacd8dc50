from torch import nn

from mnist_lab.models import PARAMETER_BUDGET, CompactNet, build, count_parameters, leaves
from mnist_lab.search.networks import NETWORKS, SIZES, compact
from mnist_lab.summary import facts


def test_every_network_is_within_the_budget():
    for name, network in NETWORKS.items():
        counts = facts(network())
        assert counts.trainable < PARAMETER_BUDGET and counts.deployed < PARAMETER_BUDGET, name
    small = [count_parameters(NETWORKS[size]()) for size in SIZES]
    assert [round(count, -3) for count in small] == [1000, 2000, 4000, 6000]


def test_an_edited_network_is_the_step_s_but_for_the_edit():
    step = [type(layer).__name__ for layer in leaves(build("CompactNet"))]
    assert [type(layer).__name__ for layer in leaves(NETWORKS["ReLU"]())] == [
        "ReLU" if name == "SiLU" else name for name in step
    ]
    scaled = [layer for layer in leaves(NETWORKS["scaled norms"]()) if isinstance(layer, nn.BatchNorm2d)]
    assert len(scaled) == 5 and all(layer.weight is not None for layer in scaled)
    assert [type(layer).__name__ for layer in leaves(NETWORKS["dropout"]())].count("Dropout") == 4
    assert count_parameters(compact(16, 32, 40, 48)) == count_parameters(CompactNet())
