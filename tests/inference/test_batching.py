from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins.backends.base import CPU_PADDING
from rerank_plugins.inference.batching import BatchBuilder, round_up

LENGTHS = st.lists(st.integers(1, 1024), max_size=200)
BUDGETS = st.integers(1, 8192)


def token_budget_batches(lengths: list[int], budget: int, *, max_padding: float = CPU_PADDING) -> list[list[int]]:
    """Positions of the rows, in batches that are filled one after the other, longest rows first."""
    rows = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches = []
    while rows:
        builder = BatchBuilder(budget, max_padding=max_padding)
        taken = builder.take([lengths[row] for row in rows])
        batches.append(rows[taken])
        assert builder.padded_tokens == count_padded(batches[-1], lengths)
        del rows[taken]
    return batches


def count_padded(batch: list[int], lengths: list[int]) -> int:
    """Rows times the longest row."""
    return len(batch) * max(lengths[row] for row in batch)


@given(lengths=LENGTHS, budget=BUDGETS)
def test_every_row_stands_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    """No row is lost and none is computed twice."""
    rows = [row for batch in token_budget_batches(lengths, budget) for row in batch]
    assert sorted(rows) == list(range(len(lengths)))


@given(lengths=LENGTHS, budget=BUDGETS)
def test_batches_stay_under_the_budget(lengths: list[int], budget: int) -> None:
    """No batch has more padded tokens than the budget, but for a single row that is longer by itself."""
    for batch in token_budget_batches(lengths, budget):
        assert count_padded(batch, lengths) <= budget or len(batch) == 1


@given(lengths=LENGTHS, budget=BUDGETS, max_padding=st.sampled_from([0.0, 0.05, CPU_PADDING, 0.5]))
def test_no_batch_is_padded_beyond_the_share(lengths: list[int], budget: int, max_padding: float) -> None:
    """In each batch padding is at most max_padding of the padded tokens."""
    for batch in token_budget_batches(lengths, budget, max_padding=max_padding):
        padded = count_padded(batch, lengths) - sum(lengths[row] for row in batch)
        assert padded <= max_padding * count_padded(batch, lengths)


@pytest.mark.parametrize("budget", [512, 2048, 32_768])
def test_padding_is_below_a_tenth_on_mixed_lengths(budget: int) -> None:
    """Over 1,000 documents of 8 to 512 tokens less than 10 % of what is computed is padding."""
    draw = random.Random(1)
    lengths = [int(8 * 64 ** draw.random()) for _ in range(1000)]
    computed = sum(count_padded(batch, lengths) for batch in token_budget_batches(lengths, budget))
    assert (computed - sum(lengths)) / computed < 0.1


@given(lengths=LENGTHS, budget=BUDGETS)
def test_longest_rows_come_first(lengths: list[int], budget: int) -> None:
    """Rows run from the longest to the shortest, equal ones in input order: the same input, the same batches."""
    rows = [row for batch in token_budget_batches(lengths, budget) for row in batch]
    assert rows == sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))


def test_rows_of_one_length_fill_the_budget() -> None:
    """Equal rows are packed as tightly as the budget allows, and not one by one."""
    batches = token_budget_batches([16] * 10, 64)
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_row_longer_than_the_budget_is_computed_alone() -> None:
    """A row that no budget holds is still computed, by itself."""
    assert token_budget_batches([10, 500, 10], 100) == [[1], [0, 2]]


def test_no_rows_make_no_batches() -> None:
    """Nothing in, nothing out."""
    assert token_budget_batches([], 2048) == []


@given(lengths=LENGTHS, others=LENGTHS, budget=BUDGETS)
def test_others_fill_a_batch_and_do_not_widen_it(lengths: list[int], others: list[int], budget: int) -> None:
    """Rows of others that join a batch are no longer than what it holds, fit the budget and waste no padding."""
    builder = BatchBuilder(budget, max_padding=CPU_PADDING)
    own = sorted(lengths, reverse=True)
    own = own[builder.take(own)]
    width = builder.width
    filled = sorted(others, reverse=True)
    batch = own + filled[builder.take(filled)]
    if own:
        assert builder.width == width
    assert (builder.rows, builder.tokens) == (len(batch), sum(batch))
    assert builder.padded_tokens <= budget or len(batch) == 1
    assert builder.padded_tokens - builder.tokens <= CPU_PADDING * builder.padded_tokens


def test_others_fit_below_the_longest_row() -> None:
    """Of others' rows those are taken that are a little shorter than the batch is wide."""
    builder = BatchBuilder(1000, max_padding=CPU_PADDING)
    builder.take([100])
    assert builder.take([300, 101, 99, 98, 20]) == slice(2, 4)


@pytest.mark.parametrize(
    ("length", "multiple", "most", "width"),
    [
        (1, 16, 512, 16),
        (16, 16, 512, 16),
        (17, 16, 512, 32),
        (256, 16, 512, 256),
        (257, 16, 512, 272),
        (513, 16, 8192, 544),
        (7000, 16, 8192, 7168),
        (505, 16, 510, 510),
        (510, 16, 510, 510),
        (7, 1, 512, 7),
        (700, 1, 512, 700),
    ],
)
def test_a_width_is_the_next_multiple(length: int, multiple: int, most: int, width: int) -> None:
    """The next multiple at or above a length, of more the longer it is, and no more than the model reads."""
    assert round_up(length, multiple, most) == width


@given(length=st.integers(17, 100_000), multiple=st.sampled_from([8, 16, 64]))
def test_a_width_wastes_less_than_a_sixteenth(length: int, multiple: int) -> None:
    """However long a row is, less than a sixteenth of it is added, or less than one multiple."""
    assert 0 <= round_up(length, multiple, 200_000) - length < max(multiple, length / 16)
