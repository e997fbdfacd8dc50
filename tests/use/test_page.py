"""The drawing page, in a real browser where there is one."""

import base64
import json
import math
import random

import numpy as np
import pytest
import torch
from browser import CHROMIUM, Browser, wait_for
from PIL import Image
from torch import nn

from mnist_lab.batches import normalise
from mnist_lab.cli import main
from mnist_lab.fields.trace import trace
from mnist_lab.models import SkeletonNet
from mnist_lab.runtime import ROOT
from mnist_lab.use.page import PageError, render
from mnist_lab.use.preprocess import MOST_DIGITS, find_digits, fit
from mnist_lab.use.pytorch import build, from_torch
from mnist_lab.use.reading import load_confidence
from mnist_lab.use.weights import Network, load

# Ten digits as somebody may draw them: points on a square of 100, a line for each stroke.
DRAWN = {
    0: ["48,14 36,18 27,30 23,46 25,62 32,76 44,84 58,82 69,70 74,54 72,36 64,20 50,14"],
    1: ["52,10 50,30 49,50 48,70 46,90"],
    2: ["30,24 38,14 52,10 64,16 68,28 62,42 50,56 36,70 24,84 40,84 58,83 78,84"],
    3: ["30,16 44,10 60,12 68,22 64,36 52,44 42,46 56,48 68,56 72,70 64,82 48,88 32,84"],
    4: ["40,10 34,28 26,48 22,60 40,60 60,58 80,56", "60,34 58,52 56,70 54,90"],
    5: ["38,14 36,28 34,44 46,40 60,44 68,56 66,70 56,82 42,86 28,80", "38,14 54,13 72,12"],
    6: ["62,10 50,20 40,36 34,54 34,70 42,82 56,84 66,76 68,64 60,54 48,54 38,62"],
    7: ["24,16 40,15 58,14 76,14 68,32 60,50 52,70 46,90", "36,50 50,49 66,48"],
    8: ["50,48 38,40 34,28 40,16 52,12 64,18 66,30 58,42 46,52 36,64 34,76 44,86 58,86 68,76 66,62 56,52 50,48"],
    9: ["66,24 56,14 44,14 36,24 36,38 44,46 56,44 64,34 66,24 66,44 62,66 54,90"],
}
AREA = "(() => { const box = surface.getBoundingClientRect(); return [box.left, box.top, box.width, box.height]; })()"
LEAVE = "dispatchEvent(new Event('beforeunload', { cancelable: true }))"  # true: the browser asks nothing
FRAME = "['x', 'y', 'width', 'height'].map((name) => Number($('field-%s').getAttribute(name)))"
SHOWN = "new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)))"
STRANGE = nn.Sequential(  # every kind of layer that the page knows, in ways that our networks do not use them
    nn.Conv2d(1, 6, 5, stride=2, padding=2), nn.BatchNorm2d(6), nn.ReLU(),  # 14
    nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, groups=2, bias=False), nn.SiLU(), nn.BatchNorm2d(8)),  # 14
    nn.MaxPool2d(3, 2, padding=1), nn.Dropout(0.1),  # 7
    nn.AvgPool2d(3, 2, padding=1),  # 4
    nn.Flatten(), nn.Linear(128, 10),
)  # fmt: skip


@pytest.fixture(scope="module")
def html():
    """The page of the tracked network."""
    return render(load(), load_confidence().sure_from)


@pytest.fixture(scope="module")
def page(html, tmp_path_factory):
    """The page as a file in a folder."""
    path = tmp_path_factory.mktemp("folder with spaces & ümlauts") / "draw.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium, page):
    """A browser that shows the page, as large as a desktop's window, with nothing drawn."""
    chromium.resize(1200, 900)
    chromium.open(page.as_uri())
    yield chromium
    assert chromium.said("Runtime.exceptionThrown", "Log.entryAdded") == []


def points_of(stroke, left=0.0, top=0.0, size=100.0):
    """Return the points of a stroke as shares of the drawing area, of a digit moved and scaled."""
    points = [point.split(",") for point in stroke.split()]
    return [((left + float(x) * size / 100) / 100, (top + float(y) * size / 100) / 100) for x, y in points]


def draw(browser, strokes, **where):
    """Draw with the mouse."""
    left, top, width, height = browser.run(AREA)
    for stroke in strokes:
        places = [(left + x * width, top + y * height) for x, y in points_of(stroke, **where)]
        browser.mouse("mousePressed", *places[0])
        for place in places[1:]:
            browser.mouse("mouseMoved", *place)
        browser.mouse("mouseReleased", *places[-1])


def answer(browser):
    """Return what the page shows as its answer, and the sentence below it."""
    browser.run(SHOWN)
    return browser.run("[digit.textContent, note.textContent]")


def file(browser, name):
    """Return the path of a file that the page saves."""
    path = browser.downloads / name
    wait_for(path.exists, 10)
    return path


def digits_in(picture):
    """Return what the lab reads in a picture, digit by digit, and their images (28, 28)."""
    images = np.stack([digit.image for digit in find_digits(picture)])
    return load().logits(images).argmax(1).tolist(), images


def test_every_digit_is_read(browser):
    """As drawn with the mouse; with no request but for the file itself, and no script or style refused."""
    read = {}
    for digit, strokes in DRAWN.items():
        draw(browser, strokes)
        read[digit] = int(answer(browser)[0])
        browser.run("clear()")
    assert read == {digit: digit for digit in DRAWN}
    asked = [said["request"]["url"] for said in browser.said("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [browser.run("location.href")]


def test_no_connection_can_be_opened(browser):
    for address in ("data:,here", "https://example.org"):  # the first needs no network: the page itself refuses it
        assert browser.run(f"fetch('{address}').then(() => 'open', () => 'refused')") == "refused"
    browser.events.clear()  # the refusals are logged


def test_an_empty_page_gets_no_answer(browser):
    assert answer(browser) == ["–", "Nothing is drawn yet."]
    assert browser.run("[...bars.querySelectorAll('[role=meter]')].map((bar) => bar.ariaValueNow)") == ["0.0"] * 10
    draw(browser, ["4,96 4,96"])  # a tap
    assert answer(browser)[0] == "–"
    draw(browser, DRAWN[3])  # the tap then counts for nothing
    assert answer(browser)[0] == "3"
    browser.run("clear()")
    assert answer(browser)[0] == "–"


def test_what_is_too_small_is_no_digit(browser):
    """Each by itself, however far apart they lie."""
    draw(browser, ["18,18 18,18", "71,21 71,21"])  # two taps
    assert answer(browser) == ["–", "Too small to read: draw larger."]
    browser.run("clear()")
    draw(browser, DRAWN[3], left=60, top=10, size=30)
    draw(browser, ["10,20 14,20"])
    assert answer(browser)[0] == "3"


@pytest.mark.parametrize("left", [2, 86])
@pytest.mark.parametrize("top", [2, 86])
def test_small_digits_in_a_corner_are_read(browser, left, top):
    for digit in (2, 7):
        draw(browser, DRAWN[digit], left=left, top=top, size=12)
        assert answer(browser)[0] == str(digit)
        browser.run("clear()")


def test_a_fast_pointer_leaves_lines(browser):
    draw(browser, ["26,14 74,14 44,88"])  # two moves
    assert answer(browser)[0] == "7"
    ink = browser.run("(() => { const ink = rasterise(strokes); return [ink.width, [...ink.values]]; })()")
    ink = np.array(ink[1]).reshape(-1, ink[0])
    assert (ink.max(axis=1)[4:-4] == 1).all()  # no row of the digit is without full ink


def test_points_between_two_pictures_of_the_screen_are_kept(browser):
    """Chromium hands over the moves between two pictures as one event, with the others inside of it."""
    left, top, width, height = browser.run(AREA)
    browser.run("moves = 0; surface.addEventListener('pointermove', () => moves++)")
    browser.mouse("mousePressed", left + 40, top + 40)
    places = [(left + 40 + step, top + 40 + step) for step in range(1, 161, 2)]
    browser.hurry([{"type": "mouseMoved", "x": x, "y": y, "button": "left", "buttons": 1} for x, y in places])
    browser.mouse("mouseReleased", *places[-1])
    assert browser.run("moves") < len(places)
    drawn = [[x * width / 280 + left, y * height / 280 + top] for x, y in browser.run("strokes[0]")]
    assert np.allclose(drawn[1:], places, atol=0.01)


def test_lines_leave_the_area_and_come_back(browser):
    """What is drawn outside is drawn on the rim, where it can be seen."""
    draw(browser, ["50,20 120,50 50,80"])
    left, top, _, _ = browser.run(AREA)
    browser.mouse("mouseMoved", left + 9, top + 9, button="none")  # the button was released: nothing is drawn
    assert browser.run("strokes") == [[[140, 56], [280, 140], [140, 224]]]


def test_a_finger_draws_and_scrolls_nothing(chromium, page):
    chromium.resize(390, 700, scale=3, mobile=True)
    chromium.open(page.as_uri())
    assert chromium.run("document.documentElement.scrollHeight > innerHeight")
    assert chromium.run("getComputedStyle(surface).touchAction") == "none"
    left, top, width, height = chromium.run(AREA)
    for stroke in DRAWN[4]:
        places = [{"x": left + x * width, "y": top + y * height, "id": 0} for x, y in points_of(stroke)]
        chromium.touch("touchStart", places[:1])
        chromium.touch("touchStart", [places[0], {"x": left + 5, "y": top + 5, "id": 1}])  # the hand's heel: ignored
        for place in places[1:]:
            chromium.touch("touchMove", [place, {"x": left + 5, "y": top + 9, "id": 1}])
        chromium.touch("touchEnd", [])
    assert answer(chromium)[0] == "4"
    assert chromium.run("[strokes.length, scrollX, scrollY]") == [2, 0, 0]


@pytest.mark.parametrize(
    ("width", "scale", "zoom", "scroll"), [(1200, 1, 1, 0), (600, 2, 1, 40), (1440, 0.8, 1, 0), (1000, 1.25, 1.5, 60)]
)
def test_ink_is_where_the_pointer_is(browser, width, scale, zoom, scroll):
    """At any zoom of the browser (which is a pixel density), of the page, and scroll position."""
    browser.resize(width, 900, scale=scale)
    browser.run(f"document.documentElement.style.zoom = {zoom}; scrollTo(0, {scroll})")
    draw(browser, DRAWN[7])
    assert answer(browser)[0] == "7"
    drawn = np.array([point for stroke in browser.run("strokes") for point in stroke]) / 280
    wanted = np.array([point for stroke in DRAWN[7] for point in points_of(stroke)])
    assert np.abs(drawn - wanted).max() < 0.005


def test_noisy_read_back_changes_nothing(chromium, page):
    """Browsers may add noise to the pixels that a page reads from a canvas: this page reads none."""
    spoil = """
        globalThis.reads = 0;
        const context = CanvasRenderingContext2D.prototype, canvas = HTMLCanvasElement.prototype;
        const noise = (target, name) => {
            const original = target[name];
            target[name] = function (...rest) { globalThis.reads++; return original.apply(this, rest); };
        };
        noise(context, "getImageData"); noise(canvas, "toDataURL"); noise(canvas, "toBlob");"""
    script = chromium.send("Page.addScriptToEvaluateOnNewDocument", source=spoil)["identifier"]
    try:
        chromium.resize(1200, 900)
        chromium.open(page.as_uri())
        draw(chromium, DRAWN[5])
        assert answer(chromium)[0] == "5"
        chromium.run("keep(5)")
        chromium.run("sheet(drawings).then(() => 0)")
        assert chromium.run("reads") == 0
    finally:
        chromium.send("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
        chromium.run("saved = drawings.length")


def test_several_digits_are_read_one_by_one(browser):
    draw(browser, DRAWN[7], left=55, top=30, size=40)
    draw(browser, DRAWN[4], left=0, top=30, size=40)  # drawn last, but on the left
    assert answer(browser)[0] == "4 7"
    assert "2 digits" in answer(browser)[1]
    assert browser.run("[...labels.children].every((button) => button.disabled)")  # one label would be wrong


def test_below_the_threshold_it_is_unsure(browser):
    browser.run("lab.sure_from = 1.1")
    draw(browser, DRAWN[9])
    assert answer(browser)[1].startswith("Unsure: 9 (")
    assert browser.run("digit.classList.contains('unsure')")
    browser.run("lab.sure_from = 0; show()")
    assert "nsure" not in answer(browser)[1]


def test_undo_takes_back_a_stroke_and_a_clearing(browser):
    draw(browser, DRAWN[4])
    browser.run("undo()")
    assert browser.run("strokes.length") == 1
    browser.run("clear(); undo()")
    assert browser.run("strokes.length") == 1
    left, top, _, _ = browser.run(AREA)
    browser.mouse("mousePressed", left + 20, top + 20)
    browser.run("undo(); undo(); undo()")
    browser.mouse("mouseMoved", left + 90, top + 90)  # of a stroke that was taken back
    browser.mouse("mouseReleased", left + 90, top + 90)
    assert browser.run("strokes.length") == 0
    browser.run(SHOWN)
    assert browser.run("$('undo').disabled && $('clear').disabled")


def test_keys_draw_keep_and_clear(browser):
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.id") == "surface"
    right, left, down = ("ArrowRight", 39), ("ArrowLeft", 37), ("ArrowDown", 40)
    for key in [left] * 5:
        browser.press(*key)
    browser.press(" ", 32, " ")
    for key in [right] * 10 + [down, down, left] * 6:
        browser.press(*key)
    browser.press(" ", 32, " ")
    browser.press(*right)  # with the pen lifted
    assert answer(browser)[0] == "7"
    assert browser.run("said.textContent") == answer(browser)[1]  # a screen reader says so
    assert browser.run("strokes.flat().length") == 29
    browser.press("7", 55, "7")
    assert browser.run("[drawings.length, drawings[0].label, drawings[0].read, strokes.length]") == [1, 7, 7, 0]
    browser.run("change(SAMPLES[3])")
    browser.press("Delete", 46)
    assert answer(browser)[0] == "–"
    browser.press("z", 90, modifiers=2)
    assert answer(browser)[0] == "3"
    browser.run("saved = drawings.length")


def test_the_samples_are_read(browser):
    for digit in range(10):
        browser.run(f"samples.children[{digit}].click()")
        assert answer(browser)[0] == str(digit)


def test_preprocessing_is_that_of_python_for_any_ink(browser):
    chance = np.random.default_rng(0)
    worst = 0.0
    inks = [np.ones(size) for size in ((1, 1), (10, 10), (9, 40), (41, 2), (200, 1))]  # their centres lie on an edge
    for case in range(60):
        ink = chance.random(tuple(chance.integers(3, 130, 2))) ** 3
        if case % 2:
            ink[chance.random(ink.shape) < 0.8] = 0  # sparse
        inks.append(ink)
    for ink in inks:
        packed = base64.b64encode(ink.tobytes()).decode()
        found = browser.call(
            """(packed, width) => {
                const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
                const values = new Float64Array(bytes.buffer);
                return [...fit({ values, width, height: values.length / width }).image];
            }""",
            packed,
            ink.shape[1],
        )
        worst = max(worst, np.abs(fit(ink).ravel() - found).max())
    assert worst < 1e-5


def test_preprocessing_is_that_of_python_for_random_drawings(browser):
    """The page's own ink, of random strokes: dots, lines, and scribbles of any size."""
    chance = random.Random(0)
    worst = 0.0
    for _ in range(100):
        size, left, top = chance.uniform(2, 280), chance.uniform(0, 280), chance.uniform(0, 280)
        strokes = [
            [[left + chance.uniform(0, size), top + chance.uniform(0, size)] for _ in range(chance.randint(1, 12))]
            for _ in range(chance.randint(1, 4))
        ]
        found = browser.call(
            """async (drawn) => {
                const ink = rasterise(drawn), reader = new FileReader();
                reader.readAsDataURL(new Blob([ink.values]));
                await new Promise((done) => { reader.onload = done; });
                return [ink.width, reader.result.split(",")[1], [...fit(ink).image]];
            }""",
            strokes,
        )
        ink = np.frombuffer(base64.b64decode(found[1])).reshape(-1, found[0])
        worst = max(worst, np.abs(fit(ink).ravel() - found[2]).max())
    assert worst < 1e-5


def logits_of(browser, images):
    """Return the page's logits (N, 10) for images (N, 1, 28, 28) of uint8."""
    packed = base64.b64encode(images.numpy().tobytes()).decode()
    return torch.tensor(browser.call(
        """(packed) => {
            const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0)), side = lab.side ** 2;
            return Array.from({ length: bytes.length / side }, (_, index) => {
                const image = Array.from(bytes.subarray(index * side, (index + 1) * side), (pixel) => pixel / 255);
                return [...forward(image).at(-1).values];
            });
        }""", packed,
    ))  # fmt: skip


def test_logits_are_those_of_pytorch(browser, mnist):
    images = mnist.test.images[:1000]
    with torch.no_grad():
        expected = build(load())(normalise(images / 255))
    assert (logits_of(browser, images) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("model", [SkeletonNet(), STRANGE], ids=["skeleton", "strange"])
def test_another_network_needs_no_other_page(chromium, tmp_path, model, few):
    torch.manual_seed(0)
    model.train()(torch.rand(64, 1, 28, 28))  # so that the norms' statistics are no longer 0 and 1
    model.eval()
    path = tmp_path / "other.html"
    layers, arrays = from_torch(model)
    network = Network(load().header.model_copy(update={"layers": layers, "recipe": {"epochs": 1}}), arrays)
    path.write_text(render(network, 0.5), encoding="utf-8")
    chromium.open(path.as_uri())
    with torch.no_grad():
        expected = model(normalise(few.images[:20] / 255))
    assert (logits_of(chromium, few.images[:20]) - expected).abs().max() < 1e-4
    rows = trace(model)
    fields = chromium.run("stages.map((stage) => [stage.size, stage.jump, stage.first, stage.side])")
    expected = [(row.span(0), row.span(1), row.size_out) for row in rows[:-1]]
    found = [((first, first + size - 1), (first + jump, first + jump + size - 1), side)
             for size, jump, first, side in fields[:-1]]  # fmt: skip
    assert set(found) == set(expected)  # the page also has a stage for a norm that could not be folded
    (size, _, first, _), last = fields[-1], rows[-1]  # a single unit, without a second one beside it
    assert (first, first + size - 1) == last.span(0)
    chromium.run("change(SAMPLES[5])")
    assert answer(chromium)[0] != "–"
    assert chromium.run("met.textContent") == "another network"  # fixed what is sure
    assert chromium.said("Runtime.exceptionThrown") == []


def test_the_tracked_page_is_that_of_the_tracked_network(html):
    tracked = (ROOT / "notebooks" / "draw.html").read_bytes()
    assert tracked == html.encode(), "mnist-lab draw --no-open --out notebooks/draw.html"
    assert len(tracked) <= 120_000


def test_the_command_writes_the_page(html, tmp_path, capsys):
    path = tmp_path / "page.html"
    assert main(["draw", "--out", str(path)]) == 0  # nobody is at a terminal: no browser opens
    assert path.read_text(encoding="utf-8") == html
    assert capsys.readouterr().out == f"written: {path}\n"


@pytest.mark.parametrize(
    ("option", "terminal", "there"),
    [(["--open"], False, True), (["--open"], False, False), ([], True, True), (["--no-open"], True, None)],
)
def test_the_command_opens_the_page(tmp_path, capsys, monkeypatch, option, terminal, there):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or there)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    path = tmp_path / "a page.html"
    assert main(["draw", *option, "--out", str(path)]) == 0
    assert opened == ([] if there is None else [path.as_uri()])
    assert ("yourself" in capsys.readouterr().out) == (there is False)


def test_the_command_refuses_what_is_no_network_and_no_place(tmp_path, capsys):
    no_network = tmp_path / "weights.safetensors"
    no_network.write_bytes(b"")
    assert main(["draw", "--weights", str(no_network), "--out", str(tmp_path / "page.html")]) == 1
    assert "weights.safetensors" in capsys.readouterr().err
    assert main(["draw", "--out", str(tmp_path / "nowhere" / "page.html")]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [no_network]


def test_a_network_that_tells_other_things_apart_is_refused():
    network = load()
    header = network.header.model_copy(update={"classes": [f"letter {letter}" for letter in "ABCDEFGHIJ"]})
    with pytest.raises(PageError, match="letter A"):
        render(Network(header, network.arrays), 0.5)


def test_the_unit_under_the_pointer_shows_its_field(browser):
    draw(browser, DRAWN[8])
    row = [row for row in trace(build(load())) if row.size_out == 9][-1]
    number = browser.run("stages.findLastIndex((stage) => stage.side === 9)")
    browser.run(f"document.querySelectorAll('.maps')[{number}].scrollIntoView()")
    left, top, cell, wrap = browser.run(f"""(() => {{ const stage = stages[{number}],
        box = stage.area.getBoundingClientRect(); return [box.left, box.top, stage.cell, stage.wrap]; }})()""")
    channel, y, x = wrap + 2, 3, 7  # in the second line of maps
    pitch = 10 * cell
    browser.mouse("mouseMoved", left + 2 * pitch + (x + 0.5) * cell, top + pitch + (y + 0.5) * cell, button="none")
    browser.run(SHOWN)
    frame = browser.run(FRAME % "seen")
    assert frame == [row.span(x)[0], row.span(y)[0], row.field_out, row.field_out]
    value = browser.run(f"readings[0].maps[stages[{number}].index].values[{channel * 81 + y * 9 + x}]")
    text = browser.run("unit.textContent").replace("−", "-")
    assert f"channel {channel + 1}, row {y + 1}, column {x + 1}: {value:.2f}" in text
    browser.run(f"stages[{number}].area.focus()")
    browser.press("ArrowRight", 39)
    assert f"column {x + 2}" in browser.run("unit.textContent")
    browser.mouse("mouseMoved", 5, 5, button="none")
    assert browser.run("getComputedStyle($('field-drawn')).display") == "none"


def test_the_frame_on_the_drawing_is_that_on_the_image(browser):
    """The frame of all 28 x 28 pixels has its centre where the digit's ink has its centre of mass."""
    draw(browser, DRAWN[0], left=50, top=10, size=40)
    browser.run(SHOWN)
    browser.run("choose(stages.at(-1), 0, 0, 0)")
    x, y, width, height = browser.run(FRAME % "drawn")
    points = np.array([point for stroke in DRAWN[0] for point in points_of(stroke, left=50, top=10, size=40)]) * 280
    side = np.ptp(points, axis=0).max() * 1.135 * 28 / 20  # with the pen's width
    assert width == pytest.approx(side, rel=0.06) and height == pytest.approx(side, rel=0.06)
    assert [x + width / 2, y + height / 2] == pytest.approx(points.mean(axis=0), abs=0.05 * side)


def test_drawings_are_kept_and_saved(browser):
    for digit in (3, 8):
        draw(browser, DRAWN[digit])
        browser.run(SHOWN)
        browser.run(f"labels.children[{digit}].click()")
    draw(browser, DRAWN[1])
    browser.run(SHOWN)
    browser.run("keep(7); drop.click()")
    draw(browser, DRAWN[1])
    browser.run(SHOWN)
    browser.run("keep(7)")
    assert browser.run("kept.textContent") == "3 kept, 2 of them read right."
    assert not browser.run(LEAVE)  # the browser asks before they are lost
    browser.run("json.click()")
    drawings = json.loads(file(browser, "drawings-387.json").read_text(encoding="utf-8"))["drawings"]
    assert browser.run(LEAVE)
    assert [(one["label"], one["read"]) for one in drawings] == [(3, 3), (8, 8), (7, 1)]
    assert all(math.isclose(sum(one["probabilities"]), 1, abs_tol=1e-4) for one in drawings)
    browser.run("$('png').click()")
    picture = file(browser, "drawings-387.png")
    with Image.open(picture) as image:
        assert (image.size, image.mode) == ((3 * 224, 224), "L")
    read, images = digits_in(picture)  # a picture that the lab itself reads
    assert read == [3, 8, 1]
    for image, one in zip(images, drawings, strict=True):
        assert np.abs(image - np.reshape(one["image"], (28, 28)) / 255).mean() < 0.02


def test_kept_strokes_are_those_that_were_read(browser):
    """Rounded as they are, they give the image that is kept with them, to the last pixel."""
    browser.run("SAMPLES.forEach((sample, digit) => { change(sample); keep(digit); })")
    images = "drawings.map((one) => [...read(one.strokes)[0].fitted.image].map((pixel) => Math.round(255 * pixel)))"
    assert browser.run(images) == browser.run("drawings.map((one) => one.image)")
    browser.run("saved = drawings.length")


def test_the_browser_asks_until_all_drawings_are_in_a_json_file(browser):
    """A picture has neither strokes nor readings, and the drawings that were kept when it was asked for."""
    browser.run("change(SAMPLES[4]); keep(4); $('png').click(); change(SAMPLES[6]); keep(6)")
    with Image.open(file(browser, "drawings-4.png")) as image:
        assert image.size == (224, 224)
    assert not browser.run(LEAVE)
    browser.run("drop.click()")
    assert not browser.run(LEAVE)  # the 4 is only in the picture
    browser.run("json.click()")
    assert browser.run(LEAVE)
    browser.run("change(SAMPLES[6]); keep(6)")
    assert not browser.run(LEAVE)
    browser.run("drop.click()")
    assert browser.run(LEAVE)
    browser.run("drop.click(); change(SAMPLES[6]); keep(6)")
    assert not browser.run(LEAVE)  # one drawing, as in the file, but another
    browser.run("drop.click()")
    assert browser.run(LEAVE)


def test_a_picture_shows_what_was_read(browser):
    """Without a tap in a corner, which would make the digit smaller."""
    browser.run("for (const taps of [[], [[[4, 270]]]]) { change([...SAMPLES[5], ...taps]); keep(5); }")
    browser.run("$('png').click()")
    with Image.open(file(browser, "drawings-55.png")) as image:
        alone, beside_a_tap = np.hsplit(np.array(image), 2)
    assert np.array_equal(alone, beside_a_tap)
    browser.run("saved = drawings.length")


def test_more_drawings_than_are_read_in_a_picture_become_several(browser):
    labels = [number % 10 for number in range(MOST_DIGITS + 1)]
    browser.call("(labels) => { for (const label of labels) { change(SAMPLES[label]); keep(label); } }", labels)
    browser.run("$('png').click()")
    for row in (labels[:MOST_DIGITS], labels[MOST_DIGITS:]):
        read, _ = digits_in(file(browser, f"drawings-{''.join(map(str, row))}.png"))
        assert read == row
    assert "2 pictures" in browser.run("kept.textContent")
    browser.run("saved = drawings.length")


def test_everything_has_a_name(browser):
    """As a screen reader is told: roles that can be used have names; there is a language, a title, a live region."""
    draw(browser, DRAWN[2])
    browser.run(SHOWN)
    nodes = [node for node in browser.send("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
    used = {"button", "application", "image", "meter", "list", "region", "heading", "DisclosureTriangle"}
    assert [role for role, name in roles if role in used and not name.strip()] == []
    found = {role for role, _ in roles}
    assert {"button", "application", "image", "meter", "heading", "status"} <= found
    assert browser.run("document.documentElement.lang") == "en" and browser.run("document.title")
    assert browser.run("[...document.querySelectorAll('[id]')].map((one) => one.id).length === "
                       "new Set([...document.querySelectorAll('[id]')].map((one) => one.id)).size")  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_paper(browser, scheme):
    """By at least 4.5 : 1, as WCAG 2 asks of text (success criterion 1.4.3); and nothing moves for who wants that."""
    features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    browser.send("Emulation.setEmulatedMedia", features=[{"name": name, "value": features[name]} for name in features])
    colours = browser.run("""Object.fromEntries(["paper", "panel", "text", "quiet", "accent"].map((name) =>
        [name, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim()]))""")
    light = {name: luminance(colour) for name, colour in colours.items()}
    assert (light["paper"] < 0.5) == (scheme == "dark")
    for paper in ("paper", "panel"):
        for ink in ("text", "quiet", "accent"):
            low, high = sorted((light[paper], light[ink]))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (paper, ink)
    assert browser.run("getComputedStyle(bars.querySelector('i')).transitionDuration") == "0s"
    browser.send("Emulation.setEmulatedMedia", features=[])


def luminance(colour):
    """Return the relative luminance of a colour like "#0b62c4", as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_drawing_and_answer_at_once(chromium, page, width):
    chromium.resize(width, 780, scale=2, mobile=True)
    chromium.open(page.as_uri())
    chromium.run("change(SAMPLES[2])")
    chromium.run(SHOWN)
    assert chromium.run("document.documentElement.scrollWidth <= innerWidth")
    assert chromium.run("note.getBoundingClientRect().bottom") < 780
    small = chromium.run("Math.min(...[...document.querySelectorAll('button')].map((one) => one.offsetHeight))")
    assert small >= 36  # CSS pixels: a finger hits it
