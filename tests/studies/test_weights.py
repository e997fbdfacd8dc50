from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mnist_lab.studies import weights
from mnist_lab.studies.weights import KeptError


def test_of_several_at_once_one_trains_and_all_get_its_network(recipe, tmp_path):
    trained, path = [], tmp_path / "folder" / "seed-0.pt"

    def train():
        trained.append(recipe.network())
        return trained[-1].state_dict()

    with ThreadPoolExecutor(3) as executor:
        for one in [executor.submit(weights.keep, path, train, lambda: 2.5) for _ in range(3)]:
            one.result()
    (network,) = trained
    loaded = weights.load(path, recipe).state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in network.state_dict().items())


def test_what_other_code_trained_is_not_used(recipe, tmp_path):
    path = tmp_path / "seed-0.pt"
    weights.keep(path, lambda: recipe.network().state_dict(), lambda: 2.5)
    before = path.read_bytes()

    def never():
        raise AssertionError("trained again")

    weights.keep(path, never, lambda: 2.5005)
    weights.keep(path, never, lambda: 2.51, tolerance=1e-2)
    with pytest.raises(KeptError, match=r"seed-0.pt is of code that trained otherwise \(.* 2.5000, now 2.5100\)"):
        weights.keep(path, never, lambda: 2.51)
    with pytest.raises(KeptError, match="otherwise"):
        weights.keep(path, never, lambda: float("nan"))
    assert path.read_bytes() == before


def test_a_file_that_is_not_one_of_weights_is_told(recipe, tmp_path):
    path = tmp_path / "seed-0.pt"
    torch.save(recipe.network().state_dict(), path)  # without the loss of its first batches
    for _ in range(2):
        with pytest.raises(KeptError, match=r"seed-0.pt cannot be read .* delete it"):
            weights.keep(path, dict, lambda: 2.5)
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FileNotFoundError):
        weights.read(tmp_path / "other.pt")
