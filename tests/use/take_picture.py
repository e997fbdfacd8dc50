"""Take images/draw.png, the README's picture of the drawing page, anew: python tests/use/take_picture.py"""

import base64
import io
import tempfile
from pathlib import Path

from browser import Browser
from PIL import Image

ROOT = Path(__file__).parents[2]
STRONGEST = """(() => {
    const stage = stages[1], values = readings[0].maps[stage.index].values;
    const at = values.indexOf(Math.max(...values)), unit = at % stage.side ** 2;
    choose(stage, Math.floor(at / stage.side ** 2), Math.floor(unit / stage.side), unit % stage.side);
})()"""


def main() -> None:
    """A sample is drawn, and the strongest unit of the second layer chosen."""
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder))
        try:
            browser.resize(1160, 800)
            browser.send("Emulation.setScrollbarsHidden", hidden=True)
            browser.open((ROOT / "notebooks" / "draw.html").as_uri() + "#3")
            browser.run(STRONGEST)
            browser.run("new Promise((shown) => setTimeout(shown, 500))")  # the bars have grown
            taken = base64.b64decode(browser.send("Page.captureScreenshot", format="png")["data"])
        finally:
            browser.close()
    with Image.open(io.BytesIO(taken)) as picture:
        picture.convert("RGB").quantize(128).save(ROOT / "images" / "draw.png", optimize=True)


if __name__ == "__main__":
    main()
