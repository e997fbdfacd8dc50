import copy

import pytest
import torch

from mnist_lab.models import MODELS, build, count_parameters
from mnist_lab.receptive_field import trace
from mnist_lab.summary import facts, field_table, layer_table


@pytest.mark.parametrize("name", MODELS)
def test_torchsummary_counts_what_the_model_has(name):
    model = build(name)
    assert layer_table(model).endswith(f"Total params: {count_parameters(model):,}")


def test_a_summary_changes_neither_the_model_nor_the_random_numbers():
    model = build("CompactNet").train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    layer_table(model)
    facts(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_facts_by_hand():
    found = facts(build("SkeletonNet"))
    assert found.trainable == found.deployed == 80 + 1168 + 3480 + 250
    assert found.multiply_accumulates == 72 * 26**2 + 1152 * 11**2 + 3456 * 3**2 + 240
    assert found.receptive_field == 26


def test_the_field_table_ends_with_the_totals():
    model = build("CompactNet")
    lines = field_table(trace(model)).splitlines()
    assert len(lines) == len(trace(model)) + 2
    assert f"{count_parameters(model):,}" in lines[-1] and f"{facts(model).multiply_accumulates:,}" in lines[-1]
