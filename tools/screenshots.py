"""Take screenshots of every page, at phone and desktop width, in light and dark mode.

::

    python -m tools.screenshots            # all pages, into the folder screenshots
    python -m tools.screenshots tokens     # the pages with this word in their names
    python -m tools.screenshots --readme   # the pictures of the README, in docs/images

It needs Chromium and the extra ``browser``, and pngquant for the pictures of the README (Debian: apt-get install
chromium fonts-inter pngquant). The environment variable ``TEST_CHROMIUM`` names another executable.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from playwright.sync_api import sync_playwright

from .visits import VISITS, all_servers

FOLDER = Path(__file__).parents[1] / "screenshots"
WINDOWS = ((375, 812), (1280, 800))  # width and height in pixels
SCHEMES = ("light", "dark")
# The pages in the README, and the size of the window.
README = {"providers": (800, 430), "trace-token": (1100, 1180)}
IMAGES = Path(__file__).parents[1] / "docs" / "images"
# Without a desktop, Chromium shows `system-ui` as fontconfig's `sans-serif`.
FONTS = """\
<fontconfig>
  <include>/etc/fonts/fonts.conf</include>
  <match target="pattern">
    <test name="family"><string>sans-serif</string></test>
    <edit name="family" mode="prepend" binding="strong"><string>Inter</string><string>Liberation Sans</string></edit>
  </match>
</fontconfig>
"""


def main() -> None:
    """Read the command line, and take the screenshots."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("word", nargs="?", default="", help="a part of the names of the pages")
    parser.add_argument("--readme", action="store_true", help="take the pictures of the README")
    options = parser.parse_args()
    logging.disable()  # because the pages of errors are intended
    started, count = time.monotonic(), 0
    command = shutil.which(os.environ.get("TEST_CHROMIUM", "chromium"))
    with sync_playwright() as playwright, all_servers() as servers, NamedTemporaryFile("w", suffix=".conf") as fonts:
        fonts.write(FONTS)
        fonts.flush()
        environ = {**os.environ, "FONTCONFIG_FILE": fonts.name}
        chromium = playwright.chromium.launch(executable_path=command, args=["--no-sandbox"], env=environ)
        for visit in VISITS:
            if options.word in visit.name and (visit.name in README or not options.readme):
                with chromium.new_context(locale="en-US") as context:
                    page = context.new_page()
                    visit.go(page, servers)
                    count += _take_for_readme(page, visit.name) if options.readme else _take(page, visit.name)
    print(f"{count} screenshots in {IMAGES if options.readme else FOLDER} ({time.monotonic() - started:.0f} s)")


def _take(page: Any, name: str) -> int:
    """Take the screenshots of the whole page in each window and colour scheme; return their number."""
    for width, height in WINDOWS:
        page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=FOLDER / f"{name}-{width}-{scheme}.png", full_page=True)
    return len(WINDOWS) * len(SCHEMES)


def _take_for_readme(page: Any, name: str) -> int:
    """Take one screenshot of the window; return its number, 1."""
    width, height = README[name]
    page.set_viewport_size({"width": width, "height": height})
    if name == "trace-token":
        page.locator(".step").nth(2).evaluate("each => scrollBy(0, each.getBoundingClientRect().top - 50)")
    path = IMAGES / f"{name.partition('-')[0]}.png"
    page.screenshot(path=path)
    subprocess.run(["pngquant", "--force", "--ext=.png", "--strip", "--speed=1", "128", path], check=True)  # noqa: S603, S607
    return 1


if __name__ == "__main__":
    main()
