from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import fuzz_json_lines
import fuzz_pair_encoder
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_plugins import InvalidInputError, Pair
from rerank_plugins.cli.rank import Row, _read
from rerank_plugins.tokenization.pair_encoder import EncodedPair, PairEncoder

Spoil = Callable[[list[EncodedPair], list[Pair]], list[EncodedPair]]


def broken_encoder(spoil: Spoil) -> type[PairEncoder]:
    """An encoder whose rows are spoilt on their way out."""

    class Broken(PairEncoder):
        def encode(self, pairs: list[Pair]) -> list[EncodedPair]:
            return spoil(super().encode(pairs), pairs)

    return Broken


def every(change: Callable[[EncodedPair], EncodedPair]) -> Spoil:
    """Spoils every row the same way."""
    return lambda rows, _: [change(row) for row in rows]


def without(row: EncodedPair, position: int) -> EncodedPair:
    """The row less one token."""
    ids, types = list(row.input_ids), list(row.token_type_ids)
    del ids[position], types[position]
    return EncodedPair(ids, types, row.truncated)


BROKEN_ENCODERS: dict[str, Spoil] = {
    "never truncated": every(lambda row: row._replace(truncated=False)),
    "always truncated": every(lambda row: row._replace(truncated=True)),
    "no last special": every(lambda row: without(row, -1)),
    "no first special": every(lambda row: without(row, 0)),
    "a passage's last token lost": every(lambda row: without(row, -2)),
    "a query's first token lost": every(lambda row: without(row, 1)),
    "one token too many": every(lambda row: EncodedPair([*row.input_ids, 0], [*row.token_type_ids, 0], row.truncated)),
    "a type id missing": every(lambda row: row._replace(token_type_ids=row.token_type_ids[:-1])),
    "types turned round": every(lambda row: row._replace(token_type_ids=row.token_type_ids[::-1])),
    "another order": lambda rows, _: rows[::-1],
    "rows of one length": lambda rows, _: [
        row._replace(input_ids=row.input_ids + [0] * (max(len(other.input_ids) for other in rows) - len(row.input_ids)))
        for row in rows
    ],
    "a row missing": lambda rows, _: rows[1:] or rows,
    "pairs emptied": lambda rows, pairs: pairs.clear() or rows,
}


class NeedsLess(PairEncoder):
    """Takes a length without room, as if there were some."""

    def __init__(self, tokenizer: Any, max_length: int, **options: Any) -> None:
        super().__init__(tokenizer, max(9, max_length), **options)


class NoSurrogates(PairEncoder):
    """Cannot read half a surrogate pair."""

    def encode(self, pairs: list[Pair]) -> list[EncodedPair]:
        """Rows, if UTF-8 can carry the texts."""
        assert all(text.encode() or True for pair in pairs for text in pair)
        return super().encode(pairs)


def by_message(change: Callable[[str], str]) -> Callable[[str], list[Row]]:
    """A reader whose errors say something else."""

    def read(source: str) -> list[Row]:
        try:
            return _read(source)
        except InvalidInputError as error:
            raise InvalidInputError(change(str(error))) from error

    return read


def skips_wrong_lines(source: str) -> list[Row]:
    """A reader that gives nothing where it should complain."""
    with suppress(InvalidInputError):
        return _read(source)
    return []


def raises_key_error(source: str) -> list[Row]:
    """A reader that lets an error of another kind out."""
    try:
        return _read(source)
    except InvalidInputError as error:
        raise KeyError(source) from error


def breaks_at_every_end(source: str) -> list[Row]:
    """A reader that cuts where splitlines() does."""
    return [part for row in _read(source) for part in (row.splitlines() if isinstance(row, str) else [row])]


BROKEN_READERS: dict[str, Callable[[str], list[Row]]] = {
    "skips": skips_wrong_lines,
    "another error": raises_key_error,
    "no source": by_message(lambda message: message.removeprefix("-, ")),
    "another line": by_message(lambda message: message.replace("line 2", "line 1")),
    "no advice": by_message(lambda message: message.partition("xpected")[0]),
    "no last": lambda source: _read(source)[:-1],
    "splitlines": breaks_at_every_end,
    "only texts": lambda source: [row if isinstance(row, str) else row["text"] for row in _read(source)],
}


def is_caught(check: Callable[[bytes], None], seeds: list[bytes]) -> bool:
    """Whether the check fails for one of the seeds."""
    for seed in seeds:
        try:
            check(seed)
        except (AssertionError, KeyError, UnicodeError):
            return True
    return False


@pytest.mark.parametrize("seed", fuzz_pair_encoder.SEEDS)
def test_the_encoder_keeps_its_promises_for_the_seeds(seed: bytes) -> None:
    """Every seed of the encoder's fuzzing, from lone surrogates to a word of thousands of letters, is encoded right."""
    fuzz_pair_encoder.check(seed)


@pytest.mark.parametrize("seed", fuzz_json_lines.SEEDS)
def test_the_reader_keeps_its_promises_for_the_seeds(seed: bytes) -> None:
    """Every seed of the reader's fuzzing, from stray bytes to endless brackets, gives documents or a good error."""
    fuzz_json_lines.check(seed)


@settings(max_examples=30)
@given(data=st.binary(max_size=60))
def test_the_encoder_keeps_its_promises_for_any_bytes(data: bytes) -> None:
    """So is whatever any bytes stand for."""
    fuzz_pair_encoder.check(data)


@settings(max_examples=100)
@given(pieces=st.lists(st.sampled_from([*fuzz_json_lines.SEEDS, *fuzz_json_lines.WORDS]) | st.binary(), max_size=6))
def test_the_reader_keeps_its_promises_for_any_bytes(pieces: list[bytes]) -> None:
    """So do any bytes, mixed with pieces of JSON."""
    fuzz_json_lines.check(b"".join(pieces))


@pytest.mark.parametrize("spoil", BROKEN_ENCODERS.values(), ids=BROKEN_ENCODERS)
def test_rows_that_break_a_promise_are_caught(spoil: Spoil) -> None:
    """An encoder that breaks one promise fails the check at one of the seeds."""
    encoder_class = broken_encoder(spoil)
    assert is_caught(lambda seed: fuzz_pair_encoder.check(seed, encoder_class), fuzz_pair_encoder.SEEDS)


@pytest.mark.parametrize("encoder_class", [NeedsLess, NoSurrogates])
def test_an_encoder_of_wrong_inputs_is_caught(encoder_class: type[PairEncoder]) -> None:
    """So does one that takes too short a length, or raises for a text."""
    assert is_caught(lambda seed: fuzz_pair_encoder.check(seed, encoder_class), fuzz_pair_encoder.SEEDS)


@pytest.mark.parametrize("read", BROKEN_READERS.values(), ids=BROKEN_READERS)
def test_a_reader_that_breaks_a_promise_is_caught(read: Callable[[str], list[Row]]) -> None:
    """A reader that breaks one promise fails the check at one of the seeds."""
    assert is_caught(lambda seed: fuzz_json_lines.check(seed, read), fuzz_json_lines.SEEDS)
