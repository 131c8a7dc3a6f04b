"""From the pairs of a call to requests that the server takes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rerank_plugins._internal.text import without_surrogates
from rerank_plugins.errors import RemoteTooLargeError
from rerank_plugins.scorers.base import Pair
from rerank_plugins.scorers.remote.dialect import Dialect

# Bytes around a document in the longest of the shapes: {"text": ...}, and a comma.
_AROUND = 12


class Part(NamedTuple):
    """One query and some of its documents: a request."""

    query: str
    documents: list[str]
    positions: list[int]
    """Of the documents' pairs in the call."""
    cut: list[bool]
    """Whether the query or the document was cut here, before the server reads it."""

    def halves(self) -> tuple[Part, Part]:
        """The first half of the documents and the second; there must be two of them."""
        middle = len(self.documents) // 2
        return self._take(slice(None, middle)), self._take(slice(middle, None))

    def _take(self, which: slice) -> Part:
        return Part(self.query, self.documents[which], self.positions[which], self.cut[which])


def encode(dialect: Dialect, part: Part) -> bytes:
    """The body of a request: UTF-8, so that a Chinese character takes three bytes and not six."""
    body = dialect.body(part.query, part.documents)
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def split(dialect: Dialect, pairs: Sequence[Pair], positions: Sequence[int]) -> list[Part]:
    """The requests for the pairs at ``positions``, a query's together, in the order of the call.

    `RemoteTooLargeError` for a text that no request can hold, and for a listwise model's that need two.
    """
    by_query: dict[str, list[int]] = {}
    for position in positions:
        by_query.setdefault(pairs[position][0], []).append(position)
    parts = []
    for query, own in by_query.items():
        own_parts = list(_split_query(dialect, query, [pairs[position][1] for position in own], own))
        if dialect.listwise and len(own_parts) > 1:
            raise RemoteTooLargeError(
                f"{len(own)} documents need {len(own_parts)} requests, and scores of {dialect.model} can be compared "
                f"within a request only. Give fewer documents ({dialect.max_documents} at most) or shorter ones."
            )
        parts += own_parts
    return parts


def _split_query(dialect: Dialect, query: str, documents: list[str], positions: list[int]) -> Iterator[Part]:
    most = len(documents)
    if dialect.max_documents is not None and most > dialect.max_documents:
        # Requests of about equal size: they are computed side by side, and the last one is waited for.
        requests = -(-most // dialect.max_documents)
        most = -(-most // requests)
    sent_query = _cut(dialect, query)
    room = dialect.max_bytes - len(encode(dialect, Part(sent_query, [], [], [])))
    part, left = Part(sent_query, [], [], []), room
    for document, position in zip(documents, positions, strict=True):
        sent = _cut(dialect, document)
        size = len(json.dumps(sent, ensure_ascii=False).encode()) + _AROUND
        if size > room:
            raise RemoteTooLargeError(
                f"A document of {len(document):,} characters and its query of {len(query):,} do not fit into a request "
                f"of {dialect.max_bytes:,} bytes, the most that {dialect.name} takes. Give passages instead of whole "
                f"documents."
            )
        if len(part.documents) == most or size > left:
            yield part
            part, left = Part(sent_query, [], [], []), room
        part.documents.append(sent)
        part.positions.append(position)
        limit = dialect.max_characters
        part.cut.append(limit is not None and max(len(query), len(document)) > limit)
        left -= size
    yield part


def _cut(dialect: Dialect, text: str) -> str:
    return without_surrogates(text[: dialect.max_characters])
