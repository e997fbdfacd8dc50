import pytest

from mnist_lab.published.claims import CLAIMS
from mnist_lab.published.recipes import RECIPES


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if claim.best is not None])
def test_a_claim_is_the_best_epoch_of_its_log(name):
    claim = CLAIMS[name]
    log = claim.logs[-1] if name == "D3" else claim.logs[0]  # D3's plot rounds to one decimal; its screenshot does not
    assert max(log.accuracies) == claim.best


@pytest.mark.parametrize("name", CLAIMS)
def test_logs_have_an_accuracy_for_each_epoch_they_cover(name):
    for log in CLAIMS[name].logs:
        end = log.first_epoch - 1 + len(log.accuracies)
        assert end == (15 if log.source.startswith("plot") else RECIPES[name].epochs)
        assert all(20 < accuracy < 100 for accuracy in log.accuracies)


def test_what_is_said_of_the_training_belongs_to_a_claim():
    assert [name for name, claim in CLAIMS.items() if claim.training is None] == ["B1", "D1", "D2"]
    assert [name for name, claim in CLAIMS.items() if claim.loss] == ["A1", "A2", "A3", "D3", "E1", "E2", "E3"]
    for claim in CLAIMS.values():
        assert claim.training is None or 95 < claim.training < 100
        assert claim.loss is None or 0.01 < claim.loss < 0.05


def test_steps_without_a_claim_have_no_log():
    assert {name: claim.logs for name, claim in CLAIMS.items() if claim.best is None} == {"D1": (), "D2": ()}
