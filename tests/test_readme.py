from dataclasses import replace

import pytest

from mnist_lab import readme
from mnist_lab.published import RECIPES

TEXT = """# title
prose 1
<!-- results:begin (written by a command) -->
old
lines
<!-- results:end -->
prose 2
<!-- benchmark:begin (written by a command) -->
<!-- benchmark:end -->
<!-- published:begin (written by a command) -->
<!-- published:end -->
<!-- repairs:begin (written by a command) -->
<!-- repairs:end -->
<!-- step-3:begin (written by a command) -->
<!-- step-3:end -->
"""


def test_blocks_are_rewritten_and_prose_is_kept(published):
    text = readme.render(TEXT, [published], [], [])
    assert "old" not in text and "prose 1" in text and "prose 2" in text
    assert "| OneCycleLR | CompactNet |" in text
    assert f"{len(published.mistakes)} of 10,000 test images misread" in text
    assert readme.render(text, [published], [], []) == text
    assert "No step has been trained yet" in text


def test_the_published_series_are_shown_from_their_records(published, seed_of):
    text = readme.render(TEXT, [published], [], [seed_of(RECIPES["A1"], 0, 99.2, 99.3)])
    assert "| A1 | 99.29 |" in text and "No repair has been trained yet" in text


def test_a_block_too_few_or_too_many_is_an_error(published):
    other = replace(published, row="4")
    with pytest.raises(ValueError, match="step-4"):
        readme.render(TEXT, [published, other], [], [])
    with pytest.raises(ValueError, match="step-3"):
        readme.render(TEXT, [other], [], [])


def test_a_step_line_names_the_rung_and_the_first_seed(published):
    rung = replace(published, row="3a", change="half the way")
    second = replace(published, settings={**published.settings, "seed": 1}, mistakes=[])
    line = readme.step_line([rung, published, second])
    assert f"{100 * published.accuracy:.2f} % after 15 epochs with seed 0" in line
    assert f"the rung in between, half the way: {100 * published.accuracy:.2f} %" in line
    assert line.count("misread") == 1


def test_a_benchmark_is_told_in_a_table_and_in_words(speed):
    block = readme.benchmark_block([speed])
    assert "| image by image | CompactNet | 125 | 2 | 40.0 | 4.00 |" in block
    for said in (
        "alone would take one thread 3.0 s; it takes 5.0 times as long",
        "train 1.90 times as many images",
        "stays at or above 99.4 % from epoch 5 on, after 61 s",
        "0.80 GiB at its peak",
        "GPU: not measured",
        "Device: a processor; torch 2.15.0.",
    ):
        assert said in block
    gpu = readme.benchmark_block([replace(speed, gpu_run=1.234, gpu_many=25.0, epochs_to_target=None)])
    assert "A whole run takes 1.23 s after a warm-up, 64 seeds at once 25.0 s" in gpu
    assert "The held-out accuracy does not stay at 99.4 %" in gpu
    assert readme.benchmark_block([]) == ""
