"""A run on a machine where much is different: no result shows it."""

import contextlib
import io
import os
import subprocess
import sys

from mnist_lab.evidence import figures, records
from mnist_lab.publishing import headless

# In every process: what Windows lacks, as far as other libraries can do without it here.
SITECUSTOMIZE = """
import builtins, os, signal
for module, name in ((os, "fork"), (os, "sched_getaffinity"), (signal, "SIGHUP"), (signal, "SIGPIPE")):
    delattr(module, name)
real = builtins.__import__
def guarded(name, globals=None, *rest, **more):
    if name in ("fcntl", "grp", "pwd", "resource", "termios") and "mnist_lab" in (globals or {}).get("__name__", ""):
        raise ModuleNotFoundError(name)
    return real(name, globals, *rest, **more)
builtins.__import__ = guarded
"""
# Imports every module, runs the steps, and draws a figure as one would by hand.
PROGRAM = """
import argparse, importlib, os, pkgutil, sys
from pathlib import Path
import mnist_lab
from mnist_lab import cli
from mnist_lab.publishing import commands
for module in pkgutil.walk_packages(mnist_lab.__path__, "mnist_lab."):
    importlib.import_module(module.name)
root = Path(sys.argv[1])
parser = argparse.ArgumentParser()
commands.add_commands(parser.add_subparsers())
options = parser.parse_args(["run", "-p", "DATA", "digits"])
command = argparse.ArgumentParser()
command.set_defaults(command=lambda _: commands.run(options, root))
os.environ["PYTHONINSPECT"] = "1"  # would have this process, too, ask for a command at its end
code = cli.main([], command)
del os.environ["PYTHONINSPECT"]
from mnist_lab.data import load_digits_sample
from mnist_lab.evidence import figures
figures.show(figures.sample_grid(load_digits_sample().train, "samples", rows=1), root / "by-hand.png")
sys.exit(code)
"""
# Says what a network computes, to the last digit. Where a library is imported late, its import is told if it is to be.
NUMBERS = """import ast, torch, xml.sax
from mnist_lab.models import build
from mnist_lab.runtime import make_repeatable
make_repeatable(0, threads=2)
loss = torch.nn.functional.cross_entropy(build("CompactNet")(torch.randn(50, 1, 28, 28)), torch.arange(50) % 10)
loss.backward()
print(loss.item().hex(), torch.get_num_threads())"""
SAYING_MORE = {"ONEDNN_VERBOSE": "1", "MKL_VERBOSE": "1", "TORCH_CPP_LOG_LEVEL": "INFO", "OMP_DISPLAY_ENV": "true"}
SAYING_MORE |= {"PYTHONPROFILEIMPORTTIME": "1", "PYTHONWARNINGS": "always"}
COMPUTING_OTHERWISE = {"DNNL_MAX_CPU_ISA": "SSE41", "ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}
COMPUTING_OTHERWISE |= {"OMP_NUM_THREADS": "3", "OMP_THREAD_LIMIT": "1", "OMP_DYNAMIC": "true"}
PERSONAL = {  # files of a home
    ".config/matplotlib/matplotlibrc": "font.size: 20\nsavefig.facecolor: red\nsavefig.bbox: tight\nimage.cmap: jet\n"
    "text.color: green\nfigure.dpi: 30\nno.such.key: 1\n",
    ".ipython/profile_default/startup/00.py": "mine = 1; print('hello')",
    ".ipython/profile_default/ipython_config.py": "c.InlineBackend.figure_formats = {'svg'}\n"
    "c.InteractiveShellApp.exec_lines = ['import no_such_module']",
    ".jupyter/kernels/python3/kernel.json": '{"argv": ["false"], "display_name": "", "language": "python"}',
    ".pythonrc": "mine = 1",
    ".site/sitecustomize.py": SITECUSTOMIZE,
}


def test_a_run_is_the_same_on_another_machine(root, write_step, make_record, digits, tmp_path):
    line = records.as_line(make_record("1", data="digits sample, not MNIST")).decode()
    write_step(
        1,
        "%matplotlib inline\nfrom mnist_lab.data import load_digits_sample\nfrom mnist_lab.evidence import figures\n"
        "from mnist_lab.runtime import run_folder",
        "figures.show(figures.sample_grid(load_digits_sample().train, 'samples', rows=1), run_folder() / 'figure.png')",
        "print('±', __debug__, 'mine' in globals())",
        NUMBERS,
        f"folder = run_folder() / 'steps'\nfolder.mkdir()\nsize = (folder / '1.jsonl').write_text({line!r})",
    )
    lab = root.rename(tmp_path / "ein Labor für é")
    home, temporary = tmp_path / "home", tmp_path / f"a {'long ' * 20}"  # too long for the path of a socket
    temporary.mkdir()
    for name, text in PERSONAL.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text, encoding="utf-8")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL", "PYTHON"))}
    variables |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join([str(home / ".site"), *sys.path])}
    variables |= SAYING_MORE | {"PYTHONSTARTUP": str(home / ".pythonrc")} | COMPUTING_OTHERWISE
    variables |= {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONHASHSEED": "7"}
    variables |= {"MPLBACKEND": "Agg", "TMPDIR": str(temporary), "TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "0"}
    variables |= {"JUPYTER_PATH": str(home / ".jupyter"), "JUPYTER_PREFER_ENV_PATH": "0"}
    program = [sys.executable, "-c", PROGRAM, str(lab)]
    done = subprocess.run(
        program, cwd=tmp_path, env=variables, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, umask=0o077
    )
    said = done.stdout.decode("ascii")
    assert done.returncode == 0 and "Traceback" not in done.stderr.decode(), done.stderr.decode()
    assert "digits sample, not MNIST; mean ? standard" in " ".join(said.split())  # the table, as far as ASCII goes

    (folder,) = (path.parent for path in lab.glob("runs/*/batch.json"))
    notebook = headless.read(folder / "01_trial.ipynb")
    outputs = [output for cell in headless.code_cells(notebook) for output in cell.outputs]
    names: dict = {}
    with contextlib.redirect_stdout(io.StringIO()) as expected:
        exec(NUMBERS, names)
    assert [output.text for output in outputs if output.output_type == "stream"] == [
        "± True False\n", expected.getvalue()
    ]  # fmt: skip
    assert [set(output.data) for output in outputs if "data" in output] == [{"image/png", "text/plain"}]
    figures.show(figures.sample_grid(digits.train, "samples", rows=1), tmp_path / "here.png")
    here = (tmp_path / "here.png").read_bytes()
    assert (folder / "figure.png").read_bytes() == here
    assert (lab / "by-hand.png").read_bytes() == here
