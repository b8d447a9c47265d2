"""Update the code blocks of docs/tutorial.md, which are the steps in examples/tutorial and their differences.

::

    python tools/tutorial.py            # print the document
    python tools/tutorial.py --write    # write docs/tutorial.md

A comment above each block names its source: ``<!-- listing examples/tutorial/step01_the_page.py -->``, or two files for
a difference: ``<!-- diff step01_the_page.py step02_state.py -->``.
"""

from __future__ import annotations

import re
import sys
from difflib import unified_diff
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "tutorial.md"
STEPS = ROOT / "examples" / "tutorial"

_BLOCK = re.compile(r"<!-- (listing|diff) (.+?) -->\n```\w+\n.*?```\n", re.DOTALL)


def page() -> str:
    """Return the document with current code blocks."""
    return _BLOCK.sub(_block, DOCUMENT.read_text())


def _block(match: re.Match[str]) -> str:
    kind, sources = match.groups()
    if kind == "listing":
        return f"<!-- listing {sources} -->\n```python\n{(ROOT / sources).read_text()}```\n"
    before, after = ((STEPS / name).read_text().splitlines(keepends=True) for name in sources.split())
    _, _, *lines = unified_diff(before, after, n=2)
    lines = [_add_heading(line, before) if line.startswith("@@") else line for line in lines]
    return f"<!-- diff {sources} -->\n```diff\n{''.join(lines)}```\n"


def _add_heading(hunk: str, before: list[str]) -> str:
    """Add the class or function in which a hunk begins, as git does."""
    position = int(hunk.split(",", maxsplit=1)[0].removeprefix("@@ -"))
    headings = [line for line in before[:position] if line.startswith(("class ", "def "))]
    return f"{hunk.rstrip()} {headings[-1]}" if headings else hunk


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        DOCUMENT.write_text(page())
    else:
        print(page(), end="")
