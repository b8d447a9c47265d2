"""docs/operating.md lists the code of every error."""

from __future__ import annotations

import re
from pathlib import Path

from wsgi_oauth import errors

DOCUMENT = (Path(__file__).parent.parent / "docs" / "operating.md").read_text()


def test_document_lists_the_code_of_every_error_once() -> None:
    table = DOCUMENT.partition("## Error codes")[2]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.Error)]
    assert sorted(listed) == sorted({each.cause for each in classes})
