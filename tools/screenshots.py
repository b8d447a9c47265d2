"""Take screenshots of every page, at phone and desktop width, in light and dark mode.

::

    python -m tools.screenshots            # all pages, into the folder screenshots
    python -m tools.screenshots tokens     # the pages with this word in their names

It needs Chromium (Debian: apt-get install chromium fonts-inter) and the extra ``browser``. The environment variable
``TEST_CHROMIUM`` names another executable.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import time
from pathlib import Path
from tempfile import NamedTemporaryFile

from playwright.sync_api import sync_playwright

from .visits import VISITS, all_servers

FOLDER = Path(__file__).parents[1] / "screenshots"
WINDOWS = ((375, 812), (1280, 800))  # width and height in pixels
SCHEMES = ("light", "dark")
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
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    logging.disable()  # because the pages of errors are intended
    started, count = time.monotonic(), 0
    command = shutil.which(os.environ.get("TEST_CHROMIUM", "chromium"))
    with sync_playwright() as playwright, all_servers() as servers, NamedTemporaryFile("w", suffix=".conf") as fonts:
        fonts.write(FONTS)
        fonts.flush()
        environ = {**os.environ, "FONTCONFIG_FILE": fonts.name}
        chromium = playwright.chromium.launch(executable_path=command, args=["--no-sandbox"], env=environ)
        for visit in (visit for visit in VISITS if options.word in visit.name):
            with chromium.new_context() as context:
                page = context.new_page()
                visit.go(page, servers)
                for width, height in WINDOWS:
                    page.set_viewport_size({"width": width, "height": height})
                    for scheme in SCHEMES:
                        page.emulate_media(color_scheme=scheme)
                        page.screenshot(path=FOLDER / f"{visit.name}-{width}-{scheme}.png", full_page=True)
                        count += 1
    print(f"{count} screenshots in {FOLDER} ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main()
