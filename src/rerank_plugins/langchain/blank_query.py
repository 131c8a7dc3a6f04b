"""What LangChain's retrievers find for a blank query: nothing."""

from __future__ import annotations

import logging
from typing import Any

from rerank_plugins._internal.blank import is_blank

_log = logging.getLogger("rerank_plugins")


def asks_nothing(query: Any) -> bool:
    """Whether a retriever's query is blank; logs a warning if so."""
    if not isinstance(query, str) or not is_blank(query):
        return False
    _log.warning(
        "Nothing is retrieved for a blank query, %a: no order of documents would be right. Where an LLM writes the "
        "queries, leave blank ones out.",
        query[:40],
    )
    return True
