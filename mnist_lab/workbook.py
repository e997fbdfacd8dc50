"""RF_calculations.xlsx: the receptive fields of every network, and a sheet on which to design one's own."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import xlsxwriter
from torch import nn
from xlsxwriter.exceptions import XlsxWriterException
from xlsxwriter.worksheet import Worksheet

from mnist_lab.atomic import write_whole
from mnist_lab.field_sheet import (
    FORMATS,
    IMAGE,
    LETTER,
    OVERVIEW,
    Formats,
    set_up_page,
    total_line,
    write_heading,
    write_table,
)
from mnist_lab.input_gradient import measure_fields
from mnist_lab.models import MODELS, build
from mnist_lab.receptive_field import Row, trace
from mnist_lab.runner import RunError, Step
from mnist_lab.runtime import ROOT

WORKBOOK = ROOT / "RF_calculations.xlsx"
SIZE = 28  # pixels across an image of MNIST
DESIGN, DESIGN_ROWS = "Design your own", 20

# What one may type into the design sheet: the least whole number, and what is said about it.
TYPED = {
    "c_out": (1, "Channels that leave the layer. Blank: as many as come in."),
    "g": (1, "1: a full convolution. As many as channels in: depthwise. Blank: a pooling, which has no weights."),
    "b": (0, "Parameters per channel besides the weights: 1 for a bias, 2 for a batch norm. Blank: none."),
    "k": (1, "Width of the kernel. Blank: no layer here; everything is passed on."),
    "s": (1, "Units from one position of the kernel to the next. Blank: 1."),
    "p": (0, "Rows of zeros added on each side. Blank: none."),
    "d": (1, "Distance between the units that the kernel touches. Blank: 1."),
}
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


def write_workbook(path: Path, steps: Sequence[Step]) -> None:
    """Write the workbook to ``path``, whole or not at all.

    Raises RunError if a network cannot be traced, has a name that no sheet can have, or the file cannot be written.
    """
    try:
        write_whole(path, make_workbook(steps))
    except (OSError, ValueError, XlsxWriterException) as error:
        raise RunError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def make_workbook(steps: Sequence[Step]) -> bytes:
    """Return the workbook of every network in MODELS and of the ``steps`` that use it; the same bytes every time."""
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        book.set_properties({"title": "Receptive fields", "created": datetime(2000, 1, 1)})  # not the time of writing
        formats = {name: book.add_format(style) for name, style in FORMATS.items()}
        overview = book.add_worksheet(OVERVIEW)
        networks = {name: build(name) for name in MODELS}
        traces = {name: trace(network, SIZE) for name, network in networks.items()}
        users = {step.number: step.defaults().get("MODEL") for step in steps}
        write_overview(overview, formats, traces, users)
        for name, network in networks.items():
            write_network(book.add_worksheet(name), formats, name, traces[name], measure_fields(network, SIZE))
        write_design(book, formats)
    return content.getvalue()


def write_overview(
    sheet: Worksheet, formats: Formats, traces: Mapping[str, Sequence[Row]], users: Mapping[int, str]
) -> None:
    """Write a line per network, taken from its sheet by formulas, and how to read the sheets.

    ``users`` says which model each step uses.
    """
    sheet.write(0, 0, "Receptive fields", formats["title"])
    sheet.write(1, 0, "What one unit of each layer sees of the image, and what the layer costs. A sheet per network.")
    heads = {
        "network": 18, "what it is": 62, "step": 9, "parameters": 12, "multiply-accumulates": 13, "field, pixels": 10,
        "measured agrees": 11,
    }  # fmt: skip
    for place, (head, width) in enumerate(heads.items()):
        sheet.set_column(place, place, width)
        sheet.write(3, place, head, formats["name"])
    sheet.set_row(3, 34)
    sheet.freeze_panes(4, 1)
    for line, (name, rows) in enumerate(traces.items(), 4):
        total = total_line(rows)
        sheet.write_url(line, 0, f"internal:'{name}'!A1", formats["link"], name)
        sheet.write(line, 1, about(name), formats["text"])
        sheet.set_row(line, height(about(name), 62))
        sheet.write(line, 2, ", ".join(str(step) for step in users if users[step] == name) or "–", formats["figure"])
        figures = [
            (f"{LETTER['params']}{total + 1}", sum(row.parameters for row in rows)),
            (f"{LETTER['MACs']}{total + 1}", sum(row.multiply_accumulates for row in rows)),
            (f"{LETTER['r_out']}{total}", rows[-1].field_out),
        ]
        for place, (cell, value) in enumerate(figures, 3):
            sheet.write_formula(line, place, f"='{name}'!{cell}", formats["figure"], value)
        seen, moving = (
            f"'{name}'!{LETTER[symbol]}{IMAGE + 2}:{LETTER[symbol]}{total}" for symbol in ("seen", "moving")
        )
        agrees = f'=IF(SUMPRODUCT(--({seen}<>{moving}))=0,"yes","no")'
        sheet.write_formula(line, 6, agrees, formats["figure"], "yes")
    line = 4 + len(traces)
    sheet.write_url(line, 0, f"internal:'{DESIGN}'!A1", formats["link"], DESIGN)
    sheet.write(line, 1, "Type kernels and strides, and watch the field grow.", formats["text"])
    line += 1
    for note in NOTES:
        line += 1
        sheet.merge_range(line, 0, line, len(heads) - 1, note, formats["text"])
        sheet.set_row(line, height(note, sum(heads.values())) + 5)
    sheet.write(line + 2, 0, "Blue numbers are typed in, black ones are formulas, grey ones measured.")
    sheet.write_url(line + 3, 0, DOI, formats["link"], SOURCE)
    set_up_page(sheet)
    sheet.fit_to_pages(1, 1)


def height(text: str, width: float) -> float:
    """Return how high a row must be, in points, for ``text`` to wrap in cells ``width`` characters wide."""
    return 15 * len(textwrap.wrap(text, round(0.95 * width)) or [""])


def write_network(
    sheet: Worksheet, formats: Formats, name: str, rows: Sequence[Row], spans: Sequence[tuple[int, int]]
) -> None:
    """Write a network's sheet: its trace, with what autograd measured beside it."""
    write_heading(sheet, formats, name, about(name))
    sheet.write(f"{LETTER['r_out']}3", "grey: measured on the network by autograd", formats["measured"])
    write_table(sheet, formats, rows, SIZE, [last - first + 1 for first, last in spans])
    moving, seen, first = LETTER["moving"], LETTER["seen"], IMAGE + 2
    differs = {"type": "formula", "criteria": f"={moving}{first}<>{seen}{first}", "format": formats["wrong"]}
    sheet.conditional_format(f"{moving}{first}:{moving}{total_line(rows)}", differs)


def write_design(book: xlsxwriter.Workbook, formats: Formats) -> None:
    """Write the sheet to type into: a few layers as an example, blank rows, and a chart of the field."""
    sheet = book.add_worksheet(DESIGN)
    rows = [replace(row, position=index) for index, row in enumerate(trace(example(), SIZE))]
    while len(rows) < DESIGN_ROWS:
        rows.append(pass_on(rows[-1]))
    write_heading(
        sheet, formats, DESIGN, "Change anything blue. Rows without a kernel, in pale grey, pass on what they get."
    )
    write_table(sheet, formats, rows, SIZE)
    total = total_line(rows)
    first, kernel = IMAGE + 2, LETTER["k"]
    for symbol, (least, text) in TYPED.items():
        rule = {"validate": "integer", "criteria": ">=", "value": least, "input_title": symbol, "input_message": text}
        rule |= {"error_title": symbol, "error_message": f"A whole number, at least {least}, or nothing. {text}"}
        sheet.data_validation(f"{LETTER[symbol]}{first}:{LETTER[symbol]}{total}", rule)
    for symbol in ("c_out", "n_out"):  # of the image
        sheet.data_validation(f"{LETTER[symbol]}{IMAGE + 1}", {"validate": "integer", "criteria": ">=", "value": 1})
    table = f"A{first}:{LETTER['seen']}{total}"
    blank = {"type": "formula", "criteria": f'=${kernel}{first}=""', "format": formats["pale"], "stop_if_true": True}
    sheet.conditional_format(table, blank)
    sizes = f"{LETTER['n_out']}{first}:{LETTER['n_out']}{total}"
    sheet.conditional_format(sizes, {"type": "cell", "criteria": "<", "value": 1, "format": formats["wrong"]})
    lowest = f'=IF(MIN({sizes})<1,"A kernel is larger than what comes in.","")'
    sheet.write_formula(f"{LETTER['n_out']}3", lowest, formats["warning"], "")
    write_chart(book, sheet, formats, rows)


def write_chart(book: xlsxwriter.Workbook, sheet: Worksheet, formats: Formats, rows: Sequence[Row]) -> None:
    """Draw the fields of the rows that have a kernel, from a column of their own beside the table."""
    first, total = IMAGE + 2, total_line(rows)
    charted = LETTER["moving"]  # free on this sheet
    sheet.write(f"{charted}{IMAGE}", "charted", formats["pale"])
    for line, row in enumerate(rows, first):
        text = f'=IF({LETTER["k"]}{line}="","",{LETTER["r_out"]}{line})'
        sheet.write_formula(f"{charted}{line}", text, formats["pale"], row.field_out if row.kind else "")
    chart = book.add_chart({"type": "column"})
    columns = {"values": f"='{DESIGN}'!${charted}${first}:${charted}${total}", "fill": {"color": "#1F3864"}, "gap": 60}
    columns["categories"] = f"='{DESIGN}'!$B${first}:$B${total}"
    chart.add_series(columns)
    chart.set_title({"name": "Receptive field, pixels", "name_font": {"size": 12, "bold": False}})
    chart.set_legend({"none": True})
    chart.set_y_axis({"min": 0, "major_gridlines": {"visible": True, "line": {"color": "#D9D9D9"}}})
    chart.set_size({"width": 1200, "height": 280})
    sheet.insert_chart(total + 2, 1, chart)


def example() -> nn.Sequential:
    """Return the small network that the design sheet starts with."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.Conv2d(8, 16, 3),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 10, 1),
        nn.AvgPool2d(12),
    )


def pass_on(row: Row) -> Row:
    """Return the blank row after ``row``: a kernel of one unit, without weights."""
    return replace(
        row, position=row.position + 1, kind="", kernel=1, stride=1, padding=0, dilation=1, groups=0, per_channel=0,
        size_in=row.size_out, channels_in=row.channels_out, jump_in=row.jump_out, field_in=row.field_out,
        parameters=0, multiply_accumulates=0,
    )  # fmt: skip


def about(name: str) -> str:
    """Return the first paragraph of a network's docstring."""
    return " ".join((MODELS[name].__doc__ or "").strip().partition("\n\n")[0].split())
