"""The real step notebooks, executed once on the sample of digits."""

import json

from mnist_lab.evidence import records
from mnist_lab.publishing import batch, headless
from mnist_lab.publishing.notebooks import find_steps


def test_all_step_notebooks_run_headless_side_by_side(tmp_path, capfd):
    steps = find_steps()
    parameters = {"EPOCHS": 1, "TRAIN_LIMIT": 1000, "DATA": "digits"}
    state = batch.State([step.number for step in steps], parameters, "", [])
    batch.conduct(tmp_path, state, processes=2)
    said = capfd.readouterr().out
    found = records.load(tmp_path)
    assert [record.name for record in found] == ["1", "2a", "2", "3a", "3b", "3"]
    assert {record.data for record in found} == {"digits sample, not MNIST"}
    for step in steps:
        executed = headless.read(tmp_path / step.path.name)
        outputs = [output for cell in headless.code_cells(executed) for output in cell.outputs]
        assert not [output.text for output in outputs if output.get("name") == "stderr"]
        assert f"[{step.number}] epoch  1/1" in said
        pictures = [output for output in outputs if "image/png" in output.get("data", {})]
        assert len(pictures) == len(list(tmp_path.glob(f"{step.path.name[:2]}_*.png"))) >= 3
        if step.number > 1:  # compared with this run's result of the step before, not with the tracked one
            tables = [output.data["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]
            assert any(f"| {step.number - 1} |" in table for table in tables)
    page = batch.write_overview(tmp_path, state).read_text()
    assert "digits sample, not MNIST" in page and "03_learning_curves.png" in page
    assert sorted(json.loads((tmp_path / "batch.json").read_text())["done"]) == state.steps
