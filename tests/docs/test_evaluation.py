"""docs/evaluation.md runs as it stands."""

from __future__ import annotations

from doc_pages import names_left_by


def test_the_pages_code_evaluates() -> None:
    """Its verdict is printed, and the query that lost most comes first."""
    left = names_left_by("evaluation.md")
    assert any("from 8 queries" in line or "of 8." in line for line in left["printed"])
    changes = [change.after - change.before for change in left["reranked"].changes]
    assert left["worst"].after - left["worst"].before == min(changes)
