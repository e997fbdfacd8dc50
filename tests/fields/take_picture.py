"""Take images/workbook.png, the picture of the workbook's design sheet, anew: python tests/fields/take_picture.py

It needs LibreOffice (soffice) and poppler (pdftoppm).
"""

import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

ROOT = Path(__file__).parents[2]
FOOTER = 120  # pixels


def main() -> None:
    """The last sheet as LibreOffice prints it, without its margins."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "RF_calculations.pdf")
        subprocess.run(
            ["soffice", "--headless", "--convert-to", "pdf", "--outdir", folder, ROOT / "RF_calculations.xlsx"],
            check=True,
            capture_output=True,
        )
        subprocess.run(["pdftoppm", "-r", "200", "-png", made, Path(folder, "page")], check=True)
        with Image.open(max(Path(folder).glob("page-*.png"))) as page:
            sheet = page.convert("RGB").crop((0, 0, page.width, page.height - FOOTER))
    ink = ImageOps.invert(sheet.convert("L")).getbbox()
    sheet = ImageOps.expand(sheet.crop(ink), 12, "white")
    sheet.resize((1660, 1660 * sheet.height // sheet.width), Image.Resampling.LANCZOS).quantize(64).save(
        ROOT / "images" / "workbook.png", optimize=True
    )


if __name__ == "__main__":
    main()
