from dataclasses import replace

from mnist_lab.gpu_comparison import beside


def with_accuracy(record, seed: int, wrong: int):
    history = [*record.history[:-1], {**record.history[-1], "test": {"loss": 0.01, "accuracy": 1 - wrong / 10_000}}]
    mistakes = [{"index": i, "label": 1, "predicted": 2, "confidence": 0.5} for i in range(wrong)]
    return replace(record, settings={**record.settings, "seed": seed}, history=history, mistakes=mistakes)


def test_within_the_spread_of_seeds_or_not(on_gpu, published):
    study = [with_accuracy(published, seed, wrong) for seed, wrong in enumerate((48, 52, 56))]
    said = beside(with_accuracy(on_gpu, 0, 50), study)
    assert said.startswith("Tesla T4, seed 0: 99.50 %; 3 CPU seeds: 99.48 ± 0.04 %")
    assert "from 99.28 to 99.68 %" in said and "lies within the spread" in said
    assert "lies within the spread" in beside(with_accuracy(on_gpu, 0, 71), study)
    assert "lies outside the spread" in beside(with_accuracy(on_gpu, 0, 73), study)
    assert "lies outside the spread" in beside(with_accuracy(on_gpu, 0, 31), study)


def test_one_seed_has_no_spread(on_gpu, published):
    said = beside(with_accuracy(on_gpu, 0, 50), [with_accuracy(published, 0, 52)])
    assert "+0.02 points, 2 images only the GPU run reads right, 0 only the CPU run" in said


def test_other_recipes_and_rows_are_not_compared(on_gpu, published):
    others = [replace(published, row="3a"), replace(published, recipe={**published.recipe, "epochs": 3})]
    assert "no CPU run of row 3" in beside(on_gpu, others)
