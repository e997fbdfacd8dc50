"""``mnist-lab predict``, ``draw`` and ``export``."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_lab import LabError
from mnist_lab.options import UsageError, add_json

if TYPE_CHECKING:
    from mnist_lab.use.reading import Reading

ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def add_commands(verbs: argparse._SubParsersAction) -> None:
    """Add the commands of this room to the command line's subparsers."""
    about = "read the digits in pictures"
    read = verbs.add_parser(
        "predict",
        help=about,
        description=f"{about.capitalize()}, drawn or photographed, several from left to right. Exit code 1 says that a "
        "picture could not be read; what can be read is read all the same.",
    )
    read.add_argument("pictures", nargs="+", metavar="FILE", help="a picture, a folder of them, or - for stdin")
    read.add_argument("--show", action="store_true", help="draw what the network saw")
    add_json(read)
    add_weights(read)
    read.set_defaults(command=predict)

    about = "write the page that reads digits as you draw them, one HTML file, and open it"
    page = verbs.add_parser("draw", help=about, description=f"{about[0].upper()}{about[1:]}.")
    page.add_argument(
        "--out", type=Path, default=Path("draw.html"), metavar="FILE", help="where to (default: draw.html)"
    )
    add_weights(page)
    page.add_argument(
        "--open", action=argparse.BooleanOptionalAction, help="open it in a browser (default: where a person asks)"
    )
    page.set_defaults(command=draw)

    about = "write the network for other programs"
    write = verbs.add_parser(
        "export",
        help=about,
        description=f"{about.capitalize()}: ONNX, or a C header of 8-bit integers with a program around it. Where "
        "MNIST is at hand, all its test images are read both ways and compared.",
    )
    write.add_argument("form", choices=("onnx", "c"))
    write.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where to (default: this folder)")
    add_weights(write)
    write.add_argument("--check", action="store_true", help="fail where the comparison cannot be made")
    write.add_argument("--data", type=Path, metavar="FOLDER", help="folder that holds MNIST/raw/; only read")
    write.set_defaults(command=export)


def add_weights(command: argparse.ArgumentParser) -> None:
    """Add --weights."""
    command.add_argument("--weights", type=Path, metavar="FILE", help="another network than the published one")


def predict(options: argparse.Namespace) -> int:
    """Read pictures, and print what is in them; 1 if one could not be read."""
    from mnist_lab import use
    from mnist_lab.use.reading import doubt, read

    network = use.load(options.weights)
    if said := doubt(network):
        print(f"note: {said}", file=sys.stderr)
    pictures, failed, said = find_pictures(options.pictures), False, []
    for picture in pictures:
        try:
            found = read(network, sys.stdin.buffer.read() if picture == "-" else Path(picture))
        except (LabError, OSError) as error:
            failed, found = True, getattr(error, "strerror", None) or str(error)
        said.append(as_json(picture, found))
        if not options.json:
            show(picture, found, options.show)
    if options.json:
        print(json.dumps(said, indent=1))
    return int(failed)


def find_pictures(names: list[str]) -> list[str]:
    """Return ``names`` with each folder replaced by its pictures. Raises UsageError for a folder without any."""
    found = []
    for name in names:
        if name != "-" and Path(name).is_dir():
            inside = sorted(path for path in Path(name).iterdir() if path.suffix.lower() in ENDINGS)
            if not inside:
                raise UsageError(f"there is no picture in the folder {name}: name a file, or a folder that holds some")
            found += map(str, inside)
        else:
            found.append(name)
    return found


def show(picture: str, found: "list[Reading] | str", drawn: bool) -> None:
    """Print what was found in a picture, or on stderr why nothing was."""
    name = "stdin" if picture == "-" else picture
    if isinstance(found, str):
        print(f"error: {name}: {found}", file=sys.stderr)
        return
    lines = [reading.describe() for reading in found]
    if len(found) == 1:
        print(f"{name}: {lines[0]}")
    else:
        print(f"{name}: {''.join(reading.digit for reading in found)}", *lines, sep="\n    ")
    if drawn:
        print(*(reading.draw() for reading in found), sep="\n")


def as_json(picture: str, found: "list[Reading] | str") -> dict[str, object]:
    """Return what was found in a picture for JSON."""
    if isinstance(found, str):
        return {"file": picture, "error": found}
    names = ("digit", "probability", "second", "second_probability", "sure", "box")
    return {"file": picture, "digits": [{name: getattr(reading, name) for name in names} for reading in found]}


def draw(options: argparse.Namespace) -> int:
    """Write the drawing page, and open it where a person sits at a terminal, or where --open asks for it."""
    import webbrowser

    from mnist_lab import use
    from mnist_lab.use.page import render
    from mnist_lab.use.reading import load_confidence

    page = render(use.load(options.weights), load_confidence().sure_from)
    options.out.write_text(page, encoding="utf-8", newline="\n")
    print(f"written: {options.out}")
    wanted = sys.stdout.isatty() if options.open is None else options.open
    if wanted and not webbrowser.open(options.out.resolve().as_uri()):
        print("No browser could be started: open the file in one yourself.")
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a network for other programs, and compare what it reads there with what it reads here."""
    from mnist_lab import use
    from mnist_lab.use import export

    return export.run(options.form, use.load(options.weights), options.out, options.data, must_check=options.check)
