"""The documents about performance are generated from results."""

from __future__ import annotations

from benchmarks import performance


def test_the_documents_agree_with_the_results():
    stale = [path.name for path, text in performance.documents().items() if path.read_text() != text]
    assert stale == [], "run python -m benchmarks.performance --write"
