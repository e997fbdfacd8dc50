import io
import shutil
import subprocess
import zipfile

import openpyxl
import pytest
import xlsxwriter
from torch import nn
from xlsxwriter.utility import xl_col_to_name

from mnist_lab.evidence import records
from mnist_lab.fields import design_sheet, workbook
from mnist_lab.fields.design_sheet import LETTERS
from mnist_lab.fields.gradient import measure_fields
from mnist_lab.fields.sheets import COLUMNS, FIRST, IMAGE, LAST, LETTER, OVERVIEW, formula, total_line, values
from mnist_lab.fields.trace import trace
from mnist_lab.fields.workbook import WorkbookError
from mnist_lab.models import MODELS, count_parameters
from mnist_lab.runtime import ROOT
from mnist_lab.studies.others.catalogue import networks as published

SOFFICE = shutil.which("soffice") or shutil.which("libreoffice")
COLUMN = {column.symbol: column for column in COLUMNS}


class Cell(nn.Sequential):
    """Every kind of layer.

    Only the first paragraph is shown.
    """

    def __init__(self):
        super().__init__(
            nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4), nn.Dropout(0.1)),
            nn.Sequential(nn.Conv2d(4, 8, 3, bias=False), nn.LeakyReLU(), nn.BatchNorm2d(8)),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8),
            nn.MaxPool2d(3, 2, padding=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 10),
            nn.ReLU(),
            nn.LogSoftmax(1),
        )


NETWORKS = {**MODELS, "AB12": Cell}  # a name that could be that of a cell
STEPS = {1: "SkeletonNet", 2: "CompactNet", 3: "CompactNet"}

# A network as a student types it, with rows left blank, and the same network as the trace sees it.
TYPED = [
    {"type": "Conv2d", "c_out": 6, "g": 1, "b": 1, "k": 5, "s": 2, "p": 2},
    {},
    {"type": "MaxPool2d", "k": 3, "s": 2, "p": 1},
    {"type": "depthwise", "b": 2, "k": 3, "d": 2},
    {},
    {"type": "Conv2d", "c_out": 4, "k": 1},
]
IMPOSSIBLE = [  # what a student types, and what the sheet says
    ({"type": "Conv2d", "c_out": 20, "k": 3}, ""),
    ({"type": "MaxPool2d", "c_out": 16, "k": 2, "s": 2}, "a pooling keeps its channels"),
    ({"type": "Conv2d", "c_out": 10, "g": 3, "k": 3}, "groups must divide"),
    ({"type": "depthwise", "c_out": 25, "k": 3}, "groups must divide"),
    ({"type": "depthwise", "g": 2, "k": 3}, "clear g"),
    ({"type": "Linear", "c_out": 25, "k": 1}, "choose a type"),
    ({"type": "Conv2d", "c_out": 25}, "no kernel"),
    ({"type": "Conv2d", "c_out": 10, "k": 40}, "larger than what comes in"),
]
DESIGNED = nn.Sequential(
    nn.Conv2d(1, 6, 5, stride=2, padding=2),
    nn.MaxPool2d(3, 2, padding=1),
    nn.Conv2d(6, 6, 3, dilation=2, groups=6, bias=False),
    nn.BatchNorm2d(6),
    nn.Conv2d(6, 4, 1, bias=False),
)


@pytest.fixture(scope="module")
def content() -> bytes:
    return workbook.make_workbook(NETWORKS, STEPS)


@pytest.fixture(scope="module")
def book(content):
    """The formulas."""
    return openpyxl.load_workbook(io.BytesIO(content))


@pytest.fixture(scope="module")
def cached(content):
    """The values that stand beside the formulas."""
    return openpyxl.load_workbook(io.BytesIO(content), data_only=True)


@pytest.fixture(scope="module")
def recalculated(content, tmp_path_factory):
    """The values that LibreOffice calculates: of the workbook, and of one in which a student typed.

    LibreOffice trusts a value that stands beside a formula, so they are dropped first; openpyxl saves none.
    """
    if SOFFICE is None:
        pytest.skip("LibreOffice is not installed (on Debian: apt install libreoffice-calc-nogui)")
    folder = tmp_path_factory.mktemp("office")
    book = openpyxl.load_workbook(io.BytesIO(content))
    book.save(folder / "plain.xlsx")
    assert openpyxl.load_workbook(folder / "plain.xlsx", data_only=True)["AB12"]["L7"].value is None
    book["AB12"][f"{LETTER['k']}{FIRST}"] = 5
    for number in range(design_sheet.DESIGN_ROWS):
        for symbol in ("type", "c_out", "g", "b", "k", "s", "p", "d"):
            typed = TYPED[number].get(symbol) if number < len(TYPED) else None
            book[design_sheet.DESIGN][f"{LETTER[symbol]}{FIRST + number}"] = typed
    book.save(folder / "typed.xlsx")
    for number, (typed, _) in enumerate(IMPOSSIBLE, FIRST):
        for symbol in ("type", "c_out", "g", "b", "k", "s", "p", "d"):
            book[design_sheet.DESIGN][f"{LETTER[symbol]}{number}"] = typed.get(symbol)
    book.save(folder / "impossible.xlsx")
    names = ["plain.xlsx", "typed.xlsx", "impossible.xlsx"]
    profile = f"-env:UserInstallation=file://{folder}/profile"
    command = [SOFFICE, profile, "--headless", "--convert-to", "xlsx", "--outdir", folder / "out", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {name: openpyxl.load_workbook(folder / "out" / name, data_only=True) for name in names}


def row_values(sheet, number: int) -> dict:
    return {symbol: sheet[f"{letter}{number}"].value for symbol, letter in [*LETTER.items(), ("moving", LAST)]}


def test_the_tracked_workbook_is_of_todays_networks_and_steps():
    """Cell by cell; and with the pinned XlsxWriter byte by byte: others round heights and order formats otherwise."""
    networks = MODELS | {name: network for name, (network, _) in published().items()}
    results = records.load(records.TRACKED / "steps")
    steps = {record.step: record.recipe["model"] for record in results if record.kind == "step"}
    tracked, made = workbook.WORKBOOK.read_bytes(), workbook.make_workbook(networks, steps)
    said = "out of date: mnist-lab workbook"
    for cached in (False, True):
        assert cells(tracked, cached) == cells(made, cached), said
    if f"\nxlsxwriter=={xlsxwriter.__version__}\n" in (ROOT / "requirements.txt").read_text(encoding="utf-8"):
        assert parts(tracked) == parts(made), said


def cells(content: bytes, cached: bool) -> dict[tuple[str, str], object]:
    """Return the formulas of a workbook, or the values that stand beside them."""
    book = openpyxl.load_workbook(io.BytesIO(content), data_only=cached)
    return {(sheet.title, cell.coordinate): cell.value for sheet in book for row in sheet.rows for cell in row}


def parts(content: bytes) -> dict[str, bytes]:
    """Return what is packed into a workbook: another version of zlib packs the same into other bytes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def test_the_same_bytes_every_time(content):
    assert workbook.make_workbook(NETWORKS, STEPS) == content


def test_formulas_by_hand():
    first, pooled, _, last = trace(
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1))
    )
    texts = {symbol: formula(column, first, 6) for symbol, column in COLUMN.items()}
    assert texts["c_in"] == "=D6" and texts["n_in"] == "=L6"  # of the row above, sheets count from 1
    assert texts["n_out"] == "=INT((G7+2*J7-K7*(H7-1)-1)/I7)+1"
    assert texts["r_out"] == "=O7+K7*(H7-1)*M7" and texts["j_out"] == "=M7*I7"
    assert texts["first"] == "=Q6+(K7*(H7-1)/2-J7)*M7"
    typed = {symbol for symbol, text in texts.items() if not text}
    assert typed == {"#", "type", "c_out", "g", "b", "k", "s", "p", "d"}
    assert formula(COLUMN["c_out"], pooled, 7) == "=C8"  # what follows from the row above is no input
    assert formula(COLUMN["k"], last, 9) == "=G10"  # a global pooling
    counted = {symbol: LETTERS[symbol] for symbol in ("k", "d")}
    assert formula(COLUMN["r_out"], first, 6, LETTERS) == "=O7+{d}7*({k}7-1)*M7".format(**counted)


def test_a_field_is_seen_up_to_the_edge_of_the_image():
    row = trace(nn.Sequential(*(nn.Conv2d(1, 1, 5, padding=2) for _ in range(8))))[-1]
    assert values(row)["r_out"] == 33 and values(row)["seen"] == 28


def test_colours_tell_what_may_be_typed(book):
    sheet = book["AB12"]
    for line in sheet.iter_rows(min_row=FIRST, max_row=total_line(trace(Cell()))):
        for cell, column in zip(line, [*COLUMNS, None], strict=True):
            typed = not str(cell.value).startswith("=") and column not in (COLUMN["#"], None)
            assert (cell.font.color is not None and cell.font.color.rgb == "FF0000FF") == typed, cell.coordinate
    assert sheet["A3"].hyperlink.location == f"'{OVERVIEW}'!A1"
    assert book[design_sheet.DESIGN][f"{LAST}{IMAGE}"].value == "check"  # nothing measured to compare with


def test_a_sheet_for_every_network(book):
    assert book.sheetnames == [OVERVIEW, *NETWORKS, design_sheet.DESIGN]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_sheet_shows_trace_and_measurement(cached, name):
    rows = trace(NETWORKS[name]())
    widths = [last - first + 1 for first, last in measure_fields(NETWORKS[name]())]
    for number, (row, width) in enumerate(zip(rows, widths, strict=True), FIRST):
        assert row_values(cached[name], number) == values(row) | {"moving": width}
        assert width == values(row)["seen"]
    total = total_line(rows) + 1
    assert cached[name][f"{LETTER['params']}{total}"].value == count_parameters(NETWORKS[name]())


def test_the_overview_says_what_the_networks_are(book, cached):
    lines = list(cached[OVERVIEW].iter_rows(min_row=5, max_row=4 + len(NETWORKS)))
    for name, line in zip(NETWORKS, lines, strict=True):
        rows = trace(NETWORKS[name]())
        products = sum(row.multiply_accumulates for row in rows)
        expected = [name, count_parameters(NETWORKS[name]()), products, rows[-1].field_out, "yes"]
        assert [line[place].value for place in (0, 3, 4, 5, 6)] == expected
        assert book[OVERVIEW][line[0].coordinate].hyperlink.location == f"'{name}'!A1"
        assert str(book[OVERVIEW][line[3].coordinate].value).startswith(f"='{name}'!")
    assert [line[2].value for line in lines] == ["1", "2, 3", *"–" * (len(NETWORKS) - 2)]
    assert [line[1].value for line in lines][-1] == "Every kind of layer."


def test_every_formula_has_its_value_beside_it(book, cached):
    formulas = [
        (sheet.title, cell.coordinate)
        for sheet in book
        for line in sheet.iter_rows()
        for cell in line
        if cell.data_type == "f"
    ]
    assert len(formulas) > 100
    charted = xl_col_to_name(design_sheet.HIDDEN + len(design_sheet.COUNTED))
    free = {f"{letter}{FIRST + number}" for letter in (LAST, charted) for number in range(design_sheet.DESIGN_ROWS)}
    for title, place in formulas:  # a formula may also show nothing
        assert cached[title][place].value is not None or (title == design_sheet.DESIGN and place in free)


def test_libreoffice_calculates_the_same(book, cached, recalculated):
    for sheet in book:
        for line in sheet.iter_rows():
            for cell in line:
                expected = cached[sheet.title][cell.coordinate].value
                found = recalculated["plain.xlsx"][sheet.title][cell.coordinate].value
                assert found == expected or (found or None) == (expected or None), (sheet.title, cell.coordinate)


@pytest.mark.parametrize("name", NETWORKS)
def test_libreoffice_agrees_with_trace_and_measurement(recalculated, name):
    network = NETWORKS[name]()
    spans = measure_fields(network)
    for number, (row, (first, last)) in enumerate(zip(trace(network), spans, strict=True), FIRST):
        assert row_values(recalculated["plain.xlsx"][name], number) == values(row) | {"moving": last - first + 1}


def test_a_changed_number_flows_through_the_sheets(recalculated):
    before, after = recalculated["plain.xlsx"], recalculated["typed.xlsx"]
    last = total_line(trace(Cell()))
    final, total = f"{LETTER['r_out']}{last}", f"{LETTER['params']}{last + 1}"
    assert after["AB12"][f"{LETTER['r_out']}{FIRST}"].value == 5
    assert after["AB12"][total].value == before["AB12"][total].value + 4 * (25 - 9)
    line = 5 + list(NETWORKS).index("AB12")
    assert after[OVERVIEW][f"F{line}"].value == after["AB12"][final].value != before["AB12"][final].value
    assert (before[OVERVIEW][f"G{line}"].value, after[OVERVIEW][f"G{line}"].value) == ("yes", "no")


def test_a_network_of_ones_own_is_calculated_as_the_trace_does(recalculated):
    sheet = recalculated["typed.xlsx"][design_sheet.DESIGN]
    rows = iter(trace(DESIGNED))
    for number, typed in enumerate(TYPED, FIRST):
        if typed:
            row = next(rows)
        expected = values(row if typed else design_sheet.pass_on(row))
        for symbol in ("c_in", "n_in", "n_out", "j_in", "j_out", "r_in", "r_out", "first", "middle", "seen"):
            assert sheet[f"{LETTER[symbol]}{number}"].value == expected[symbol], (symbol, number)
        assert sheet[f"{LETTER['params']}{number}"].value == expected["params"]
        assert sheet[f"{LETTER['MACs']}{number}"].value == expected["MACs"]
        assert not sheet[f"{LAST}{number}"].value  # nothing to mend
    below = FIRST + design_sheet.DESIGN_ROWS
    assert sheet[f"{LETTER['params']}{below}"].value == count_parameters(DESIGNED)
    assert sheet[f"{LETTER['r_out']}{below - 1}"].value == trace(DESIGNED)[-1].field_out


def test_what_cannot_be_a_network_is_told(recalculated):
    sheet = recalculated["impossible.xlsx"][design_sheet.DESIGN]
    said = [sheet[f"{LAST}{number}"].value or "" for number in range(FIRST, FIRST + len(IMPOSSIBLE) + 1)]
    for found, (_, message) in zip(said, IMPOSSIBLE, strict=False):
        assert message in found and bool(found) == bool(message)
    assert sheet[f"{LETTER['params']}3"].value == sum(bool(message) for _, message in IMPOSSIBLE)


def test_the_design_is_checked(recalculated):
    place = LETTER["params"]
    for name, left, ends in (("plain.xlsx", 7999 - 1578, "yes"), ("typed.xlsx", None, "no")):
        sheet = recalculated[name][design_sheet.DESIGN]
        left = 7999 - count_parameters(DESIGNED) if left is None else left
        assert [sheet[f"{place}{number}"].value for number in (1, 2, 3)] == [left, ends, 0]


def test_the_design_sheet_takes_whole_numbers_only(book):
    rules = {str(rule.sqref): rule for rule in book[design_sheet.DESIGN].data_validations.dataValidation}
    kernels = rules[f"{LETTER['k']}{FIRST}:{LETTER['k']}{FIRST + design_sheet.DESIGN_ROWS - 1}"]
    assert (kernels.type, kernels.operator, kernels.formula1) == ("whole", "greaterThanOrEqual", "1")
    assert kernels.allowBlank


def test_a_workbook_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "fields.xlsx"
    workbook.write_workbook(path, NETWORKS, STEPS)
    assert openpyxl.load_workbook(path).sheetnames[0] == OVERVIEW
    before = path.read_bytes()
    for name, network, message in [
        ("Branched", nn.ModuleList, "cannot trace ModuleList"),
        ("a name of more than thirty-one letters", Cell, "31"),
        ("Overview", Cell, "already in use"),
    ]:
        with pytest.raises(WorkbookError, match=message):
            workbook.write_workbook(path, {**MODELS, name: network}, STEPS)
    with pytest.raises(WorkbookError, match="cannot write"):
        workbook.write_workbook(path / "below a file", NETWORKS, STEPS)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
