"""The shape of the package: modules in layers, each importing only from those above it."""

import ast
from pathlib import Path

import pytest

import mnist_lab
from mnist_lab.runtime import ROOT

PACKAGE = Path(mnist_lab.__file__).parent
LAYERS = (
    "atomic",
    "runtime", "data", "batches", "augment", "published.distortions", "per_image",
    "published.series_a", "published.series_b", "published.series_c", "published.series_d", "published.series_e",
    "models", "stack", "receptive_field", "input_gradient", "summary", "training", "cuda_graph",
    "published.recipes", "published.claims", "recipe",
    "search.networks", "search.distortions", "search.muon", "search.candidates", "experiment",
    "records", "uncertainty", "results", "gpu_comparison", "tables",
    "published.tables", "published.repairs", "search.tables",
    "benchmark", "plots", "study_plots", "published.plots", "search.plots", "readme",
    "runner", "study", "field_sheet", "workbook", "executed", "publish",
    "sweep", "published.reproduction", "search.screening",
    "cloud.errors", "cloud.settings", "cloud.bundle", "cloud.script", "cloud.policy", "cloud.account", "cloud.instance",
    "cloud.runs", "cloud.deployment", "cloud.gpu", "cloud.gpu_results", "cloud.doctor", "cloud.session", "cloud.verbs",
    "cloud.cleanup", "cloud.preview", "cloud.commands", "cloud.flow",
    "commands", "cli",
)  # fmt: skip


def file_of(module: str) -> Path:
    """Return where a module is."""
    return PACKAGE / f"{module.replace('.', '/')}.py"


def siblings(path: Path) -> set[str]:
    """Return the modules of the package that ``path`` imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        assert not getattr(node, "level", 0), "imports name their module in full"
        if isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    found = {name.removeprefix("mnist_lab.") for name in names if name.startswith("mnist_lab.")}
    return {name for name in found if file_of(name).is_file()}


def test_every_module_has_its_place():
    modules = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py") if path.stem != "__init__"]
    assert sorted(LAYERS) == sorted(".".join(module.parts) for module in modules)


def test_imports_are_seen():
    assert siblings(PACKAGE / "cloud" / "gpu.py") == {"runtime"}
    assert {"commands", "runner", "cloud.commands", "cloud.errors"} <= siblings(PACKAGE / "cli.py")


@pytest.mark.parametrize("module", LAYERS)
def test_imports_point_one_way(module):
    assert siblings(file_of(module)) <= set(LAYERS[: LAYERS.index(module)])


@pytest.mark.parametrize("module", LAYERS)
def test_a_module_is_short_has_a_docstring_and_a_test(module):
    text = file_of(module).read_text()
    assert len(text.splitlines()) <= 250
    assert ast.get_docstring(ast.parse(text))
    assert (ROOT / "tests" / f"test_{module.replace('.', '_')}.py").is_file()


@pytest.mark.parametrize("module", LAYERS)
def test_public_names_have_docstrings(module):
    nodes = ast.parse(file_of(module).read_text()).body
    public = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_the_readme_maps_every_module_in_the_order_of_the_layers():
    text = (ROOT / "README.md").read_text()
    places = [text.index(f"[`{module}`](mnist_lab/{module.replace('.', '/')}.py)") for module in LAYERS]
    assert places == sorted(places)
