"""A workbook of the receptive fields of networks, in formulas that go on calculating, with a sheet to design on."""

import io
import re
import textwrap
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import xlsxwriter
from torch import nn
from xlsxwriter.exceptions import XlsxWriterException
from xlsxwriter.worksheet import Worksheet

from mnist_lab import LabError
from mnist_lab.fields.design_sheet import DESIGN, write_design
from mnist_lab.fields.gradient import measure_fields
from mnist_lab.fields.sheets import (
    FIRST,
    FORMATS,
    LAST,
    LETTER,
    OVERVIEW,
    SIZE,
    Column,
    Formats,
    down,
    set_up_page,
    total_line,
    values,
    write_table,
)
from mnist_lab.fields.trace import Row, trace
from mnist_lab.runtime import ROOT, write_whole

WORKBOOK = ROOT / "RF_calculations.xlsx"
Networks = Mapping[str, Callable[[], nn.Sequential]]  # what builds each, by the name of its sheet
MOVING = Column("moving", "pixels that move it, measured", 13, "")
NOTES = (
    "n is the height and width of the maps; j (jump), the distance between neighbouring units, and r (field), the "
    "width of what one unit can see, are in pixels of the image. Each layer takes what the row above it gives:",
    "n_out = floor((n_in + 2p - d(k - 1) - 1) / s) + 1          j_out = j_in s          r_out = r_in + d(k - 1) j_in",
    "first_out = first_in + (d(k - 1) / 2 - p) j_in, from 0 in the middle of the first pixel",
    "params = k² c_in c_out / g + b c_out          MACs = n_out² k² c_in c_out / g",
    "Norms, activations and dropout look at one place at a time and have no row; a norm's parameters are among the b "
    "of the layer before it. A pooling has no weights, and g is 0. A linear layer and a global average are kernels "
    "as large as what comes in.",
    "r may exceed the image: 'seen' is the part of it inside, for the unit in the middle of the maps. Beside it stands "
    "how many pixels move that unit in the network, measured by autograd; it turns red where the two differ, as it "
    "should when you change a blue number.",
)
SOURCE = "Araujo, Norris, Sim: Computing Receptive Fields of Convolutional Neural Networks. Distill 2019"
DOI = "https://doi.org/10.23915/distill.00021"


class WorkbookError(LabError):
    """The workbook cannot be made or written."""


def write_workbook(path: Path, networks: Networks, steps: Mapping[int, str]) -> None:
    """Write the workbook of ``networks`` to ``path``, whole or not at all; see :func:`make_workbook`.

    Raises WorkbookError if a network cannot be traced, has a name that no sheet can have, or the file cannot be
    written.
    """
    try:
        write_whole(path, make_workbook(networks, steps))
    except (OSError, ValueError, XlsxWriterException) as error:
        raise WorkbookError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def make_workbook(networks: Networks, steps: Mapping[int, str]) -> bytes:
    """Return the workbook of ``networks``, a sheet each; the same bytes every time.

    What is said of a network comes from the docstring of what builds it. ``steps`` names the network of each step.
    """
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        book.set_properties({"title": "Receptive fields", "created": datetime(2000, 1, 1)})  # not the time of writing
        formats = {name: book.add_format(style) for name, style in FORMATS.items()}
        overview = book.add_worksheet(OVERVIEW)
        built = {name: build() for name, build in networks.items()}
        traces = {name: trace(network, SIZE) for name, network in built.items()}
        write_overview(overview, formats, networks, traces, steps)
        for name, network in built.items():
            write_network(book.add_worksheet(name), formats, name, about(networks[name]), network, traces[name])
        write_design(book, formats)
    return content.getvalue()


def write_overview(
    sheet: Worksheet, formats: Formats, networks: Networks, traces: Mapping[str, list[Row]], steps: Mapping[int, str]
) -> None:
    """Write a line per network, taken from its sheet by formulas, and how to read the sheets."""
    heads = {
        "network": 18, "what it is": 62, "step": 9, "parameters": 12, "multiply-accumulates": 13, "field, pixels": 10,
        "measured agrees": 11,
    }  # fmt: skip
    sheet.write(0, 0, "Receptive fields", formats["title"])
    sheet.write(1, 0, "What one unit of each layer sees of the image, and what the layer costs. A sheet per network.")
    for place, (head, width) in enumerate(heads.items()):
        sheet.set_column(place, place, width)
        sheet.write(3, place, head, formats["name"])
    sheet.set_row(3, 34)
    sheet.freeze_panes(4, 1)
    for line, (name, rows) in enumerate(traces.items(), 4):
        total, text = total_line(rows), about(networks[name])
        seen, moving = f"'{name}'!{down('seen', rows)}", f"'{name}'!{LAST}{FIRST}:{LAST}{total_line(rows)}"
        cells = [
            ("link", f"internal:'{name}'!A1", name),
            ("text", text),
            ("figure", ", ".join(str(step) for step in steps if steps[step] == name) or "–"),
            ("figure", f"='{name}'!{LETTER['params']}{total + 1}", sum(row.parameters for row in rows)),
            ("figure", f"='{name}'!{LETTER['MACs']}{total + 1}", sum(row.multiply_accumulates for row in rows)),
            ("figure", f"='{name}'!{LETTER['r_out']}{total}", rows[-1].field_out),
            ("figure", f'=IF(SUMPRODUCT(--({seen}<>{moving}))=0,"yes","no")', "yes"),
        ]
        for place, (style, content, *shown) in enumerate(cells):
            sheet.write(line, place, content, formats[style], *shown)
        sheet.set_row(line, height(text, heads["what it is"]))
    line = 4 + len(traces)
    sheet.write(line, 0, f"internal:'{DESIGN}'!A1", formats["link"], DESIGN)
    sheet.write(line, 1, "Type layers, and watch the field grow and the budget shrink.", formats["text"])
    line += 1
    for note in NOTES:
        line += 1
        sheet.merge_range(line, 0, line, len(heads) - 1, note, formats["text"])
        sheet.set_row(line, height(note, sum(heads.values())) + 5)
    sheet.write(line + 2, 0, "Blue numbers are typed in, black ones are formulas, grey ones measured.")
    sheet.write(line + 3, 0, DOI, formats["link"], SOURCE)
    set_up_page(sheet)
    sheet.fit_to_pages(1, 1)


def write_network(
    sheet: Worksheet, formats: Formats, name: str, text: str, network: nn.Sequential, rows: list[Row]
) -> None:
    """Write the sheet of a network, and beside what its units see how many pixels move them."""
    widths = [last - first + 1 for first, last in measure_fields(network, SIZE)]
    cells = [values(row) | {"moving": width} for row, width in zip(rows, widths, strict=True)]
    write_table(sheet, formats, name, text, rows, MOVING, cells)
    sheet.write(f"{LETTER['r_out']}3", "grey: measured on the network by autograd", formats["measured"])
    differs = {"type": "formula", "criteria": f"={LAST}{FIRST}<>{LETTER['seen']}{FIRST}", "format": formats["wrong"]}
    sheet.conditional_format(f"{LAST}{FIRST}:{LAST}{total_line(rows)}", differs)


def height(text: str, width: float) -> float:
    """Return how high a row must be, in points, for ``text`` to wrap in cells ``width`` characters wide."""
    return 15 * len(textwrap.wrap(text, round(0.95 * width)) or [""])


def about(build: Callable) -> str:
    """Return the first paragraph of a docstring, on one line, without a count of parameters at its end."""
    text = " ".join((build.__doc__ or "").strip().partition("\n\n")[0].split())
    return re.sub(r" [\d,]+ parameters\.$", "", text)
