"""Stand-ins of every family, each written once a session, and what sentence-transformers makes of them."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from family_models import DECODERS, QWEN3_TEMPLATE, TURNS_TEMPLATE, write_decoder, write_encoder, write_language_model
from rerank_plugins import Pair
from stand_in_models import PASSAGES, QUERIES

Write = Callable[[str], Path]


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """``family(name)`` writes a stand-in: ``qwen3`` is a classifier, ``qwen3 answer`` a language model."""

    @functools.cache
    def write(name: str) -> Path:
        folder = tmp_path_factory.mktemp("family") / name.replace(" ", "-")
        kind = name.removesuffix(" answer")
        if kind not in DECODERS:
            write_encoder(folder, kind)
        else:
            template = QWEN3_TEMPLATE if kind == "qwen3" else TURNS_TEMPLATE
            (write_decoder if kind == name else write_language_model)(folder, kind, template=template)
        return folder

    return write


@pytest.fixture(scope="session")
def mixed_pairs() -> list[Pair]:
    """60 pairs of very different lengths, with white space and punctuation where template and text meet."""
    draw = random.Random(0)
    words = " ".join(PASSAGES).split()
    ends = ["", ".", "\n", "  ", "?", ".\n\n"]
    texts = [" ".join(draw.choices(words, k=draw.choice([1, 3, 9, 60, 120]))) + draw.choice(ends) for _ in range(54)]
    odd = [
        (" what is ", " \n bread\n\n"),
        ("a.", "'s x"),
        ("植物", ""),
        ("", "植物。"),
        ("a\n", ": b"),
        ("<b>", "</b>"),
    ]
    return [(draw.choice(QUERIES), text) for text in texts] + odd
