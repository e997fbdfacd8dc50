"""A trace as a worksheet: a row per layer, in formulas that go on calculating and with the values they have now."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xlsxwriter.format import Format
from xlsxwriter.utility import xl_col_to_name
from xlsxwriter.worksheet import Worksheet

from mnist_lab.receptive_field import Row

OVERVIEW = "Overview"  # the sheet that links to the others
IMAGE = 5  # the row of the image, counted from 0: names and symbols stand above it, layers below
Formats = Mapping[str, Format]


@dataclass(frozen=True)
class Column:
    """A column of the table. Its formula names columns in braces, with ^ in the row above; none: it is typed in."""

    symbol: str
    name: str
    width: float  # characters
    formula: str = ""


COLUMNS = (
    Column("#", "layer", 6),
    Column("type", "kind of layer", 19),
    Column("c_in", "channels in", 9.5, "{^c_out}"),
    Column("c_out", "channels out", 9.5),
    Column("g", "groups", 8),
    Column("b", "bias, norm per channel", 9.5),
    Column("n_in", "size in", 7, "{^n_out}"),
    Column("k", "kernel", 7.5),
    Column("s", "stride", 7.5),
    Column("p", "padding", 8.5),
    Column("d", "dilation", 8.5),
    Column("n_out", "size out", 7, "INT(({n_in}+2*{p}-{d}*({k}-1)-1)/{s})+1"),
    Column("j_in", "jump in", 7, "{^j_out}"),
    Column("j_out", "jump out", 7, "{j_in}*{s}"),
    Column("r_in", "field in", 7, "{^r_out}"),
    Column("r_out", "field out", 7, "{r_in}+{d}*({k}-1)*{j_in}"),
    Column("first", "centre of first unit", 10, "{^first}+({d}*({k}-1)/2-{p})*{j_in}"),
    Column("middle", "centre of middle unit", 10, "{first}+INT({n_out}/2)*{j_out}"),
    Column("params", "parameters", 12, "IF({g}=0,0,{k}^2*{c_in}/{g}*{c_out})+{b}*{c_out}"),
    Column("MACs", "multiply-accumulates", 13, "IF({g}=0,0,{k}^2*{c_in}/{g}*{c_out}*{n_out}^2)"),
    Column(
        "seen", "pixels the middle unit sees", 12,
        "MIN({image}-1,{middle}+({r_out}-1)/2)-MAX(0,{middle}-({r_out}-1)/2)+1",
    ),
    Column("moving", "pixels that move it, measured", 13),
)  # fmt: skip
LETTER = {column.symbol: xl_col_to_name(place) for place, column in enumerate(COLUMNS)}
START = {"type": "image", "c_out": 1, "j_out": 1, "r_out": 1, "first": 0}  # what the image's row says, besides its size

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


def total_line(rows: Sequence[Row]) -> int:
    """Return the row of the totals, counted from 0, which is that of the last layer counted from 1."""
    return IMAGE + 1 + len(rows)


def values(row: Row, image: int) -> dict[str, str | float]:
    """Return what the cells of ``row`` show, by symbol; ``image`` is its height and width in pixels."""
    unit = row.size_out // 2
    first, last = row.span(unit)
    return {
        "#": row.position,
        "type": row.kind,
        "c_in": row.channels_in,
        "c_out": row.channels_out,
        "g": row.groups,
        "b": row.per_channel,
        "n_in": row.size_in,
        "k": row.kernel,
        "s": row.stride,
        "p": row.padding,
        "d": row.dilation,
        "n_out": row.size_out,
        "j_in": row.jump_in,
        "j_out": row.jump_out,
        "r_in": row.field_in,
        "r_out": row.field_out,
        "first": row.start,
        "middle": row.centre(unit),
        "params": row.parameters,
        "MACs": row.multiply_accumulates,
        "seen": min(image - 1, last) - max(0, first) + 1,
    }


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


def write_table(
    sheet: Worksheet, formats: Formats, rows: Sequence[Row], image: int, moving: Sequence[int] | None = None
) -> None:
    """Write names, symbols, the image's row, ``rows``, and totals in line ``total_line(rows)``.

    ``moving`` are the widths that autograd measured for each row. Without them it is a table to type into: rows
    may be left blank (those without a kind are), and the column of the measured widths is left out.
    """
    columns = COLUMNS if moving else COLUMNS[:-1]
    for place, column in enumerate(columns):
        sheet.set_column(place, place, column.width)
        sheet.write(IMAGE - 2, place, column.name, formats["name"])
        sheet.write(IMAGE - 1, place, column.symbol, formats["symbol"])
        if column.symbol in START:
            changeable = column.symbol in ("type", "c_out")
            sheet.write(IMAGE, place, START[column.symbol], formats["typed" if changeable else "formula"])
        if column.symbol == "n_out":
            sheet.write(IMAGE, place, image, formats["typed"])
    for line, row in enumerate(rows, IMAGE + 1):
        shown = values(row, image) | ({"moving": moving[line - IMAGE - 1]} if moving else {})
        for place, column in enumerate(columns):
            text = formula(column, row, line, blanks=not moving)
            if text:
                style = "whole" if column.symbol in ("params", "MACs") else "formula"
                sheet.write_formula(line, place, text, formats[style], shown[column.symbol])
            else:
                style = {"#": "formula", "moving": "measured"}.get(column.symbol, "typed")
                blank = style == "typed" and not row.kind
                sheet.write(line, place, None if blank else shown[column.symbol], formats[style])
    total = total_line(rows)
    for place, column in enumerate(columns):
        sheet.write_blank(total, place, None, formats["total"])
        if column.symbol in ("params", "MACs"):
            sums = sum(values(row, image)[column.symbol] for row in rows)
            letter = LETTER[column.symbol]
            sheet.write_formula(total, place, f"=SUM({letter}{IMAGE + 2}:{letter}{total})", formats["total"], sums)
    sheet.write(total, 0, "total", formats["total"])


def write_heading(sheet: Worksheet, formats: Formats, title: str, text: str) -> None:
    """Write what stands above a table, and set how the sheet is seen and printed."""
    sheet.write(0, 0, title, formats["title"])
    sheet.write(1, 0, text)
    sheet.write_url(2, 0, f"internal:'{OVERVIEW}'!A1", formats["link"], "← Overview")
    sheet.write(f"{LETTER['c_out']}3", "blue: typed in, change it", formats["typed"])
    sheet.write(f"{LETTER['k']}3", "black: a formula", formats["formula"])
    sheet.set_row(IMAGE - 2, 48)
    sheet.freeze_panes(IMAGE, 2)
    sheet.repeat_rows(IMAGE - 2, IMAGE - 1)
    set_up_page(sheet)


def set_up_page(sheet: Worksheet) -> None:
    """Print on A4, landscape, as wide as the page, with the sheet's name below."""
    sheet.hide_gridlines(1)
    sheet.set_landscape()
    sheet.set_paper(9)
    sheet.fit_to_pages(1, 0)
    sheet.set_margins(left=0.4, right=0.4)
    sheet.set_footer("&L&A&RPage &P of &N")
