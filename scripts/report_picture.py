"""Takes the picture of a report that README shows.

    .venv/bin/python -m scripts.report_picture [REPORT.html] [--output docs/report.png]

In: a run's report (output/report/report.html). Out: its top, as Chromium draws it on a
screen of 1280 x 900, in 64 colours, with `output` for the run's folder. Needs chromium or
google-chrome on the path.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PROJECT = Path(__file__).parents[1]
WIDTH, HEIGHT, COLOURS = 1280, 900, 64
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(arguments: list[str]) -> int:
    """Takes it; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "report", type=Path, nargs="?", default=Path("output/report/report.html")
    )
    parser.add_argument("--output", type=Path, default=PROJECT / "docs" / "report.png")
    options = parser.parse_args(arguments)
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if not browser:
        parser.error(f"none of {', '.join(_BROWSERS)} is on the path: install one")
    if not options.report.is_file():
        parser.error(f"{options.report}: no such file; `make run` writes one")
    with tempfile.TemporaryDirectory() as folder:
        page, taken = Path(folder, "page.html"), Path(folder, "taken.png")
        # The picture is for everybody: it names no folder of this machine.
        output = str(options.report.resolve().parents[1])
        text = options.report.read_text("utf-8").replace(output, "output")
        page.write_text(text, "utf-8")
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={folder}", f"--window-size={WIDTH},{HEIGHT}",
                f"--screenshot={taken}", page.as_uri(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        picture = Image.open(taken).convert("RGB").quantize(COLOURS)
        picture.save(options.output, optimize=True)
    print(f"{options.output}: {options.output.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
