import io
import shutil
import subprocess
import zipfile

import openpyxl
import pytest
from torch import nn

from mnist_lab import cli, runner, workbook
from mnist_lab.field_sheet import IMAGE, LETTER, OVERVIEW, total_line, values
from mnist_lab.input_gradient import measure_fields
from mnist_lab.models import MODELS, build, count_parameters
from mnist_lab.receptive_field import trace
from mnist_lab.runner import RunError

STEPS = runner.find_steps()
SOFFICE = shutil.which("soffice") or shutil.which("libreoffice")
FIRST = IMAGE + 2  # the first layer's row, as sheets count


class Cell(nn.Sequential):
    """Every kind of layer of published networks.

    Its name in the series, "AB12", is that of a cell.
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


# A network as a student types it, with rows left blank, and the same network as the trace sees it.
TYPED = [
    {"type": "conv", "c_out": 6, "g": 1, "b": 1, "k": 5, "s": 2, "p": 2},
    {},
    {"k": 3, "s": 2, "p": 1},
    {"g": 6, "b": 2, "k": 3, "d": 2},
    {},
    {"c_out": 4, "g": 1, "k": 1},
]
DESIGNED = nn.Sequential(
    nn.Conv2d(1, 6, 5, stride=2, padding=2),
    nn.MaxPool2d(3, 2, padding=1),
    nn.Conv2d(6, 6, 3, dilation=2, groups=6, bias=False),
    nn.BatchNorm2d(6),
    nn.Conv2d(6, 4, 1, bias=False),
)


@pytest.fixture(scope="module", autouse=True)
def one_more():
    """A network that was added later: no other line here knows it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "AB12", Cell)
        yield


@pytest.fixture(scope="module")
def content(one_more) -> bytes:
    return workbook.make_workbook(STEPS)


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
    for number in range(workbook.DESIGN_ROWS):
        for symbol in ("type", "c_out", "g", "b", "k", "s", "p", "d"):
            typed = TYPED[number].get(symbol) if number < len(TYPED) else None
            book[workbook.DESIGN][f"{LETTER[symbol]}{FIRST + number}"] = typed
    book.save(folder / "typed.xlsx")
    book[workbook.DESIGN][f"{LETTER['k']}{FIRST}"] = 40
    book.save(folder / "too large.xlsx")
    names = ["plain.xlsx", "typed.xlsx", "too large.xlsx"]
    profile = f"-env:UserInstallation=file://{folder}/profile"
    command = [SOFFICE, profile, "--headless", "--convert-to", "xlsx", "--outdir", folder / "out", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {name: openpyxl.load_workbook(folder / "out" / name, data_only=True) for name in names}


def row_values(sheet, number: int) -> dict:
    return {symbol: sheet[f"{letter}{number}"].value for symbol, letter in LETTER.items()}


def test_the_tracked_workbook_is_of_todays_networks_and_steps(monkeypatch):
    monkeypatch.delitem(MODELS, "AB12")
    tracked, made = (
        {entry.filename: archive.read(entry) for entry in archive.infolist()}
        for archive in (
            zipfile.ZipFile(workbook.WORKBOOK),
            zipfile.ZipFile(io.BytesIO(workbook.make_workbook(STEPS))),
        )
    )  # the content of every part in it: another version of zlib packs the same content into other bytes
    assert tracked == made, "out of date: .venv/bin/mnist-lab workbook"


def test_the_same_bytes_every_time(content):
    assert workbook.make_workbook(STEPS) == content


def test_a_sheet_for_every_network(book):
    assert book.sheetnames == [OVERVIEW, *MODELS, workbook.DESIGN]


@pytest.mark.parametrize("name", [*MODELS, "AB12"])
def test_a_sheet_shows_trace_and_measurement(cached, name):
    rows = trace(build(name))
    widths = [last - first + 1 for first, last in measure_fields(build(name))]
    for number, (row, width) in enumerate(zip(rows, widths, strict=True), FIRST):
        assert row_values(cached[name], number) == values(row, 28) | {"moving": width}
        assert width == values(row, 28)["seen"]
    total = total_line(rows) + 1
    assert cached[name][f"{LETTER['params']}{total}"].value == count_parameters(build(name))


def test_the_overview_says_what_the_networks_are(book, cached):
    lines = list(cached[OVERVIEW].iter_rows(min_row=5, max_row=4 + len(MODELS)))
    for name, line in zip(MODELS, lines, strict=True):
        rows = trace(build(name))
        products = sum(row.multiply_accumulates for row in rows)
        expected = [name, count_parameters(build(name)), products, rows[-1].field_out, "yes"]
        assert [line[place].value for place in (0, 3, 4, 5, 6)] == expected
        assert book[OVERVIEW][line[0].coordinate].hyperlink.location == f"'{name}'!A1"
        assert str(book[OVERVIEW][line[3].coordinate].value).startswith(f"='{name}'!")
    assert [line[2].value for line in lines] == ["1", "2, 3", *"–" * (len(MODELS) - 2)]
    assert [line[1].value for line in lines][-1] == "Every kind of layer of published networks."


def test_every_formula_has_its_value_beside_it(book, cached):
    formulas = [
        (sheet.title, cell.coordinate)
        for sheet in book
        for line in sheet.iter_rows()
        for cell in line
        if cell.data_type == "f"
    ]
    assert len(formulas) > 100
    free = {f"{LETTER['moving']}{FIRST + number}" for number in range(workbook.DESIGN_ROWS)} | {f"{LETTER['n_out']}3"}
    for title, place in formulas:  # a formula may also show nothing
        assert cached[title][place].value is not None or (title == workbook.DESIGN and place in free)


def test_libreoffice_calculates_the_same(book, cached, recalculated):
    for sheet in book:
        for line in sheet.iter_rows():
            for cell in line:
                expected = cached[sheet.title][cell.coordinate].value
                found = recalculated["plain.xlsx"][sheet.title][cell.coordinate].value
                assert found == expected or (found or None) == (expected or None), (sheet.title, cell.coordinate)


@pytest.mark.parametrize("name", [*MODELS, "AB12"])
def test_libreoffice_agrees_with_trace_and_measurement(recalculated, name):
    network = build(name)
    spans = measure_fields(network)
    for number, (row, (first, last)) in enumerate(zip(trace(network), spans, strict=True), FIRST):
        assert row_values(recalculated["plain.xlsx"][name], number) == values(row, 28) | {"moving": last - first + 1}


def test_a_changed_number_flows_through_the_sheets(recalculated):
    before, after = recalculated["plain.xlsx"], recalculated["typed.xlsx"]
    last = total_line(trace(build("AB12")))
    final, total = f"{LETTER['r_out']}{last}", f"{LETTER['params']}{last + 1}"
    assert after["AB12"][f"{LETTER['r_out']}{FIRST}"].value == 5
    assert after["AB12"][total].value == before["AB12"][total].value + 4 * (25 - 9)
    line = 5 + list(MODELS).index("AB12")
    assert after[OVERVIEW][f"F{line}"].value == after["AB12"][final].value != before["AB12"][final].value
    assert (before[OVERVIEW][f"G{line}"].value, after[OVERVIEW][f"G{line}"].value) == ("yes", "no")


def test_a_network_of_ones_own_is_calculated_as_the_trace_does(recalculated):
    sheet = recalculated["typed.xlsx"][workbook.DESIGN]
    rows = iter(trace(DESIGNED))
    for number, typed in enumerate(TYPED, FIRST):
        if typed:
            row = next(rows)
        expected = values(row if typed else workbook.pass_on(row), 28)
        for symbol in ("c_in", "n_in", "n_out", "j_in", "j_out", "r_in", "r_out", "first", "middle", "seen"):
            assert sheet[f"{LETTER[symbol]}{number}"].value == expected[symbol], (symbol, number)
        assert sheet[f"{LETTER['params']}{number}"].value == expected["params"]
        assert sheet[f"{LETTER['MACs']}{number}"].value == expected["MACs"]
        assert sheet[f"{LETTER['moving']}{number}"].value in ([expected["r_out"]] if typed else [None, ""])
    below = FIRST + workbook.DESIGN_ROWS
    assert sheet[f"{LETTER['params']}{below}"].value == count_parameters(DESIGNED)
    assert sheet[f"{LETTER['r_out']}{below - 1}"].value == trace(DESIGNED)[-1].field_out


def test_a_kernel_that_does_not_fit_is_told(recalculated):
    place = f"{LETTER['n_out']}3"
    assert not recalculated["typed.xlsx"][workbook.DESIGN][place].value
    assert "larger than what comes in" in recalculated["too large.xlsx"][workbook.DESIGN][place].value


def test_the_design_sheet_takes_whole_numbers_only(book):
    rules = {str(rule.sqref): rule for rule in book[workbook.DESIGN].data_validations.dataValidation}
    kernels = rules[f"{LETTER['k']}{FIRST}:{LETTER['k']}{FIRST + workbook.DESIGN_ROWS - 1}"]
    assert (kernels.type, kernels.operator, kernels.formula1) == ("whole", "greaterThanOrEqual", "1")
    assert kernels.allowBlank


def test_the_command_writes_the_file(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(workbook, "WORKBOOK", tmp_path / "RF_calculations.xlsx")
    assert cli.main(["workbook"]) == 0
    assert openpyxl.load_workbook(workbook.WORKBOOK).sheetnames[0] == OVERVIEW
    assert "RF_calculations.xlsx" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["RF_calculations.xlsx"]


def test_a_file_that_cannot_be_written_is_told_and_the_old_one_stays(monkeypatch, tmp_path):
    path = tmp_path / "RF_calculations.xlsx"
    path.write_bytes(b"old")

    def full(self, content):
        open(self, "wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(RunError, match=r"cannot write .*RF_calculations\.xlsx: No space left on device"):
        workbook.write_workbook(path, STEPS)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(RunError, match="cannot write"):
        workbook.write_workbook(tmp_path / "nowhere" / path.name, STEPS)


@pytest.mark.parametrize(
    ("name", "network", "message"),
    [
        ("Branched", lambda: nn.ModuleList(), "cannot trace ModuleList"),
        ("a name of more than thirty-one letters", Cell, "31"),
        ("Overview", Cell, "already in use"),
    ],
)
def test_a_network_that_cannot_have_a_sheet_is_told(monkeypatch, tmp_path, name, network, message):
    monkeypatch.setitem(MODELS, name, network)
    with pytest.raises(RunError, match=message):
        workbook.write_workbook(tmp_path / "RF_calculations.xlsx", STEPS)
    assert list(tmp_path.iterdir()) == []
