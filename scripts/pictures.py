"""The page of the GPU study, and the README's pictures: figures of that page, as Chromium draws them."""

import base64
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from jaxaccel.report import main as report

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "experiments/accounting"
# By file: the figure's name on the page, its height in pixels, and how many of the picture's each one is.
# What is hatched takes much room as a PNG.
PICTURES = {
    "time.png": ("latency/matvec", 420, 1.5),
    "speedup.png": ("speedup/matvec float32 highest", 420, 1.5),
    "parts.png": ("parts/matvec float32 highest", 400, 1.0),
    "roofline.png": ("roofline/gpu", 440, 1.5),
}
WIDTH = 760
# The page's own function draws them, in light, with the filters as they are when it opens.
DRAW = """([name, size]) => {
  const [drawn, options] = window.jaxaccel.image(window.jaxaccel.figure(name), "png", size);
  return window.Plotly.toImage(drawn, options);
}"""


def main() -> int:
    """Write the page and the pictures. Returns the exit code."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("no Chromium is installed (Debian: apt install chromium)", file=sys.stderr)
        return 1
    page, folder = STUDY / "report.html", STUDY / "figures"
    if code := report([str(STUDY), "--output", str(page)]):
        return code
    folder.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        view = browser.new_page(color_scheme="light")
        view.goto(page.as_uri())
        view.locator("#foot", has_text="Written by").wait_for()
        for name, (figure, height, scale) in PICTURES.items():
            size = {"width": WIDTH, "height": height, "scale": scale}
            url = view.evaluate(DRAW, [figure, size])
            (folder / name).write_bytes(base64.b64decode(url.partition(",")[2]))
            print(f"{folder.relative_to(ROOT) / name}: {(folder / name).stat().st_size / 1000:.0f} kB")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
