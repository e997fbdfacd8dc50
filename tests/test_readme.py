from dataclasses import replace

import pytest

from mnist_lab import readme

TEXT = """# title
prose 1
<!-- results:begin (written by a command) -->
old
lines
<!-- results:end -->
prose 2
<!-- step-3:begin (written by a command) -->
<!-- step-3:end -->
"""


def test_blocks_are_rewritten_and_prose_is_kept(published):
    text = readme.render(TEXT, [published])
    assert "old" not in text and "prose 1" in text and "prose 2" in text
    assert "| OneCycleLR | CompactNet |" in text
    assert f"{len(published.mistakes)} of 10,000 test images misread" in text
    assert readme.render(text, [published]) == text


def test_a_block_too_few_or_too_many_is_an_error(published):
    other = replace(published, row="4")
    with pytest.raises(ValueError, match="step-4"):
        readme.render(TEXT, [published, other])
    with pytest.raises(ValueError, match="step-3"):
        readme.render(TEXT, [other])


def test_a_step_line_names_the_rung_and_the_first_seed(published):
    rung = replace(published, row="3a", change="half the way")
    second = replace(published, settings={**published.settings, "seed": 1}, mistakes=[])
    line = readme.step_line([rung, published, second])
    assert f"{100 * published.accuracy:.2f} % after 15 epochs with seed 0" in line
    assert f"the rung in between, half the way: {100 * published.accuracy:.2f} %" in line
    assert line.count("misread") == 1
