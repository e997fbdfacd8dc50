import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from mnist_lab import LabError
from mnist_lab.evidence import records
from mnist_lab.publishing import notebooks, pages

NAMES = ("headline", "step-2", "step-3")
TEXT = "# title\nprose\n" + "".join(f"<!-- {name}:begin -->\noutdated\n<!-- {name}:end -->\n" for name in NAMES)


def rendered(text: str, records) -> str:
    return pages.fill(text, pages.make_blocks(records), "README.md")


@pytest.fixture
def made(make_record):
    second = [make_record("2", seed, (accuracy,) * 5) for seed, accuracy in enumerate((0.9930, 0.9932, 0.9931))]
    between = make_record("3a", accuracies=(0.9940,) * 5, kind="intermediate", change="half the way")
    third = [make_record("3", seed, (accuracy,) * 5) for seed, accuracy in enumerate((0.9950, 0.9951, 0.9952))]
    return [*second, between, *third]


@pytest.fixture
def evidence(root, made):
    """A notebook of evidence in a checkout with records and README."""
    records.write(made, root / "notebooks" / "records")
    (root / "README.md").write_text(TEXT)
    source = "import os, pathlib; pathlib.Path(os.environ['MNIST_LAB_RUNS'], 'a.png').write_bytes(b'figure')"
    path = root / "notebooks" / "evidence" / "a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source), new_code_cell("print('found')")]), path)
    return path


def test_blocks_are_written_from_the_records_and_prose_is_kept(made):
    text = rendered(TEXT, made)
    assert "outdated" not in text and "# title\nprose\n" in text
    assert "99.510 ± 0.010" in text
    shown = "seed 0: 99.50 % (3a half the way: 99.40 %), 50 of 10,000 test images misread."
    assert f"**Mean of 3 seeds:** 99.510 ± 0.010 %. The notebook shows {shown}" in text
    alone = rendered(TEXT, [one for one in made if one.seed == 0])
    assert f"**Result** of {shown}" in alone
    assert rendered(text, made) == text


def test_the_headline_has_five_columns_and_says_how_many_seeds_reach_the_target(made):
    (table,) = re.findall(r"<!-- headline:begin -->\n(.*?)<!-- headline:end", rendered(TEXT, made), re.DOTALL)
    head, _, second, between, third = table.splitlines()[:5]
    assert head == "| step | what changed | parameters | accuracy, % | seeds >= 99.40 % |"
    assert second.endswith("| 99.310\xa0±\xa00.010 | 0 of 3 |") and third.endswith("| 99.510\xa0±\xa00.010 | 3 of 3 |")
    assert between.startswith("| 3a | half the way |") and between.endswith("| 1 of 1 |")
    assert "After the last of 5 epochs" in table


def test_a_run_on_a_gpu_stands_below_its_steps_result(made, make_record):
    gpu = make_record("3", 0, (0.9951,) * 5, device_type="cuda", device="Tesla T4")
    text = rendered(TEXT, records.in_order([*made, gpu]))
    assert (
        text.index("Mean of 3 seeds") < text.index("**On a GPU:** Tesla T4, seed 0: 99.51 %") < text.index("step-3:end")
    )
    assert "Mean of 4 seeds" not in text
    assert "The notebook shows" not in text[text.index("step-3:begin") :] and "On a CPU, seed 0" in text


def test_many_seeds_on_a_gpu_are_one_line(made, make_record):
    gpu = [make_record("3", seed, (0.9951,) * 5, device_type="cuda", device="Tesla T4") for seed in range(3)]
    assert rendered(TEXT, records.in_order([*made, *gpu])).count("**On a GPU:**") == 1


def test_a_block_that_no_record_fills_is_an_error(made):
    with pytest.raises(LabError, match="block step-3"):
        rendered(TEXT, made[:3])


def test_evidence_is_executed_when_its_code_records_or_figures_change(root, evidence, made, make_record, capfd):
    pages.refresh(root)
    assert "executed anew: notebooks/evidence/a.ipynb" in capfd.readouterr().out
    assert (root / "README.md").read_text() == rendered(TEXT, made)
    assert (root / "images" / "a.png").read_bytes() == b"figure"
    assert notebooks.read(evidence).cells[1].outputs[0].text == "found\n"
    assert not list((root / "runs").iterdir())
    pages.refresh(root)
    assert capfd.readouterr().out == ""
    (root / "images" / "a.png").write_bytes(b"another")
    assert pages.is_stale(evidence, root)
    (root / "images" / "a.png").write_bytes(b"figure")
    assert not pages.is_stale(evidence, root)
    records.append(make_record("3", 9), root / "notebooks" / "records")
    assert pages.is_stale(evidence, root)


def test_a_figure_that_evidence_no_longer_draws_goes(root, evidence):
    pages.execute_in_place(evidence, root)
    notebook = notebooks.read(evidence)
    notebook.cells[0].source = notebook.cells[0].source.replace("a.png", "b.png")
    notebooks.write(notebook, evidence)
    assert pages.is_stale(evidence, root)
    pages.execute_in_place(evidence, root)
    assert [path.name for path in (root / "images").iterdir()] == ["b.png"]


def test_without_records_there_is_nothing_to_show(root):
    with pytest.raises(LabError, match="run them first"):
        pages.refresh(root)
