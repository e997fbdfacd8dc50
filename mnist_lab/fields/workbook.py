"""A workbook of the receptive fields of networks, in formulas that go on calculating, with a sheet to design on."""

import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import xlsxwriter
from torch import nn
from xlsxwriter.exceptions import XlsxWriterException
from xlsxwriter.format import Format
from xlsxwriter.utility import xl_col_to_name
from xlsxwriter.worksheet import Worksheet

from mnist_lab import LabError
from mnist_lab.fields.gradient import measure_fields
from mnist_lab.fields.trace import Row, trace
from mnist_lab.runtime import ROOT, write_whole

WORKBOOK = ROOT / "RF_calculations.xlsx"
SIZE = 28  # pixels across an image of MNIST
OVERVIEW = "Overview"  # the sheet that links to the others
DESIGN, DESIGN_ROWS = "Design your own", 20
IMAGE = 5  # the row of the image, counted from 0: names and symbols stand above it, layers below
FIRST = IMAGE + 2  # the row of the first layer, counted from 1, as in the names of cells
Formats = Mapping[str, Format]
Networks = Mapping[str, Callable[[], nn.Sequential]]  # what builds each, by the name of its sheet


@dataclass(frozen=True)
class Column:
    """A column of the table. Its formula names columns in braces, with ^ in the row above; none: it is typed in."""

    symbol: str
    name: str
    width: float  # characters
    shows: str  # an attribute of trace.Row; empty for what needs more than one, see values
    formula: str = ""


COLUMNS = (
    Column("#", "layer", 6, "position"),
    Column("type", "kind of layer", 19, "kind"),
    Column("c_in", "channels in", 9.5, "channels_in", "{^c_out}"),
    Column("c_out", "channels out", 9.5, "channels_out"),
    Column("g", "groups", 8, "groups"),
    Column("b", "bias, norm per channel", 9.5, "per_channel"),
    Column("n_in", "size in", 7, "size_in", "{^n_out}"),
    Column("k", "kernel", 7.5, "kernel"),
    Column("s", "stride", 7.5, "stride"),
    Column("p", "padding", 8.5, "padding"),
    Column("d", "dilation", 8.5, "dilation"),
    Column("n_out", "size out", 7, "size_out", "INT(({n_in}+2*{p}-{d}*({k}-1)-1)/{s})+1"),
    Column("j_in", "jump in", 7, "jump_in", "{^j_out}"),
    Column("j_out", "jump out", 7, "jump_out", "{j_in}*{s}"),
    Column("r_in", "field in", 7, "field_in", "{^r_out}"),
    Column("r_out", "field out", 7, "field_out", "{r_in}+{d}*({k}-1)*{j_in}"),
    Column("first", "centre of first unit", 10, "start", "{^first}+({d}*({k}-1)/2-{p})*{j_in}"),
    Column("middle", "centre of middle unit", 10, "", "{first}+INT({n_out}/2)*{j_out}"),
    Column("params", "parameters", 12, "parameters", "IF({g}=0,0,{k}^2*{c_in}/{g}*{c_out})+{b}*{c_out}"),
    Column("MACs", "multiply-accumulates", 13, "multiply_accumulates",
           "IF({g}=0,0,{k}^2*{c_in}/{g}*{c_out}*{n_out}^2)"),
    Column("seen", "pixels the middle unit sees", 12, "",
           "MIN({image}-1,{middle}+({r_out}-1)/2)-MAX(0,{middle}-({r_out}-1)/2)+1"),
    Column("moving", "pixels that move it, measured", 13, ""),
)  # fmt: skip
LETTER = {column.symbol: xl_col_to_name(place) for place, column in enumerate(COLUMNS)}
SUMMED = ("params", "MACs")
# The image's row, as if it were a layer; the first three may be changed.
START = {"type": "image", "c_out": 1, "n_out": SIZE, "j_out": 1, "r_out": 1, "first": 0}

FORMATS = {
    "typed": {"font_color": "#0000FF", "align": "center"},
    "formula": {"align": "center"},
    "whole": {"align": "center", "num_format": "#,##0"},
    "measured": {"font_color": "#7F7F7F", "italic": True, "align": "center"},
    "name": {
        "bold": True, "font_color": "#FFFFFF", "bg_color": "#1F3864", "text_wrap": True, "align": "center",
        "valign": "vcenter",
    },
    "symbol": {"italic": True, "font_color": "#1F3864", "bg_color": "#D9E2F3", "align": "center"},
    "total": {"bold": True, "top": 1, "align": "center", "num_format": "#,##0"},
    "title": {"bold": True, "font_size": 16},
    "text": {"text_wrap": True, "valign": "top"},
    "figure": {"num_format": "#,##0", "align": "center", "valign": "top"},
    "link": {"font_color": "#0563C1", "underline": 1, "valign": "top"},
    "pale": {"font_color": "#BFBFBF", "align": "center"},
    "warning": {"font_color": "#C00000", "bold": True},
    "wrong": {"font_color": "#FFFFFF", "bg_color": "#C00000"},
}  # fmt: skip

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
            widths = [last - first + 1 for first, last in measure_fields(network, SIZE)]
            write_table(book.add_worksheet(name), formats, name, about(networks[name]), traces[name], widths)
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
        seen, moving = (f"'{name}'!{down(symbol, rows)}" for symbol in ("seen", "moving"))
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
    sheet.write(line, 1, "Type kernels and strides, and watch the field grow.", formats["text"])
    line += 1
    for note in NOTES:
        line += 1
        sheet.merge_range(line, 0, line, len(heads) - 1, note, formats["text"])
        sheet.set_row(line, height(note, sum(heads.values())) + 5)
    sheet.write(line + 2, 0, "Blue numbers are typed in, black ones are formulas, grey ones measured.")
    sheet.write(line + 3, 0, DOI, formats["link"], SOURCE)
    set_up_page(sheet)
    sheet.fit_to_pages(1, 1)


def height(text: str, width: float) -> float:
    """Return how high a row must be, in points, for ``text`` to wrap in cells ``width`` characters wide."""
    return 15 * len(textwrap.wrap(text, round(0.95 * width)) or [""])


def down(symbol: str, rows: Sequence[Row]) -> str:
    """Return the cells of a column in all ``rows``, as in "H7:H26"."""
    return f"{LETTER[symbol]}{FIRST}:{LETTER[symbol]}{total_line(rows)}"


def write_design(book: xlsxwriter.Workbook, formats: Formats) -> None:
    """Write the sheet to type into: a few layers as an example, blank rows, and a chart of the field."""
    sheet = book.add_worksheet(DESIGN)
    example = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 10, 1), nn.AvgPool2d(12),
    )  # fmt: skip
    rows = [replace(row, position=index) for index, row in enumerate(trace(example, SIZE))]
    while len(rows) < DESIGN_ROWS:
        rows.append(pass_on(rows[-1]))
    text = "Change anything blue. Rows without a kernel, in pale grey, pass on what they get."
    write_table(sheet, formats, DESIGN, text, rows)
    for symbol, (least, text) in TYPED.items():
        rule = {"validate": "integer", "criteria": ">=", "value": least, "input_title": symbol, "input_message": text}
        rule |= {"error_title": symbol, "error_message": f"A whole number, at least {least}, or nothing. {text}"}
        sheet.data_validation(down(symbol, rows), rule)
    for symbol in ("c_out", "n_out"):  # of the image
        sheet.data_validation(f"{LETTER[symbol]}{IMAGE + 1}", {"validate": "integer", "criteria": ">=", "value": 1})
    blank = {"criteria": f'=${LETTER["k"]}{FIRST}=""', "format": formats["pale"], "stop_if_true": True}
    sheet.conditional_format(f"A{FIRST}:{LETTER['seen']}{total_line(rows)}", {"type": "formula"} | blank)
    sizes = down("n_out", rows)
    sheet.conditional_format(sizes, {"type": "cell", "criteria": "<", "value": 1, "format": formats["wrong"]})
    lowest = f'=IF(MIN({sizes})<1,"A kernel is larger than what comes in.","")'
    sheet.write_formula(f"{LETTER['n_out']}3", lowest, formats["warning"], "")
    write_chart(book, sheet, formats, rows)


def write_chart(book: xlsxwriter.Workbook, sheet: Worksheet, formats: Formats, rows: Sequence[Row]) -> None:
    """Draw the fields of the rows that have a kernel, from a column of their own beside the table."""
    total, charted = total_line(rows), LETTER["moving"]  # that column is free on this sheet
    sheet.write(f"{charted}{IMAGE}", "charted", formats["pale"])
    for line, row in enumerate(rows, FIRST):
        text = f'=IF({LETTER["k"]}{line}="","",{LETTER["r_out"]}{line})'
        sheet.write_formula(f"{charted}{line}", text, formats["pale"], row.field_out if row.kind else "")
    chart = book.add_chart({"type": "column"})
    columns = {"values": f"='{DESIGN}'!${charted}${FIRST}:${charted}${total}", "fill": {"color": "#1F3864"}, "gap": 60}
    chart.add_series(columns | {"categories": f"='{DESIGN}'!$B${FIRST}:$B${total}"})
    chart.set_title({"name": "Receptive field, pixels", "name_font": {"size": 12, "bold": False}})
    chart.set_legend({"none": True})
    chart.set_y_axis({"min": 0, "major_gridlines": {"visible": True, "line": {"color": "#D9D9D9"}}})
    chart.set_size({"width": 1200, "height": 280})
    sheet.insert_chart(total + 2, 1, chart)


def pass_on(row: Row) -> Row:
    """Return the blank row after ``row``: a kernel of one unit, without weights."""
    return replace(
        row, position=row.position + 1, kind="", kernel=1, stride=1, padding=0, dilation=1, groups=0, per_channel=0,
        size_in=row.size_out, channels_in=row.channels_out, jump_in=row.jump_out, field_in=row.field_out,
        parameters=0, multiply_accumulates=0,
    )  # fmt: skip


def set_up_page(sheet: Worksheet) -> None:
    """Print on A4, landscape, as wide as the page, with the sheet's name below."""
    sheet.hide_gridlines(1)
    sheet.set_landscape()
    sheet.set_paper(9)
    sheet.fit_to_pages(1, 0)
    sheet.set_margins(left=0.4, right=0.4)
    sheet.set_footer("&L&A&RPage &P of &N")


def write_table(
    sheet: Worksheet, formats: Formats, title: str, text: str, rows: Sequence[Row], moving: Sequence[int] | None = None
) -> None:
    """Write a heading, names, symbols, the image's row, ``rows``, and totals in line ``total_line(rows)``.

    ``moving`` are the widths that autograd measured for each row. Without them it is a table to type into: rows
    may be left blank (those without a kind are), and the column of the measured widths is left out.
    """
    columns = COLUMNS if moving else COLUMNS[:-1]
    sheet.write(0, 0, title, formats["title"])
    sheet.write(1, 0, text)
    sheet.write(2, 0, f"internal:'{OVERVIEW}'!A1", formats["link"], "← Overview")
    sheet.write(f"{LETTER['c_out']}3", "blue: typed in, change it", formats["typed"])
    sheet.write(f"{LETTER['k']}3", "black: a formula", formats["formula"])
    if moving:
        sheet.write(f"{LETTER['r_out']}3", "grey: measured on the network by autograd", formats["measured"])
        differs = f"={LETTER['moving']}{FIRST}<>{LETTER['seen']}{FIRST}"
        rule = {"type": "formula", "criteria": differs, "format": formats["wrong"]}
        sheet.conditional_format(down("moving", rows), rule)
    sheet.set_row(IMAGE - 2, 48)
    sheet.freeze_panes(IMAGE, 2)
    sheet.repeat_rows(IMAGE - 2, IMAGE - 1)
    set_up_page(sheet)
    for place, column in enumerate(columns):
        sheet.set_column(place, place, column.width)
        sheet.write(IMAGE - 2, place, column.name, formats["name"])
        sheet.write(IMAGE - 1, place, column.symbol, formats["symbol"])
        if column.symbol in START:
            changeable = column.symbol in ("type", "c_out", "n_out")
            sheet.write(IMAGE, place, START[column.symbol], formats["typed" if changeable else "formula"])
    for line, row in enumerate(rows, IMAGE + 1):
        shown = values(row) | ({"moving": moving[line - IMAGE - 1]} if moving else {})
        for place, column in enumerate(columns):
            if content := formula(column, row, line, blanks=not moving):
                style = "whole" if column.symbol in SUMMED else "formula"
                sheet.write_formula(line, place, content, formats[style], shown[column.symbol])
            else:
                style = {"#": "formula", "moving": "measured"}.get(column.symbol, "typed")
                blank = style == "typed" and not row.kind
                sheet.write(line, place, None if blank else shown[column.symbol], formats[style])
    total = total_line(rows)
    for place, column in enumerate(columns):
        sheet.write_blank(total, place, None, formats["total"])
        if column.symbol in SUMMED:
            sums = sum(values(row)[column.symbol] for row in rows)
            sheet.write_formula(total, place, f"=SUM({down(column.symbol, rows)})", formats["total"], sums)
    sheet.write(total, 0, "total", formats["total"])


def formula(column: Column, row: Row, line: int, blanks: bool) -> str:
    """Return the formula of a cell in sheet row ``line``, counted from 0; "" if its value is typed in.

    With ``blanks``, typed cells may be blank: a missing kernel, stride or dilation counts as 1, missing channels
    as those that come in. Without, a pooling passes its channels on and a kernel that covers all is as large as
    what comes in.
    """
    text = column.formula
    if not blanks and column.symbol == "c_out" and row.groups == 0:
        text = "{c_in}"
    if not blanks and column.symbol == "k" and row.covers_all:
        text = "{n_in}"

    def cell(match: re.Match) -> str:
        above, symbol = match.groups()
        number = line if above else line + 1  # sheets count from 1
        if symbol == "image":
            return f"${LETTER['n_out']}${IMAGE + 1}"
        reference = f"{LETTER[symbol]}{number}"
        if blanks and symbol in ("k", "s", "d"):
            return f"MAX(1,{reference})"
        if blanks and symbol == "c_out":
            return f'IF({reference}="",{LETTER["c_in"]}{number},{reference})'
        return reference

    return text and "=" + re.sub(r"{(\^?)(\w+)}", cell, text)


def values(row: Row) -> dict[str, str | float]:
    """Return what the cells of ``row`` show, by symbol."""
    unit = row.size_out // 2
    first, last = row.span(unit)
    shown = {column.symbol: getattr(row, column.shows) for column in COLUMNS if column.shows}
    return shown | {"middle": row.centre(unit), "seen": min(SIZE - 1, last) - max(0, first) + 1}


def total_line(rows: Sequence[Row]) -> int:
    """Return the row of the totals, counted from 0, which is that of the last layer counted from 1."""
    return IMAGE + 1 + len(rows)


def about(build: Callable) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join((build.__doc__ or "").strip().partition("\n\n")[0].split())
