"""Records of many seeds."""

import pytest


@pytest.fixture(scope="session")
def seeds(make_record):
    """Makes the records of one recipe that end in ``accuracies``, a seed each; ``late`` are their epochs before."""

    def make(accuracies, name="3", late=(0.991, 0.993, 0.994, 0.995), **changes):
        return [make_record(name, seed, (*late, last), **changes) for seed, last in enumerate(accuracies)]

    return make
