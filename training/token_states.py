"""The states of the frozen layers for each text: computed once, written to disk, looked up by pair."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from late_interaction import HEADS, HIDDEN, Encoded, LateInteractionCrossEncoder
from matching import Tokens, unit

QUERY_TOKENS, PASSAGE_TOKENS = 64, 224  # lengths in training; the model itself reads up to 512
_BATCH = 32
_CLS, _SEP = 101, 102


def load_tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class PairBatch(NamedTuple):
    """Queries and passages of a batch of pairs, as `LateInteractionCrossEncoder` has them after its frozen layers."""

    lower: Tensor
    query: Tokens
    passage: Tokens
    keys_values: list[tuple[Tensor, Tensor]]


class TokenStates:
    """One side of a collection: ``lower`` [tokens, hidden], ``units`` and ``keys_values`` [tokens, 2, 2, hidden].

    Queries have ``lower`` and ``units``; passages ``units`` and ``keys_values``. All in float16.
    """

    def __init__(self, folder: Path, ids: Tensor, starts: Tensor, means: Tensor) -> None:
        self._folder = folder
        self._ids, self._starts, self.means = ids, starts, means
        self._arrays: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def lengths(self) -> Tensor:
        return self._starts[1:] - self._starts[:-1]

    def array(self, name: str) -> Tensor:
        """Into memory when it is first asked for: gathering rows from a disk takes as long as training on them."""
        if name not in self._arrays:
            self._arrays[name] = torch.from_numpy(np.load(self._folder / f"{name}.npy"))
        return self._arrays[name]

    def rows(self, which: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Positions of the tokens of these texts, [texts, longest], and their mask."""
        chosen = torch.tensor(which)
        lengths = self.lengths[chosen]
        place = torch.arange(int(lengths.max()))[None, :]
        return (self._starts[chosen][:, None] + place).clamp(max=len(self._ids) - 1), place < lengths[:, None]

    def ids(self, rows: Tensor, mask: Tensor) -> Tensor:
        return self._ids[rows].masked_fill(~mask, 0)

    def tokens(self, which: Sequence[int], rows: Tensor, mask: Tensor, words: Tensor) -> Tokens:
        ids = self.ids(rows, mask)
        return Tokens(ids, mask, self.array("units")[rows].float(), words[ids], self.means[torch.tensor(which)])


def matched_tokens(
    queries: TokenStates, passages: TokenStates, pairs: Sequence[tuple[int, int]], words: Tensor
) -> tuple[Tokens, Tokens]:
    """All that the signals need of pairs of positions; ``words`` are the centred unit vectors of the vocabulary."""
    sides = []
    for side, which in ((queries, [query for query, _ in pairs]), (passages, [passage for _, passage in pairs])):
        sides.append(side.tokens(which, *side.rows(which), words))
    return sides[0], sides[1]


def pair_batch(
    queries: TokenStates, passages: TokenStates, pairs: Sequence[tuple[int, int]], words: Tensor
) -> PairBatch:
    """The same, and what the query's tokens read."""
    query, passage = matched_tokens(queries, passages, pairs, words)
    query_rows, _ = queries.rows([first for first, _ in pairs])
    passage_rows, _ = passages.rows([second for _, second in pairs])
    read = passages.array("keys_values")[passage_rows].float()
    split = read.unflatten(-1, (HEADS, HIDDEN // HEADS)).permute(2, 3, 0, 4, 1, 5)
    lower = queries.array("lower")[query_rows].float()
    return PairBatch(lower, query, passage, [(layer[0], layer[1]) for layer in split])


def states_of(
    model: LateInteractionCrossEncoder, tokenizer: Tokenizer, texts: Iterable[str], folder: Path, *, queries: bool
) -> TokenStates:
    """The states of every text, encoded alone; from ``folder`` where it has those of the same texts."""
    most = QUERY_TOKENS if queries else PASSAGE_TOKENS
    given = list(texts)
    # Of other texts, or cut elsewhere, they would be taken for these; written last: where it is, all are.
    digest, mark = hashlib.sha256(json.dumps([most, given]).encode()).hexdigest(), folder / "texts.sha256"
    if not mark.exists() or mark.read_text(encoding="ascii") != digest:
        mark.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        encodings = tokenizer.encode_batch(given, add_special_tokens=False)
        _write(model, [[_CLS, *encoding.ids[: most - 2], _SEP] for encoding in encodings], folder, queries=queries)
        mark.write_text(digest, encoding="ascii")
    ids, starts, means = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("ids", "starts", "means"))
    return TokenStates(folder, ids, starts, means)


@torch.inference_mode()
def _write(model: LateInteractionCrossEncoder, ids: list[list[int]], folder: Path, *, queries: bool) -> None:
    starts = np.cumsum([0, *map(len, ids)])
    shapes = {"units": (HIDDEN,), **({"lower": (HIDDEN,)} if queries else {"keys_values": (2, 2, HIDDEN)})}
    arrays = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=np.float16, shape=(int(starts[-1]), *shape)
        )
        for name, shape in shapes.items()
    }
    means = np.zeros((len(ids), HIDDEN), dtype=np.float32)
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    for first in tqdm(range(0, len(order), _BATCH), desc=f"frozen layers, {folder.name}", mininterval=10):
        rows = order[first : first + _BATCH]
        padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids[row]) for row in rows], batch_first=True)
        mask = torch.arange(padded.shape[1])[None, :] < torch.tensor([len(ids[row]) for row in rows])[:, None]
        positions = torch.arange(padded.shape[1]).expand_as(padded)
        encoded = model.encoded(padded, positions, mask[:, None, None, :])
        means[rows] = unit((encoded.final * mask[:, :, None].float()).sum(1)).numpy()
        for name, array in arrays.items():
            for row, values in zip(rows, _named(encoded, name), strict=True):
                array[starts[row] : starts[row + 1]] = values[: len(ids[row])].numpy()
    for array in arrays.values():
        array.flush()
    np.save(folder / "ids.npy", np.concatenate(ids).astype(np.int64))
    np.save(folder / "starts.npy", starts)
    np.save(folder / "means.npy", means)


def _named(encoded: Encoded, name: str) -> Tensor:
    if name == "units":
        return unit(encoded.final)
    if name == "lower":
        return encoded.lower
    together = torch.stack([torch.stack(both) for both in encoded.keys_values])
    return together.permute(2, 4, 0, 1, 3, 5).flatten(-2)  # [batch, length, layer, key or value, hidden]
