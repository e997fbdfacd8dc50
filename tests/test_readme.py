import re
from dataclasses import replace

import pytest

from mnist_lab import readme
from mnist_lab.published.recipes import RECIPES
from mnist_lab.readme import Tracked

TEXT = """# title
prose 1
<!-- results:begin (written by a command) -->
outdated
lines
<!-- results:end -->
prose 2
<!-- consistency:begin (written by a command) -->
<!-- consistency:end -->
<!-- gains:begin (written by a command) -->
<!-- gains:end -->
<!-- benchmark:begin (written by a command) -->
<!-- benchmark:end -->
<!-- published:begin (written by a command) -->
<!-- published:end -->
<!-- published-training:begin (written by a command) -->
<!-- published-training:end -->
<!-- repairs:begin (written by a command) -->
<!-- repairs:end -->
<!-- search:begin (written by a command) -->
<!-- search:end -->
<!-- frontier:begin (written by a command) -->
<!-- frontier:end -->
<!-- step-3:begin (written by a command) -->
<!-- step-3:end -->
"""


def test_blocks_are_rewritten_and_prose_is_kept(published):
    text = readme.render(TEXT, Tracked([published]))
    assert "outdated" not in text and "prose 1" in text and "prose 2" in text
    assert "| 3 | OneCycleLR | 7,306 / 7,306 | 15 | 1 |" in text
    assert "| 3 | 1 of 1 | 5.0 % | 5 of 5 |" in text
    assert f"{len(published.mistakes)} of 10,000 test images misread" in text
    assert readme.render(text, Tracked([published])) == text
    assert "No step has been trained yet" in text


def test_the_published_series_are_shown_from_their_records(published, seed_of):
    text = readme.render(TEXT, Tracked([published], published=[seed_of(RECIPES["A1"], 0, 99.2, 99.3)]))
    assert "| A1 | 99.29 |" in text and "No repair has been trained yet" in text


def test_a_run_on_a_gpu_stands_below_its_steps_result(published, on_gpu):
    rung = replace(on_gpu, row="3a")
    text = readme.render(TEXT, Tracked([published], gpu_runs=[rung, on_gpu]))
    (line,) = re.findall(r"^\*\*On a GPU:\*\* (.*)$", text, re.MULTILINE)
    assert (
        line.startswith(f"Tesla T4, seed 0: {100 * on_gpu.accuracy:.2f} %; the CPU run with seed 0") and "+0.00" in line
    )
    assert text.index("misread") < text.index("On a GPU") < text.index("step-3:end")
    assert readme.render(text, Tracked([published])) == readme.render(TEXT, Tracked([published]))  # nothing is said


def test_a_gpu_run_of_a_recipe_that_is_gone_is_not_shown(published, on_gpu):
    old = replace(on_gpu, recipe={**on_gpu.recipe, "rotation": 1.0})
    assert "On a GPU" not in readme.render(TEXT, Tracked([published], gpu_runs=[old]))


def test_a_block_too_few_or_too_many_is_an_error(published):
    other = replace(published, row="4")
    with pytest.raises(ValueError, match="step-4"):
        readme.render(TEXT, Tracked([published, other]))
    with pytest.raises(ValueError, match="step-3"):
        readme.render(TEXT, Tracked([other]))


def test_a_step_line_names_the_rung_and_the_first_seed(published):
    rung = replace(published, row="3a", change="half the way")
    second = replace(published, settings={**published.settings, "seed": 1}, mistakes=[])
    line = readme.step_line([rung, published, second])
    assert f"{100 * published.accuracy:.2f} % after 15 epochs with seed 0" in line
    assert f"the rung in between, half the way: {100 * published.accuracy:.2f} %" in line
    assert line.count("misread") == 1
    assert line.endswith(f"7,306 parameters. Over 2 seeds: {100 * published.accuracy:.3f} ± 0.000 %.")
    assert readme.step_line([rung, published]).endswith("7,306 parameters.")


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


def test_many_seeds_show_in_every_block(seeds):
    records = [*seeds([0.9930, 0.9932, 0.9931], row="2", change="before"), *seeds([0.9950, 0.9951, 0.9952])]
    text = readme.render(TEXT.replace("step-3:", "step-2:") + TEXT[TEXT.index("<!-- step-3") :], Tracked(records))
    assert "| 3 | OneCycleLR | 7,306 / 7,306 | 15 | 3 | 99.510 ± 0.010 | 99.485 – 99.535 | 99.50 | 99.52 |" in text
    assert "| 2 | 0 of 3 | 0.0 % | 12 of 15 | 0 of 3 |" in text
    assert "| 3 | OneCycleLR | 2 | +0.200 | +0.177 – +0.223 |" in text
