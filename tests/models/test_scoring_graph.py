"""The scoring graph of rerank-mini-en, from `training/`, with all-MiniLM-L6-v2's weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

if TYPE_CHECKING:
    from matching import Tokens

TRAINING = Path(__file__).parents[2] / "training"

PAIRS = [
    ("who wrote hamlet", "Hamlet is a tragedy. William Shakespeare wrote it in about 1600."),
    ("capital of the country where the eiffel tower stands", "Paris."),
    ("hamlet", "A hamlet is a small settlement, smaller than a village " * 8),
    ("which of the plays that were written by the poet from stratford upon avon has a ghost in it", "Hamlet has one."),
]


@pytest.fixture(scope="module", autouse=True)
def training_on_the_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TRAINING)
        yield


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    from late_interaction import from_minilm
    from minilm import minilm_folder

    made = from_minilm(minilm_folder()).eval()
    torch.manual_seed(1)
    for parameter in (*made.head.evidence.parameters(), made.head.signal_weights, made.head.read_weights):
        torch.nn.init.normal_(parameter)
    made.head.matching.idf.uniform_(1.0, 8.0)
    made.head.matching.idf[[0, 101, 102]] = 0.0  # [PAD], [CLS], [SEP], as training_sets.py counts them
    return made


def rows(pairs: list[tuple[str, str]]) -> list[tuple[list[int], int]]:
    """Token ids of each pair, and how many of them are the query's."""
    from minilm import minilm_folder
    from token_states import load_tokenizer

    tokenizer = load_tokenizer(minilm_folder())
    encoded = [[[101, *tokenizer.encode(text, add_special_tokens=False).ids, 102] for text in pair] for pair in pairs]
    return [(query + passage, len(query)) for query, passage in encoded]


def inputs(encoded: list[tuple[list[int], int]]) -> dict[str, Tensor]:
    longest = max(len(ids) for ids, _ in encoded)
    padded = {name: torch.zeros(len(encoded), longest, dtype=torch.int64) for name in NAMES}
    for row, (ids, query) in enumerate(encoded):
        padded["input_ids"][row, : len(ids)] = torch.tensor(ids)
        padded["attention_mask"][row, : len(ids)] = 1
        padded["token_type_ids"][row, query : len(ids)] = 1
    return padded


NAMES = ("input_ids", "attention_mask", "token_type_ids")


@pytest.mark.slow
@torch.inference_mode()
def test_a_pair_scores_the_same_alone_and_in_a_batch(model: torch.nn.Module) -> None:
    """Neither padding nor a longer query in the batch changes a logit by more than 1e-4."""
    encoded = rows(PAIRS)
    together = model(**inputs(encoded))
    alone = torch.cat([model(**inputs([one])) for one in encoded])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert len({round(float(logit), 2) for logit in together}) == len(PAIRS)


@pytest.mark.slow
@torch.inference_mode()
def test_training_sees_what_the_graph_computes(model: torch.nn.Module, tmp_path: Path) -> None:
    """Hidden states saved in float16 give the signals of the graph within .005, and its score within .05."""
    from matching import unit
    from minilm import minilm_folder
    from token_states import load_tokenizer, pair_batch, states_of

    tokenizer = load_tokenizer(minilm_folder())
    queries = states_of(model, tokenizer, [query for query, _ in PAIRS], tmp_path / "queries", queries=True)
    passages = states_of(model, tokenizer, [passage for _, passage in PAIRS], tmp_path / "passages", queries=False)
    words = unit(model.words.weight - model.words_mean)
    batch = pair_batch(queries, passages, [(number, number) for number in range(len(PAIRS))], words)
    read = model.reading(batch.lower, batch.query.mask, batch.passage.mask, batch.keys_values)
    kept = model.head(read, batch.query, batch.passage)
    seen = []
    with model.head.matching.register_forward_hook(lambda *called: seen.append(called[-1].signals)):
        torch.testing.assert_close(kept, model(**inputs(rows(PAIRS)))[:, 0], atol=0.05, rtol=0)
    torch.testing.assert_close(model.head.matching(batch.query, batch.passage).signals, seen[0], atol=5e-3, rtol=0)


@pytest.mark.slow
def test_saved_states_are_used_for_the_same_texts_only(model: torch.nn.Module, tmp_path: Path) -> None:
    """Saved states are read for the same texts, and computed for others."""
    from minilm import minilm_folder
    from token_states import load_tokenizer, states_of

    tokenizer = load_tokenizer(minilm_folder())

    def means(texts: list[str]) -> Tensor:
        return states_of(model, tokenizer, texts, tmp_path, queries=True).means

    first = means(["who wrote hamlet", "paris"])
    kept = (tmp_path / "means.npy").stat().st_mtime_ns
    torch.testing.assert_close(means(["who wrote hamlet", "paris"]), first, atol=0, rtol=0)
    assert (tmp_path / "means.npy").stat().st_mtime_ns == kept
    torch.testing.assert_close(means(["paris", "who wrote hamlet"]), first.flip(0), atol=1e-4, rtol=0)


@pytest.mark.slow
@torch.inference_mode()
def test_openvino_computes_what_torch_does(model: torch.nn.Module) -> None:
    """The converted graph takes any batch and length, and gives the same logits within 1e-3."""
    import openvino

    from rerank_plugins.backends.conversion import trace_model

    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # the default is bf16 where the processor has it
    converted = openvino.compile_model(trace_model(model, inputs(rows(PAIRS[:1] * 2))), "CPU", exact)
    for part in (PAIRS, PAIRS[1:2], PAIRS[::-1]):
        given = inputs(rows(part))
        found = converted({name: value.numpy() for name, value in given.items()})[0]
        np.testing.assert_allclose(found, model(**given).numpy(), atol=1e-3)


def one_hot_tokens(ids: list[list[int]]) -> Tokens:
    """Tokens whose similarity is 1 to themselves and 0 to all others."""
    from matching import Tokens, unit

    given = torch.tensor(ids)
    units = torch.nn.functional.one_hot(given, 64).float()
    return Tokens(given, torch.ones_like(given, dtype=torch.bool), units, units, unit(units.mean(1)))


def test_a_rare_word_counts_more_than_a_frequent_one() -> None:
    """A matched token adds its inverse document frequency to the score of a window; an unmatched one adds nothing."""
    from matching import SIGNALS, Matching

    matching = Matching(10)
    matching.idf[1], matching.idf[2] = 1.0, 3.0
    found = matching(one_hot_tokens([[1, 2]] * 3), one_hot_tokens([[1, 5, 6], [2, 5, 6], [5, 6, 7]]))
    by_name = dict(zip(SIGNALS, found.signals.T, strict=True))
    torch.testing.assert_close(by_name["window"], torch.tensor([0.25, 0.75, 0.0]))
    torch.testing.assert_close(by_name["maxsim"], torch.tensor([0.5, 0.5, 0.0]))
    torch.testing.assert_close(found.tokens[:, :, 4], torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))


def test_the_nearest_piece_is_as_near_wherever_it_stands() -> None:
    """A clause among 48 other tokens scores as if it were alone; two distant halves of it do not."""
    from matching import CLAUSE, nearest_piece

    clause, other = list(range(1, CLAUSE + 1)), [20] * CLAUSE
    query = one_hot_tokens([clause])
    places = (clause, clause + other * 3, other * 3 + clause, other + clause + other * 2)
    for passage in places:
        assert float(nearest_piece(query, one_hot_tokens([passage]), CLAUSE)) == pytest.approx(1.0)
    apart = clause[:8] + other * 3 + clause[8:]
    assert float(nearest_piece(query, one_hot_tokens([apart]), CLAUSE)) < 0.75


def test_the_end_of_a_passage_is_no_piece_of_its_own() -> None:
    """The last token, equal to the query, is read with the 15 before it."""
    from matching import CLAUSE, nearest_piece

    found = nearest_piece(one_hot_tokens([[1]]), one_hot_tokens([[2] * (CLAUSE + 3) + [1]]), CLAUSE)
    assert float(found) == pytest.approx((1 + (CLAUSE - 1) ** 2) ** -0.5)


def test_the_best_window_wants_the_query_in_one_place() -> None:
    """A passage with both words near each other matches better there than one that has them 40 tokens apart."""
    from matching import best_window

    near, apart = torch.zeros(2, 1, 2, 60)
    near[0, 0, 3] = near[0, 1, 20] = 1.0
    apart[0, 0, 3] = apart[0, 1, 43] = 1.0
    importance = torch.tensor([[0.5, 0.5]])
    assert float(best_window(near, importance)) == pytest.approx(1.0)
    assert float(best_window(apart, importance)) == pytest.approx(0.5)
