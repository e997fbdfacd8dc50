"""The table of a network's layers in a workbook: its columns, their formulas, and how it is written."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xlsxwriter.format import Format
from xlsxwriter.utility import xl_col_to_name
from xlsxwriter.worksheet import Worksheet

from mnist_lab.fields.trace import Row

SIZE = 28  # pixels across an image of MNIST
OVERVIEW = "Overview"  # the sheet that links to the others
IMAGE = 5  # the row of the image, counted from 0: names and symbols stand above it, layers below
FIRST = IMAGE + 2  # the row of the first layer, counted from 1, as in the names of cells
Formats = Mapping[str, Format]


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
)  # fmt: skip
LETTER = {column.symbol: xl_col_to_name(place) for place, column in enumerate(COLUMNS)}
LAST = xl_col_to_name(len(COLUMNS))  # the column after these, which each kind of sheet has its own of
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
    "wrong": {"font_color": "#FFFFFF", "bg_color": "#C00000"},
}  # fmt: skip


def write_table(
    sheet: Worksheet,
    formats: Formats,
    title: str,
    text: str,
    rows: Sequence[Row],
    last: Column,
    cells: Sequence[Mapping[str, object]],
    letters: Mapping[str, str] | None = None,
) -> None:
    """Write a heading, names, symbols, the image's row, ``rows``, and totals in line ``total_line(rows)``.

    ``last`` is a column besides COLUMNS. ``cells`` are the values of each row, by symbol; for ``letters`` see
    :func:`formula`.
    """
    columns = [*COLUMNS, last]
    sheet.write(0, 0, title, formats["title"])
    sheet.write(1, 0, text)
    sheet.write(2, 0, f"internal:'{OVERVIEW}'!A1", formats["link"], "← Overview")
    sheet.write(f"{LETTER['c_out']}3", "blue: typed in, change it", formats["typed"])
    sheet.write(f"{LETTER['k']}3", "black: a formula", formats["formula"])
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
    styles = {"#": "formula", "moving": "measured"} | dict.fromkeys(SUMMED, "whole")
    for line, (row, shown) in enumerate(zip(rows, cells, strict=True), IMAGE + 1):
        for place, column in enumerate(columns):
            content = formula(column, row, line, letters)
            style = formats[styles.get(column.symbol, "formula" if content else "typed")]
            if content:
                sheet.write_formula(line, place, content, style, shown[column.symbol])
            else:
                sheet.write(line, place, shown[column.symbol], style)
    total = total_line(rows)
    for place, column in enumerate(columns):
        sheet.write_blank(total, place, None, formats["total"])
        if column.symbol in SUMMED:
            sums = sum(shown[column.symbol] for shown in cells)
            sheet.write_formula(total, place, f"=SUM({down(column.symbol, rows)})", formats["total"], sums)
    sheet.write(total, 0, "total", formats["total"])


def formula(column: Column, row: Row, line: int, letters: Mapping[str, str] | None = None) -> str:
    """Return the formula of a cell in sheet row ``line``, counted from 0; "" if its value is typed in.

    Where one may type, ``letters`` are the columns of what counts, by symbol, and {=k} is the kernel as typed. Without
    them, a pooling passes its channels on, and a kernel that covers all is as large as what comes in.
    """
    text = column.formula
    if letters is None and column.symbol == "c_out" and row.groups == 0:
        text = "{c_in}"
    if letters is None and column.symbol == "k" and row.covers_all:
        text = "{n_in}"

    def cell(match: re.Match) -> str:
        where, symbol = match.groups()
        if symbol == "image":
            return f"${LETTER['n_out']}${IMAGE + 1}"
        letter = LETTER[symbol] if where == "=" or letters is None else letters[symbol]
        return f"{letter}{line if where == '^' else line + 1}"  # sheets count from 1

    return text and "=" + re.sub(r"{([\^=]?)(\w+)}", cell, text)


def values(row: Row) -> dict[str, str | float]:
    """Return what the cells of ``row`` show, by symbol."""
    unit = row.size_out // 2
    first, last = row.span(unit)
    shown = {column.symbol: getattr(row, column.shows) for column in COLUMNS if column.shows}
    return shown | {"middle": row.centre(unit), "seen": min(SIZE - 1, last) - max(0, first) + 1}


def total_line(rows: Sequence[Row]) -> int:
    """Return the row of the totals, counted from 0, which is that of the last layer counted from 1."""
    return IMAGE + 1 + len(rows)


def down(symbol: str, rows: Sequence[Row]) -> str:
    """Return the cells of a column in all ``rows``, as in "H7:H26"."""
    return f"{LETTER[symbol]}{FIRST}:{LETTER[symbol]}{total_line(rows)}"


def set_up_page(sheet: Worksheet) -> None:
    """Print on A4, landscape, as wide as the page, with the sheet's name below."""
    sheet.hide_gridlines(1)
    sheet.set_landscape()
    sheet.set_paper(9)
    sheet.fit_to_pages(1, 0)
    sheet.set_margins(left=0.4, right=0.4)
    sheet.set_footer("&L&A&RPage &P of &N")
