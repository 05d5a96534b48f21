# ruff: noqa: INP001 -- a script, not a package
"""Make the README's pictures anew: a real `querywatch demo`, its report, and a headless Chromium.

    make pictures

In:  nothing; the demo's own traffic.
Out: docs/images/report-light.png and report-dark.png.

A picture shows the top of the page, so it is cropped by the size of the window: no image library is needed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: Pixels: the summary and the first three findings of the demo.
WIDTH, HEIGHT = 1120, 1390
#: A README should open quickly.
SIZE_LIMIT_BYTES = 300_000
#: Chromium's numbers of the colour schemes that a page can ask for.
THEMES = {"light": 1, "dark": 0}


def find_browser() -> str:
    """Return the path of a Chromium.

    Raises:
        SystemExit: There is none.
    """
    for name in BROWSERS:
        path = shutil.which(name)
        if path is not None:
            return path
    sys.exit("error: no Chromium on PATH; on Debian or Ubuntu: apt-get install chromium")


def take_picture(browser: str, page: Path, theme: str, profile: Path) -> Path:
    """Save the top of *page* as a PNG and return its path.

    Args:
        browser: Path of a Chromium.
        page: The report.
        theme: `light` or `dark`.
        profile: A folder for the browser's own files.

    Raises:
        SystemExit: The browser made no picture, or one that is too large.
    """
    picture = IMAGES / f"report-{theme}.png"
    picture.unlink(missing_ok=True)
    done = subprocess.run(  # noqa: S603 - a program of this machine, and arguments of ours
        [
            browser,
            "--headless=new",
            "--no-sandbox",  # Chromium refuses to run as root with one; the page is ours and loads nothing
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--blink-settings=preferredColorScheme={THEMES[theme]}",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--screenshot={picture}",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if not picture.exists():
        sys.exit(f"error: {browser} made no picture. It said:\n{done.stderr}")
    size = picture.stat().st_size
    if size > SIZE_LIMIT_BYTES:
        sys.exit(f"error: {picture.name} has {size:,} bytes, more than {SIZE_LIMIT_BYTES:,}. Make HEIGHT smaller.")
    return picture


def main() -> None:
    """Run the demo and take its picture in both themes."""
    browser = find_browser()
    IMAGES.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        command = Path(sys.executable).with_name("querywatch")
        # In the checkout, so that the report names the shop's lines by their short path.
        subprocess.run([command, "demo", "--out", folder], cwd=ROOT, check=True)  # noqa: S603 - our own command
        for theme in THEMES:
            page = Path(folder) / "querywatch-report.html"
            picture = take_picture(browser, page, theme, Path(folder) / "profile")
            print(f"picture {picture.relative_to(ROOT)}  {picture.stat().st_size:,} bytes")  # noqa: T201 - a script


if __name__ == "__main__":
    main()
