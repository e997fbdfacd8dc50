from concurrent.futures import ThreadPoolExecutor

import torch

from mnist_lab.studies import weights


def test_of_several_at_once_one_trains_and_all_get_its_network(recipe, tmp_path):
    trained, path = [], tmp_path / "folder" / "seed-0.pt"

    def train():
        trained.append(recipe.network())
        return trained[-1].state_dict()

    with ThreadPoolExecutor(3) as executor:
        for one in [executor.submit(weights.keep, path, train) for _ in range(3)]:
            one.result()
    (network,) = trained
    loaded = weights.load(path, recipe).state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in network.state_dict().items())
