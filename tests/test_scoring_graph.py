"""The graph behind rerank-mini-en, from `training/`, with all-MiniLM-L6-v2's weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

TRAINING = Path(__file__).parents[1] / "training"

PAIRS = [
    ("who wrote hamlet", "Hamlet is a tragedy. William Shakespeare wrote it in about 1600."),
    ("capital of the country where the eiffel tower stands", "Paris."),
    ("hamlet", "A hamlet is a small settlement, smaller than a village " * 8),
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
    """Neither padding nor a longer query beside it moves a logit by more than 1e-4."""
    encoded = rows(PAIRS)
    together = model(**inputs(encoded))
    alone = torch.cat([model(**inputs([one])) for one in encoded])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert len({round(float(logit), 2) for logit in together}) == len(PAIRS)


@pytest.mark.slow
@torch.inference_mode()
def test_training_sees_what_the_graph_computes(model: torch.nn.Module, tmp_path: Path) -> None:
    """From states kept in float16 a pair has the graph's score, within .05."""
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
    torch.testing.assert_close(kept, model(**inputs(rows(PAIRS)))[:, 0], atol=0.05, rtol=0)


@pytest.mark.slow
def test_states_of_other_texts_are_not_taken_for_these(model: torch.nn.Module, tmp_path: Path) -> None:
    """States that are kept are read again for the same texts, and computed anew for others."""
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

    from rerank_plugins.engines.conversion import traced

    converted = openvino.compile_model(traced(model, inputs(rows(PAIRS[:1] * 2))), "CPU")
    for part in (PAIRS, PAIRS[1:2], PAIRS[::-1]):
        given = inputs(rows(part))
        found = converted({name: value.numpy() for name, value in given.items()})[0]
        np.testing.assert_allclose(found, model(**given).numpy(), atol=1e-3)


def test_a_rare_word_counts_more_than_a_frequent_one() -> None:
    """Signals of exact words are weighted by inverse document frequency; a word that is not there adds nothing."""
    from matching import SIGNALS, Matching, Tokens

    matching = Matching(10)
    matching.idf[1], matching.idf[2] = 1.0, 3.0
    vectors = torch.nn.functional.one_hot(torch.arange(10), 16).float()

    def tokens(ids: list[list[int]]) -> Tokens:
        given = torch.tensor(ids)
        units = vectors[given]
        return Tokens(given, torch.ones_like(given, dtype=torch.bool), units, units, units.mean(1))

    found = matching(tokens([[1, 2]] * 3), tokens([[1, 5, 6], [2, 5, 6], [5, 6, 7]])).signals
    by_name = dict(zip(SIGNALS, found.T, strict=True))
    torch.testing.assert_close(by_name["coverage"], torch.tensor([0.25, 0.75, 0.0]))
    torch.testing.assert_close(by_name["weighted maxsim"], torch.tensor([0.25, 0.75, 0.0]))
    assert by_name["bm25"].argsort(descending=True).tolist() == [1, 0, 2]
    torch.testing.assert_close(by_name["maxsim"], torch.tensor([0.5, 0.5, 0.0]))


def test_the_best_window_wants_the_query_in_one_place() -> None:
    """A passage with both words near each other matches better there than one that has them 40 tokens apart."""
    from matching import best_window

    near, apart = torch.zeros(2, 1, 2, 60)
    near[0, 0, 3] = near[0, 1, 20] = 1.0
    apart[0, 0, 3] = apart[0, 1, 43] = 1.0
    importance = torch.tensor([[0.5, 0.5]])
    assert float(best_window(near, importance)) == pytest.approx(1.0)
    assert float(best_window(apart, importance)) == pytest.approx(0.5)
