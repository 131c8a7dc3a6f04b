"""The code of docs/evaluation.md runs."""

from __future__ import annotations

from doc_pages import names_left_by


def test_the_pages_code_evaluates() -> None:
    """Its verdict is printed, and the query that lost most comes first."""
    names = names_left_by("evaluation.md")
    assert names["reranked"].verdict in names["printed"]
    changes = [change.after - change.before for change in names["reranked"].changes]
    assert names["worst"].after - names["worst"].before == min(changes)
