"""Token states computed once for every query and passage: after the frozen layers, and after all of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from late_interaction import LateInteractionCrossEncoder

QUERY_TOKENS, PASSAGE_TOKENS = 40, 176  # lengths in training; the model itself reads up to 512


def load_tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def query_ids(tokenizer: Tokenizer, texts: Iterable[str]) -> list[list[int]]:
    """``[CLS] query [SEP]``."""
    return _encode(tokenizer, texts, QUERY_TOKENS)


def passage_ids(tokenizer: Tokenizer, texts: Iterable[str]) -> list[list[int]]:
    """``[CLS] passage [SEP]``, as the model's pair template has it."""
    return _encode(tokenizer, texts, PASSAGE_TOKENS)


def _encode(tokenizer: Tokenizer, texts: Iterable[str], most: int) -> list[list[int]]:
    encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    return [[cls, *encoding.ids[: most - 2], sep] for encoding in encodings]


class States(NamedTuple):
    """bfloat16 [length, hidden]: where training starts, and the untrained encoder's last states."""

    lower: Tensor
    final: Tensor


@torch.inference_mode()
def encoded(model: LateInteractionCrossEncoder, ids: list[list[int]], batch: int = 64) -> list[States]:
    """The states of each text, encoded alone, in the order of ``ids``."""
    result: list[States | None] = [None] * len(ids)
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    for start in tqdm(range(0, len(order), batch), desc="frozen layers", mininterval=5):
        rows = order[start : start + batch]
        tokens, mask = pad([torch.tensor(ids[row]) for row in rows])
        positions = torch.arange(tokens.shape[1]).expand_as(tokens)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            allowed = mask.bool()[:, None, None, :]
            lower = model.lower(model.embed(tokens, positions), allowed)
            final = lower
            for layer in model.encoder_layers:
                final = layer(final, allowed)
        for row, *both in zip(rows, lower, final, strict=True):
            result[row] = States(*(state[: len(ids[row])].to(torch.bfloat16).clone() for state in both))
    return [states for states in result if states is not None]


def encoder_cosine(query: Tensor, passage: Tensor) -> Tensor:
    """What the untrained encoder says of a pair: the cosine of the means of its last states."""
    return functional.cosine_similarity(query.float().mean(0), passage.float().mean(0), dim=0)


def pad(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows to one zero-padded tensor and its mask."""
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return padded, (torch.arange(padded.shape[1])[None, :] < lengths[:, None]).long()


def join(queries: list[Tensor], passages: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of states to (states, attention mask, segment ids) for ``model.upper``."""
    states, mask = pad([torch.cat(pair) for pair in zip(queries, passages, strict=True)])
    starts = torch.tensor([len(query) for query in queries])
    segments = (torch.arange(states.shape[1])[None, :] >= starts[:, None]).long() * mask
    return states, mask, segments
