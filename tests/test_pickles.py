"""Pickles that release 0.1 wrote of its adapters, with ``model="rerank-mini-en", max_length=256, threads=1``."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

PICKLES = sorted(Path(__file__).with_name("pickles_of_0_1").iterdir())


@pytest.mark.parametrize("file", PICKLES, ids=lambda file: file.stem)
def test_a_pickle_of_0_1_is_read_with_its_options(file: Path) -> None:
    """Options that are no more (token_cache) are left out, the others mean what they meant."""
    again: Any = pickle.loads(file.read_bytes())  # noqa: S301 - our own
    options = getattr(again, "loaded_from", again)
    assert (options.model, options.max_length, options.score_cache) == ("rerank-mini-en", 256, 10)
    assert not hasattr(options, "token_cache")


def test_an_adapter_of_0_1_ranks() -> None:
    """The fields of the adapter itself are there as well: top_n is 2."""
    again: Any = pickle.loads(PICKLES[[file.stem for file in PICKLES].index("compressor")].read_bytes())  # noqa: S301
    assert [again.top_n, again.deadline] == [2, 5.0]
    from langchain_core.documents import Document

    documents = [Document("apples"), Document("a phone of titanium"), Document("bread")]
    assert next(one.page_content for one in again.compress_documents(documents, "phone")) == "a phone of titanium"
