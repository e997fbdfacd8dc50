import io

import numpy as np
import pytest
from drawings import as_file, draw, photograph
from PIL import Image, ImageDraw, ImageOps

from mnist_lab.use import load
from mnist_lab.use.preprocess import NoDigit, PictureError, area_weights, find_digits, find_ink, fit, read_picture


def read(picture) -> str:
    found = find_digits(picture if isinstance(picture, bytes) else as_file(picture))
    logits = load().logits(np.stack([digit.image for digit in found]))
    return "".join(map(str, logits.argmax(1)))


def test_mnist_comes_back_to_itself(mnist):
    """Its images are already what fitting aims at, but for faint pixels at the edge of some; also when drawn large."""
    same = 0
    for image in mnist.test.images[:200, 0].numpy() / 255:
        large = np.pad(np.kron(image, np.ones((6, 6))), ((10, 200), (90, 0)))
        assert np.abs(fit(large) - fit(image)).max() < 1e-12
        same += np.abs(fit(image) - image).max() < 0.2
    assert same >= 198


def test_fitting_follows_its_recipe():
    ink = np.zeros((400, 300))
    ink[50:350, 40:60] = 0.5  # 300 x 20: scaled to 20 x 1, at full ink
    ink[10, 10] = 0.09  # fainter than a fifth of the darkest: not part of the digit
    image = fit(ink)
    expected = np.zeros((28, 28))
    expected[4:24, 14] = 1  # rows 0 ... 19 have their centre at 9.5, which rounds to 10 and goes to 14
    assert np.allclose(image, expected)
    # An L of 20 x 20: its mass is at row 14.25 and column 4.75, so that it would leave the image on the right.
    ink = np.zeros((20, 20))
    ink[:, 0] = ink[19, 1:] = 1
    image = fit(ink)
    assert np.array_equal(image[0:20, 8:28], ink) and image.sum() == ink.sum()


@pytest.mark.parametrize(("out", "size"), [(20, 20), (20, 137), (20, 7), (1, 3), (13, 13 * 4)])
def test_area_weights_keep_what_is_there(out, size):
    weights = area_weights(out, size)
    assert weights.shape == (out, size) and np.allclose(weights.sum(axis=1), 1)
    assert np.allclose(weights.sum(axis=0), out / size)
    if size % out == 0:
        values = np.arange(float(size))
        assert np.allclose(weights @ values, values.reshape(out, -1).mean(axis=1))


def test_fitting_refuses_what_is_no_ink():
    for wrong in (np.full((3, 3), np.nan), np.full((3, 3), 2.0), np.zeros((0, 3)), np.zeros(3), -np.ones((2, 2))):
        with pytest.raises(ValueError, match="ink must be"):
            fit(wrong)
    with pytest.raises(NoDigit, match="no ink"):
        fit(np.zeros((5, 5)))


@pytest.mark.parametrize("pen", [0.02, 0.05, 0.09, 0.14])
@pytest.mark.parametrize("height", [30, 100, 700])
def test_pictures_of_any_size_and_pen(height, pen):
    assert read(draw("4701235", height, pen)) == "4701235"


def test_pictures_of_any_mode():
    page = draw("7052")
    grey = np.asarray(page)
    clear = Image.merge("LA", (Image.new("L", page.size, 0), ImageOps.invert(page)))
    white_on_clear = Image.merge("LA", (Image.new("L", page.size, 255), ImageOps.invert(page)))
    palette = page.convert("P")
    palette.info["transparency"] = 255  # the paper's place in the palette
    many = {
        "inverted": ImageOps.invert(page),
        "grey on grey": Image.fromarray((90 + 60 * (grey / 255)).astype(np.uint8)),
        "16 bits": Image.fromarray(200 + grey.astype(np.uint16) * 40),
        "one bit": page.convert("1"),
        "palette": page.convert("P"),
        "transparent palette": palette,
        "transparent": clear,
        "white on transparent": white_on_clear,
        "colour": ImageOps.colorize(page, (20, 40, 160), (250, 245, 220)),
        "with an alpha that says nothing": page.convert("RGBA"),
    }
    assert {name: read(picture) for name, picture in many.items()} == dict.fromkeys(many, "7052")
    assert read(as_file(page.convert("CMYK"), "JPEG")) == "7052"
    assert read(as_file(Image.fromarray(grey.astype(np.float32)), "TIFF")) == "7052"
    for form in ("JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        assert read(as_file(page, form)) == "7052", form


def test_a_camera_that_was_held_sideways():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    assert read(as_file(draw("72").rotate(90, expand=True), "JPEG", exif=exif)) == "72"


@pytest.mark.parametrize("ink", [0.15, 0.4, 0.6])
def test_photographs_of_paper_in_uneven_light(ink):
    photo = photograph(draw("40713"), ink)
    assert read(as_file(photo, "JPEG", quality=60)) == "40713"
    levelled = find_ink(read_picture(as_file(photo))[0])
    paper = np.asarray(draw("40713")) == 255
    assert np.mean(levelled[paper] > 0) < 0.01 and np.mean(levelled[~paper] > 0.5) > 0.9


def test_frames_ruled_lines_and_specks_are_no_digits():
    page = draw("520", margin=0.5)
    pencil = ImageDraw.Draw(page)
    right, bottom = page.width - 1, page.height - 1
    pencil.rectangle((0, 0, right, bottom), outline=0, width=3)
    pencil.ellipse((20, 20, 30, 30), fill=0)
    assert read(page) == "520"
    page = draw("31", margin=0.5)
    pencil = ImageDraw.Draw(page)
    for y in (40, page.height - 30):
        pencil.line((0, y, page.width, y), fill=0, width=2)
    assert read(page) == "31"


def test_digits_cropped_to_the_edge():
    for digits in ("14", "41", "5", "50"):
        page = draw(digits)
        assert read(page.crop(ImageOps.invert(page).getbbox())) == digits


def test_boxes_are_where_the_digits_are():
    page = draw("47", height=2000)  # made smaller, since it is larger than needed
    boxes = [digit.box for digit in find_digits(as_file(page))]
    ink = np.asarray(page) < 128
    halves = ink[:, : page.width // 2], ink[:, page.width // 2 :]
    for (left, top, right, bottom), half, start in zip(boxes, halves, (0, page.width // 2), strict=True):
        rows, columns = (np.flatnonzero(half.any(axis)) for axis in (1, 0))
        expected = (columns[0] + start, rows[0], columns[-1] + start, rows[-1])
        assert np.abs(np.array((left, top, right, bottom)) - expected).max() < 12


@pytest.mark.parametrize("height", [200, 4001])
def test_boxes_stay_inside_the_picture(height):
    """Also those of ink at all edges, in a picture that is made smaller by a factor that is no whole number."""
    page = draw("0", height=height)
    page = page.crop(ImageOps.invert(page).getbbox())
    (digit,) = find_digits(as_file(page))
    assert digit.box == (0, 0, *page.size)


def broken(page: bytes) -> bytes:
    return page[: len(page) // 2]


def test_what_is_no_picture(tmp_path):
    page = draw("7")
    bomb = as_file(Image.new("1", (20_000, 20_000), 1))
    cases = {
        "it is empty: 0 bytes": b"",
        "not a picture of a kind": b"hello",
        "or a PDF's page, as PNG": as_file(page, "PDF"),
        "truncated": broken(as_file(page, "JPEG")),
        "more than 90 million pixels": bomb,
    }
    for message, content in cases.items():
        with pytest.raises(PictureError, match=message):
            find_digits(content)
        file = tmp_path / "picture.png"
        file.write_bytes(content)
        with pytest.raises(PictureError, match=message):
            find_digits(file)
    with pytest.raises(PictureError):
        find_digits(broken(as_file(page)))
    with pytest.raises(PictureError, match="No such file"):
        find_digits(tmp_path / "nowhere.png")
    with pytest.raises(PictureError, match="directory"):
        find_digits(tmp_path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_damaged_bytes_end_in_a_sentence_or_a_digit(form):
    whole, generator = as_file(draw("7", height=40), form), np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole)
        for place in generator.integers(0, len(content), 4):
            content[place] = generator.integers(0, 256)
        try:
            found = find_digits(bytes(content))
        except (PictureError, NoDigit):
            continue
        assert all(digit.image.shape == (28, 28) and np.isfinite(digit.image).all() for digit in found)


def test_pictures_without_a_digit():
    grain = photograph(Image.new("L", (300, 200), 255))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8))
    dots = Image.new("L", (900, 900), 255)
    for x in range(20, 900, 60):
        for y in range(20, 900, 60):
            ImageDraw.Draw(dots).rectangle((x, y, x + 20, y + 40), fill=0)
    dash = Image.new("L", (400, 200), 255)
    ImageDraw.Draw(dash).line((50, 100, 350, 100), fill=0, width=12)
    lines = Image.new("L", (300, 600), 255)
    lines.paste(draw("7", 150), (60, 10))
    lines.paste(draw("2", 150), (60, 300))
    cases = [
        (Image.new("L", (300, 200), 255), "stands out"),
        (Image.new("L", (300, 200), 0), "stands out"),
        (Image.new("RGBA", (30, 20), (0, 0, 0, 0)), "stands out"),
        (Image.new("L", (1, 1), 255), "stands out"),
        (grain, "stand"),
        (noise, "stand"),
        (dots, "shapes stand out"),
        (dash, "too wide for one digit"),
        (lines, "below one another"),
    ]
    for picture, message in cases:
        with pytest.raises(NoDigit, match=message):
            find_digits(as_file(picture))


def test_a_file_may_be_a_path_or_its_content(tmp_path):
    content = as_file(draw("5"))
    (tmp_path / "five.png").write_bytes(content)
    first, second = find_digits(tmp_path / "five.png"), find_digits(content)
    assert np.array_equal(first[0].image, second[0].image)
    assert Image.open(io.BytesIO(content)).size == draw("5").size
