"""The shape of the package: a small core, and rooms that import in one direction."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_lab
from mnist_lab.cli import ROOMS
from mnist_lab.runtime import ROOT

PACKAGE = Path(mnist_lab.__file__).parent
ALWAYS = ("runtime", "data", "batches", "augment", "models", "training", "recipe", "experiment")  # loaded by a run
CORE = (*ALWAYS, "capacity", "download", "writers")
BYTES = ("os.open", "tarfile.open", "Image.open", "webbrowser.open")  # that open no text
LIGHT = {"options", ""}  # of the command line; "" is the package itself, which holds LabError

# What the modules of a place may import, besides those of the same place.
ALLOWED = {
    "core": set(),
    "fields": {"core"},
    "speed": {"core"},
    "evidence": {"core", "fields"},
    "studies": {"core", "fields", "evidence", "speed"},
    "analysis": {"core", "fields", "evidence", "speed", "studies", "use"},
    "use": {"core"},
    "publishing": {"core", "fields", "evidence", "use"},
    "cloud": {"core", "evidence", "publishing"},
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.stem not in ("cli", "options"))


def place_of(module: str) -> str:
    """Return the room of a module named from the package down, as in "fields.trace", or "core"."""
    first = module.partition(".")[0]
    return "core" if first in CORE else first


def name_of(path: Path) -> str:
    """Return the name of the module in ``path``, from the package down."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(source: str) -> set[str]:
    """Return the modules of the package that ``source`` imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name their module in full"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if (PACKAGE.parent / (name.replace(".", "/") + ".py")).is_file() else node.module
                      for name in inside}  # fmt: skip
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("mnist_lab").removeprefix(".") for name in found if name.split(".")[0] == "mnist_lab"}


def test_imports_are_seen():
    source = (
        "from mnist_lab import data\ndef f():\n    from mnist_lab.fields.trace import trace\n    import mnist_lab.cli"
    )
    assert imported(source) == {"data", "fields.trace", "cli"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_in_one_direction(path):
    here = place_of(name_of(path)) if name_of(path) else "core"
    places = {place_of(module) for module in imported(path.read_text("utf-8")) if module not in LIGHT}
    assert places <= ALLOWED[here] | {here}


def test_the_search_and_the_published_series_do_not_know_each_other():
    for room, other in (("search", "others"), ("others", "search")):
        for path in (PACKAGE / "studies" / room).glob("*.py"):
            assert not [name for name in imported(path.read_text("utf-8")) if name.startswith(f"studies.{other}")]


def test_every_room_adds_its_commands():
    assert set(ROOMS) == {path.parent.name for path in PACKAGE.glob("*/commands.py")}


def loaded_by(statement: str) -> list[Path]:
    """Return the files of the package, but for empty ``__init__`` files, that a new interpreter loads for it."""
    code = (
        f"{statement}\nimport sys, json\nprint(json.dumps([m.__file__ for n, m in sys.modules.items() "
        "if n.startswith('mnist_lab') and getattr(m, '__file__', None)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in map(Path, json.loads(done.stdout.splitlines()[-1])) if path.stem != "__init__"]


def test_the_core_is_small():
    files = loaded_by("from mnist_lab import experiment")
    assert {path.stem for path in files} == set(ALWAYS)
    assert sum(len(path.read_text("utf-8").splitlines()) for path in files) <= 1300


def test_a_step_notebook_needs_few_modules():
    notebook = json.loads((ROOT / "notebooks" / "03_augmentation_onecycle.ipynb").read_text("utf-8"))
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    lines = [line for line in code.splitlines() if not line.startswith("%")]
    tree = ast.parse("\n".join(lines))
    imports = "\n".join(ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))
    places = [place_of(name_of(path)) for path in loaded_by(imports)]
    assert len(places) - places.count("use") <= 16  # which the last cells enter
    assert set(places) <= {"core", "fields", "evidence", "use"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_text_is_read_and_written_as_utf8(path):
    """Not as a locale has it: a call that handles text names its encoding."""
    for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
        name, words = ast.unparse(call.func), {word.arg for word in call.keywords}
        handles_text = name.endswith((".read_text", ".write_text")) and name != "found.read_text"  # of importlib
        if name.rpartition(".")[2] == "open" and name not in BYTES:
            handles_text = not any("b" in str(one.value) for one in call.args if isinstance(one, ast.Constant))
        elif name.startswith("subprocess."):
            handles_text = bool(words & {"text", "universal_newlines"})
        assert not handles_text or "encoding" in words, f"line {call.lineno}"


@pytest.mark.parametrize("path", [path for path in MODULES if path.stem != "__init__"], ids=name_of)
def test_modules_and_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text("utf-8"))
    public = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"]
    assert ast.get_docstring(tree)
    assert [node.name for node in public if not ast.get_docstring(node)] == []
