"""The sheet of the workbook on which one designs a network of one's own."""

from collections.abc import Sequence
from dataclasses import replace

import xlsxwriter
from torch import nn
from xlsxwriter.utility import xl_col_to_name
from xlsxwriter.worksheet import Worksheet

from mnist_lab.fields.sheets import (
    FIRST,
    IMAGE,
    LAST,
    LETTER,
    SIZE,
    Column,
    Formats,
    down,
    total_line,
    values,
    write_table,
)
from mnist_lab.fields.trace import Row, trace
from mnist_lab.models import PARAMETER_BUDGET

DESIGN, DESIGN_ROWS = "Design your own", 20
DEPTHWISE, POOLINGS = "depthwise", ("MaxPool2d", "AvgPool2d")
TYPES = ("Conv2d", DEPTHWISE, *POOLINGS)

# What counts where a cell may be typed or left blank, in hidden columns: a row without a kernel passes on what it gets,
# a pooling keeps its channels and has no groups, a depthwise convolution has as many groups as channels.
POOLS = 'RIGHT({type},6)="Pool2d"'
COUNTED = {
    "c_out": f'=IF(OR({{k}}="",{{c_out}}="",{POOLS}),{{c_in}},{{c_out}})',
    "g": f'=IF(OR({{k}}="",{POOLS}),0,IF({{type}}="{DEPTHWISE}",{{c_in}},MAX(1,{{g}})))',
    "b": '=IF({k}="",0,0+{b})',
    "k": "=MAX(1,{k})",
    "s": '=IF({k}="",1,MAX(1,{s}))',
    "p": '=IF({k}="",0,0+{p})',
    "d": "=MAX(1,{d})",
}
HIDDEN = len(LETTER) + 1  # the first hidden column: those of COUNTED, then the two of the chart
LETTERS = LETTER | {symbol: xl_col_to_name(HIDDEN + place) for place, symbol in enumerate(COUNTED)}
UNKNOWN = ",".join(f'{{=type}}<>"{kind}"' for kind in TYPES)
CHECK = Column(
    "check", "what to mend", 34, "",
    'IF({=k}="",IF(COUNTA({=type},{=c_out},{=g},{=b},{=s},{=p},{=d})=0,"","no kernel: the row is left out"),'
    f'IF(AND({UNKNOWN}),"choose a type",'
    'IF({n_out}<1,"the kernel is larger than what comes in",'
    'IF(AND({g}=0,{=c_out}<>"",{=c_out}<>{c_in}),"a pooling keeps its channels",'
    'IF(AND({=g}<>"",{=g}<>{g}),"the type decides the groups: clear g",'
    'IF(AND({g}>0,MOD({c_in},MAX(1,{g}))+MOD({c_out},MAX(1,{g}))>0),"groups must divide both channels",""))))))',
)  # fmt: skip

# What one may type: the least whole number, and what is said about it.
TYPED = {
    "c_out": (1, "Channels that leave the layer. Blank: as many as come in."),
    "g": (1, "Groups of a convolution, which must divide both channels. Blank: 1, or what the type says."),
    "b": (0, "Parameters per channel besides the weights: 1 for a bias, 2 for a batch norm. Blank: none."),
    "k": (1, "Width of the kernel. Blank: no layer here; everything is passed on."),
    "s": (1, "Units from one position of the kernel to the next. Blank: 1."),
    "p": (0, "Rows of zeros added on each side. Blank: none."),
    "d": (1, "Distance between the units that the kernel touches. Blank: 1."),
}


def write_design(book: xlsxwriter.Workbook, formats: Formats) -> None:
    """Write the sheet to type into: a few layers as an example, blank rows, checks, and a chart of the field."""
    sheet = book.add_worksheet(DESIGN)
    example = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 10, 1), nn.AvgPool2d(12),
    )  # fmt: skip
    rows = [replace(row, position=index) for index, row in enumerate(trace(example, SIZE))]
    while len(rows) < DESIGN_ROWS:
        rows.append(pass_on(rows[-1]))
    text = "Change anything blue. Rows without a kernel, in pale grey, pass on what they get."
    write_table(sheet, formats, DESIGN, text, rows, CHECK, [typed(row) for row in rows], LETTERS)
    write_counted(sheet, rows)
    sheet.data_validation(down("type", rows), {"validate": "list", "source": list(TYPES)})
    for symbol, (least, text) in TYPED.items():
        rule = {"validate": "integer", "criteria": ">=", "value": least, "input_title": symbol, "input_message": text}
        rule |= {"error_title": symbol, "error_message": f"A whole number, at least {least}, or nothing. {text}"}
        sheet.data_validation(down(symbol, rows), rule)
    for symbol in ("c_out", "n_out"):  # of the image
        sheet.data_validation(f"{LETTER[symbol]}{IMAGE + 1}", {"validate": "integer", "criteria": ">=", "value": 1})
    blank = {"criteria": f'=${LETTER["k"]}{FIRST}=""', "format": formats["pale"], "stop_if_true": True}
    sheet.conditional_format(f"A{FIRST}:{LETTER['seen']}{total_line(rows)}", {"type": "formula"} | blank)
    told = {"type": "formula", "criteria": f'={LAST}{FIRST}<>""', "format": formats["wrong"]}
    sheet.conditional_format(f"{LAST}{FIRST}:{LAST}{total_line(rows)}", told)
    write_checks(sheet, formats, rows)
    write_chart(book, sheet, rows)


def typed(row: Row) -> dict[str, object]:
    """Return what the cells of ``row`` show at first: what follows from the type, or from nothing, stays blank."""
    shown = values(row) | {"check": ""}
    if not row.kind:
        return shown | dict.fromkeys(["type", *TYPED])
    if row.groups == 0:
        return shown | {"c_out": None, "g": None}
    depthwise = row.groups == row.channels_in > 1
    return shown | ({"type": DEPTHWISE, "g": None} if depthwise else {"g": None if row.groups == 1 else row.groups})


def write_counted(sheet: Worksheet, rows: Sequence[Row]) -> None:
    """Write what counts in each row into the hidden columns; of the image, its channels."""
    sheet.write_formula(f"{LETTERS['c_out']}{IMAGE + 1}", f"={LETTER['c_out']}{IMAGE + 1}", None, 1)
    for line, row in enumerate(rows, FIRST):
        cells = {symbol: f"{letter}{line}" for symbol, letter in LETTER.items()}
        for symbol, text in COUNTED.items():
            sheet.write_formula(f"{LETTERS[symbol]}{line}", text.format_map(cells), None, values(row)[symbol])
    sheet.set_column(HIDDEN, HIDDEN + len(COUNTED) + 1, 8, None, {"hidden": True})


def write_checks(sheet: Worksheet, formats: Formats, rows: Sequence[Row]) -> None:
    """Write above the table what is left of the budget, whether the network ends in 10 logits, and the warnings."""
    last, checks = total_line(rows), f"{LAST}{FIRST}:{LAST}{total_line(rows)}"
    channels, size = f"{LETTERS['c_out']}{last}", f"{LETTER['n_out']}{last}"
    left = PARAMETER_BUDGET - 1 - sum(row.parameters for row in rows)
    for line, (label, formula, value, wrong) in enumerate([
        (f"parameters left of {PARAMETER_BUDGET - 1:,}", f"{PARAMETER_BUDGET - 1}-{LETTER['params']}{last + 1}", left,
         {"type": "cell", "criteria": "<", "value": 0}),
        ("ends in 10 numbers, 1 x 1", f'IF(AND({channels}=10,{size}=1),"yes","no")', "yes",
         {"type": "cell", "criteria": "==", "value": '"no"'}),
        ("rows to mend", f'SUMPRODUCT(--({checks}<>""))', 0, {"type": "cell", "criteria": ">", "value": 0}),
    ]):  # fmt: skip
        cell = f"{LETTER['params']}{line + 1}"
        sheet.write(f"{LETTER['r_in']}{line + 1}", label)
        sheet.write_formula(cell, f"={formula}", formats["total"], value)
        sheet.conditional_format(cell, wrong | {"format": formats["wrong"]})


def write_chart(book: xlsxwriter.Workbook, sheet: Worksheet, rows: Sequence[Row]) -> None:
    """Draw the fields of the rows that have a kernel, and the width of the image, from two hidden columns."""
    total, place = total_line(rows), HIDDEN + len(COUNTED)
    for line, row in enumerate(rows, FIRST):
        text = f'=IF({LETTER["k"]}{line}="","",{LETTER["r_out"]}{line})'
        sheet.write_formula(line - 1, place, text, None, row.field_out if row.kind else "")
        sheet.write_formula(line - 1, place + 1, f"=${LETTER['n_out']}${IMAGE + 1}", None, SIZE)
    chart, image = book.add_chart({"type": "column"}), book.add_chart({"type": "line"})
    names = [DESIGN, IMAGE + 1, 1, total - 1, 1]
    for drawn, name, column, look in (
        (chart, "field", place, {"fill": {"color": "#1F3864"}, "gap": 60}),
        (image, "image", place + 1, {"line": {"color": "#C55A11", "width": 1.5}}),
    ):
        values = [DESIGN, IMAGE + 1, column, total - 1, column]
        drawn.add_series({"name": name, "values": values, "categories": names} | look)
    chart.combine(image)
    chart.show_hidden_data()
    chart.set_title({"name": "Receptive field and image, pixels", "name_font": {"size": 12, "bold": False}})
    chart.set_legend({"position": "bottom"})
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
