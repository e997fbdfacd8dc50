import io

import openpyxl
import pytest
import xlsxwriter
from torch import nn

from mnist_lab.field_sheet import (
    COLUMNS,
    FORMATS,
    IMAGE,
    LETTER,
    formula,
    total_line,
    values,
    write_heading,
    write_table,
)
from mnist_lab.receptive_field import trace

COLUMN = {column.symbol: column for column in COLUMNS}


@pytest.fixture
def rows():
    return trace(
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1))
    )


def written(rows, moving):
    """Write a sheet and read it back, (with formulas, with values)."""
    content = io.BytesIO()
    with xlsxwriter.Workbook(content) as book:
        formats = {name: book.add_format(style) for name, style in FORMATS.items()}
        sheet = book.add_worksheet("Net")
        write_heading(sheet, formats, "Net", "A net.")
        write_table(sheet, formats, rows, 28, moving)
        book.add_worksheet("Overview")
    return tuple(openpyxl.load_workbook(content, data_only=cached)["Net"] for cached in (False, True))


def test_formulas_by_hand(rows):
    texts = {symbol: formula(column, rows[0], 6, blanks=False) for symbol, column in COLUMN.items()}
    assert texts["c_in"] == "=D6" and texts["n_in"] == "=L6"  # of the row above, sheets count from 1
    assert texts["n_out"] == "=INT((G7+2*J7-K7*(H7-1)-1)/I7)+1"
    assert texts["j_out"] == "=M7*I7"
    assert texts["r_out"] == "=O7+K7*(H7-1)*M7"
    assert texts["first"] == "=Q6+(K7*(H7-1)/2-J7)*M7"
    assert texts["seen"].startswith("=MIN($L$6-1,")
    assert {symbol for symbol, text in texts.items() if not text} == {
        "#", "type", "c_out", "g", "b", "k", "s", "p", "d", "moving",
    }  # fmt: skip


def test_what_follows_from_the_row_above_is_not_typed_in(rows):
    assert formula(COLUMN["c_out"], rows[1], 7, blanks=False) == "=C8"  # a pooling
    assert formula(COLUMN["k"], rows[1], 7, blanks=False) == ""
    assert formula(COLUMN["k"], rows[3], 9, blanks=False) == "=G10"  # a global pooling
    assert formula(COLUMN["k"], rows[3], 9, blanks=True) == ""


def test_blanks_count_as_a_layer_that_does_nothing(rows):
    assert formula(COLUMN["r_out"], rows[0], 6, blanks=True) == "=O7+MAX(1,K7)*(MAX(1,H7)-1)*M7"
    assert formula(COLUMN["c_in"], rows[0], 6, blanks=True) == '=IF(D6="",C6,D6)'


def test_values_are_those_of_the_row(rows):
    shown = values(rows[2], 28)
    assert (shown["n_in"], shown["k"], shown["n_out"], shown["j_out"], shown["r_out"]) == (14, 3, 12, 2, 8)
    assert (shown["first"], shown["middle"], shown["seen"]) == (2.5, 14.5, 8)
    wide = trace(nn.Sequential(nn.Conv2d(1, 1, 5, padding=2)), size=3)[0]
    assert values(wide, 3)["r_out"] == 5 and values(wide, 3)["seen"] == 3  # the image ends before the field


def test_the_table_holds_formulas_and_values(rows):
    formulas, cached = written(rows, moving=[3, 4, 8, 28])
    assert [cell.value for cell in formulas[IMAGE]] == [column.symbol for column in COLUMNS]
    assert cached[f"{LETTER['n_out']}{IMAGE + 1}"].value == 28
    for number, row in enumerate(rows, IMAGE + 2):
        found = {symbol: cached[f"{letter}{number}"].value for symbol, letter in LETTER.items()}
        assert found == values(row, 28) | {"moving": [3, 4, 8, 28][number - IMAGE - 2]}
    total = total_line(rows) + 1
    assert formulas[f"S{total}"].value == f"=SUM(S{IMAGE + 2}:S{total - 1})"
    assert cached[f"S{total}"].value == sum(row.parameters for row in rows)


def test_colours_tell_what_may_be_typed(rows):
    formulas, _ = written(rows, moving=[3, 4, 8, 28])
    for line in formulas.iter_rows(min_row=IMAGE + 2, max_row=total_line(rows)):
        for cell, column in zip(line, COLUMNS, strict=True):
            typed = not str(cell.value).startswith("=") and column.symbol not in ("#", "moving")
            assert (cell.font.color is not None and cell.font.color.rgb == "FF0000FF") == typed, cell.coordinate
    assert formulas.freeze_panes == f"C{IMAGE + 1}"
    assert formulas.page_setup.orientation == "landscape" and formulas.page_setup.fitToHeight == 0
    assert formulas["A3"].hyperlink.location == "'Overview'!A1"


def test_without_measured_widths_there_is_no_column_for_them(rows):
    formulas, _ = written(rows, moving=None)
    assert formulas[f"{LETTER['moving']}{IMAGE}"].value is None
