"""Everything that training reads, computed once and kept in the work folder."""

from __future__ import annotations

import pickle
from pathlib import Path

from tokenizers import Tokenizer

from base import read_weights, weights_file
from lists import Lists, read_pair_sets
from model import MultilingualCrossEncoder, from_base
from pools import add_pools, read_paragraph_queries
from texts import Template, Texts


def load_tokenizer(path: Path) -> Tokenizer:
    """XLM-R's, without truncation and padding."""
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_base() -> MultilingualCrossEncoder:
    sizes, weights = read_weights(weights_file())
    return from_base(sizes, weights)


def prepare(data: Path, tokenizer: Tokenizer, work: Path) -> tuple[Texts, Template, Lists]:
    """Texts, the pair template and the lists; read from ``work`` where it has them."""
    texts, template = Texts(), Template(tokenizer)
    tokens, saved = work / "texts.npz", work / "lists.pickle"
    if saved.exists():
        texts.load(tokens)
        return texts, template, pickle.loads(saved.read_bytes())  # noqa: S301 (written below, by this script)
    work.mkdir(parents=True, exist_ok=True)
    lists = read_pair_sets(data, texts)
    queries, corpora = read_paragraph_queries(data, texts)
    texts.tokenize(tokenizer)
    texts.save(tokens)
    add_pools(lists, load_base().eval(), texts, template, queries, corpora)
    saved.write_bytes(pickle.dumps(lists))
    return texts, template, lists
