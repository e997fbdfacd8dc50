"""The shape of the package: modules in layers, each importing only from those above it."""

import ast
from pathlib import Path

import pytest

import mnist_lab
from mnist_lab.runtime import ROOT

PACKAGE = Path(mnist_lab.__file__).parent
LAYERS = (
    "runtime", "data", "batches", "augment", "per_image", "series_a", "series_b", "series_c", "series_d", "series_e",
    "models", "stack", "receptive_field", "input_gradient", "summary", "training", "cuda_graph", "recipe", "experiment",
    "records", "results", "benchmark", "plots", "readme", "runner", "study", "field_sheet", "workbook", "atomic",
    "publish", "commands", "cli",
)  # fmt: skip


def siblings(path: Path) -> set[str]:
    """Return the modules of the package that ``path`` imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        assert not getattr(node, "level", 0), "imports name their module in full"
        if isinstance(node, ast.ImportFrom) and node.module == "mnist_lab":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mnist_lab."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("mnist_lab.")}
    return found


def test_every_module_has_its_place():
    assert sorted(LAYERS) == sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", LAYERS)
def test_imports_point_one_way(module):
    assert siblings(PACKAGE / f"{module}.py") <= set(LAYERS[: LAYERS.index(module)])


@pytest.mark.parametrize("module", LAYERS)
def test_a_module_is_short_has_a_docstring_and_a_test(module):
    text = (PACKAGE / f"{module}.py").read_text()
    assert len(text.splitlines()) <= 250
    assert ast.get_docstring(ast.parse(text))
    assert (ROOT / "tests" / f"test_{module}.py").is_file()


@pytest.mark.parametrize("module", LAYERS)
def test_public_names_have_docstrings(module):
    nodes = ast.parse((PACKAGE / f"{module}.py").read_text()).body
    public = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_the_readme_maps_every_module_in_the_order_of_the_layers():
    text = (ROOT / "README.md").read_text()
    places = [text.index(f"[`{module}`](mnist_lab/{module}.py)") for module in LAYERS]
    assert places == sorted(places)
