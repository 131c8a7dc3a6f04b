from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from rerank_plugins import InvalidInputError, Pair, ScoringError, load_reranker
from rerank_plugins.backends.base import Logits, Tokens
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from stand_in_models import write_model

LoadScorer = Callable[[Path, str], CrossEncoderScorer]


@pytest.fixture(params=["torch", "openvino"])
def scorer(request: pytest.FixtureRequest, load_scorer: LoadScorer, bert_folder: Path) -> CrossEncoderScorer:
    """The BERT stand-in on each engine in turn."""
    return load_scorer(bert_folder, request.param)


@pytest.fixture
def mixed(pairs: list[Pair]) -> list[Pair]:
    """300 pairs of all lengths, some of them cut."""
    return [*pairs[:290], *((query, passage * 20) for query, passage in pairs[290:])]


def assert_close(scores: list[float], expected: list[float]) -> None:
    """Equal within 1e-4, for scores that are far from being all the same."""
    assert np.ptp(expected) > 3
    np.testing.assert_allclose(scores, expected, atol=1e-4, rtol=0)


def test_a_pair_scores_the_same_alone_and_among_300(scorer: CrossEncoderScorer, mixed: list[Pair]) -> None:
    """A pair's logit does not depend on what it is batched with."""
    among = scorer.score(mixed)
    places = list(range(0, 300, 6))
    assert_close([scorer.score([mixed[place]])[0] for place in places], [among[place] for place in places])


def test_a_pair_scores_the_same_in_any_order(scorer: CrossEncoderScorer, mixed: list[Pair]) -> None:
    """Shuffled pairs get their logits shuffled the same way."""
    order = random.Random(2).sample(range(300), 300)
    scores = scorer.score(mixed)
    assert_close(scorer.score([mixed[place] for place in order]), [scores[place] for place in order])


@pytest.mark.parametrize("token_budget", [1, 100, 10_000])
def test_a_pair_scores_the_same_under_any_budget(
    scorer: CrossEncoderScorer, mixed: list[Pair], token_budget: int
) -> None:
    """The token budget decides about speed and not about logits."""
    other = CrossEncoderScorer(scorer.encoder, scorer.engine, token_budget=token_budget)
    assert_close(other.score(mixed[-60:]), scorer.score(mixed)[-60:])


def test_threads_share_one_scorer(scorer: CrossEncoderScorer, mixed: list[Pair]) -> None:
    """Eight threads with different pairs each get their own serial result."""
    parts = [mixed[start::8] for start in range(8)]
    serial = [scorer.score(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for scores, expected in zip(pool.map(scorer.score, parts), serial, strict=True):
                assert_close(scores, expected)


def test_no_pairs_give_no_scores(scorer: CrossEncoderScorer) -> None:
    """An empty list is scored as an empty list."""
    assert (scorer.score([]), scorer.score_detailed([])) == ([], [])


def test_scores_are_built_in_floats(scorer: CrossEncoderScorer, pairs: list[Pair]) -> None:
    """Scores are Python's floats and not numpy's."""
    assert {type(score) for score in scorer.score(pairs[:10])} == {float}


def test_detailed_scores_are_the_scores(bert_openvino: CrossEncoderScorer, mixed: list[Pair]) -> None:
    """score_detailed gives score's logits, and says which pairs were cut."""
    detailed = bert_openvino.score_detailed(mixed)
    assert [scored.score for scored in detailed] == bert_openvino.score(mixed)
    assert [scored.truncated for scored in detailed[280:]] == [
        row.truncated for row in bert_openvino.encoder.encode(mixed[280:])
    ]
    assert {scored.truncated for scored in detailed} == {True, False}


def test_more_pairs_than_one_chunk_keep_their_order(bert_openvino: CrossEncoderScorer, pairs: list[Pair]) -> None:
    """Thousands of pairs, which are encoded a part at a time, get their logits in order."""
    short = [(query, passage[:12]) for query, passage in pairs]
    assert_close(bert_openvino.score(short * 15), bert_openvino.score(short) * 15)


@pytest.mark.parametrize(("asked", "expected"), [(1024, 256), (256, 256), (100, 100)])
def test_max_length_is_lowered_to_what_bert_reads(bert_folder: Path, asked: int, expected: int) -> None:
    """A model of 256 positions reads 256 tokens at most, and fewer if fewer are asked for."""
    scorer = CrossEncoderScorer.from_folder(bert_folder, precision="fp32", engine="openvino", max_length=asked)
    assert scorer.encoder.max_length == expected


@pytest.mark.slow
@pytest.mark.data
def test_max_length_is_lowered_to_what_xlmr_reads(load_scorer: LoadScorer, xlmr_folder: Path) -> None:
    """XLM-R's positions start behind its padding id, so that of 514 positions 512 can be used."""
    assert load_scorer(xlmr_folder, "openvino").encoder.max_length == 512


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_the_longest_row_can_be_scored(load_scorer: LoadScorer, standin_folder: Path, engine: str) -> None:
    """A pair cut to the lowered max_length fits the model's positions."""
    scorer = load_scorer(standin_folder, engine)
    (scored,) = scorer.score_detailed([("how do plants make food", "bread " * 2000)])
    assert scored.truncated
    assert np.isfinite(scored.score)


def test_scale_is_logit(bert_openvino: CrossEncoderScorer) -> None:
    """A cross-encoder says that its scores are logits."""
    assert bert_openvino.scale == "logit"


class Shapes:
    """An engine that remembers the shapes it was given, and counts the tokens that are no padding."""

    name: Literal["openvino"] = "openvino"
    precision: Literal["fp32"] = "fp32"
    device = "cpu"
    token_budget = 2048
    pad_to_multiple_of = 16

    def __init__(self, max_padding: float = 0.1, *, few_shapes: bool = False, shared_token_budget: int = 0) -> None:
        self.max_padding = max_padding
        self.few_shapes = few_shapes
        self.shared_token_budget = shared_token_budget
        self.shapes: list[tuple[int, ...]] = []

    def logits(self, input_ids: Tokens, attention_mask: Tokens, token_type_ids: Tokens | None) -> Logits:
        """How many tokens each row has."""
        assert token_type_ids is not None
        assert input_ids.shape == attention_mask.shape == token_type_ids.shape
        self.shapes.append(input_ids.shape)
        return attention_mask.sum(axis=1).astype(np.float32)


def test_rows_reach_the_engine_at_its_multiples(bert_openvino: CrossEncoderScorer, mixed: list[Pair]) -> None:
    """Widths are multiples of what the engine asks for, or the most that the model reads, and none is cut."""
    encoder, engine = bert_openvino.encoder, Shapes()
    scores = CrossEncoderScorer(encoder, engine, longest_row=250).score([pair for pair in mixed if len(pair[1]) < 900])
    lengths = [len(row.input_ids) for row in encoder.encode([pair for pair in mixed if len(pair[1]) < 900])]
    assert scores == lengths
    assert {width % 16 for _, width in engine.shapes} <= {0, 250 % 16}
    assert max(width for _, width in engine.shapes) <= 250
    assert len({width for _, width in engine.shapes}) < len(set(lengths))


def test_an_engine_whose_batches_cost_more_gets_fewer(bert_openvino: CrossEncoderScorer) -> None:
    """Where it allows for half of padding, passages of every length are one batch that is no emptier than that."""
    pairs = [("cat", "sat " * count) for count in range(10, 110, 10)]
    tight, loose = Shapes(max_padding=0.1), Shapes(max_padding=0.5)
    scores = [CrossEncoderScorer(bert_openvino.encoder, engine).score(pairs) for engine in (tight, loose)]
    assert scores[0] == scores[1]
    assert len(tight.shapes) > 3
    ((rows, width),) = loose.shapes
    assert rows == len(pairs)
    assert sum(scores[1]) >= rows * width / 2


@pytest.mark.parametrize("shared_token_budget", [0, 512])
def test_an_engine_that_wants_few_shapes_gets_few_numbers_of_rows(
    bert_openvino: CrossEncoderScorer,
    mixed: list[Pair],
    shared_token_budget: int,
) -> None:
    """Every batch has 1, 2, 3, 4, 6, 8, 12, ... rows, also a shared one, and every caller gets its own scores."""
    engine = Shapes(few_shapes=True, shared_token_budget=shared_token_budget)
    scorer = CrossEncoderScorer(bert_openvino.encoder, engine)
    calls = [mixed[start::7] for start in range(7)]
    with ThreadPoolExecutor(len(calls)) as pool:
        scores = list(pool.map(scorer.score, calls))
    assert scores == [[len(row.input_ids) for row in bert_openvino.encoder.encode(call)] for call in calls]
    assert {rows for rows, _ in engine.shapes} <= {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64}
    assert max(rows for rows, _ in engine.shapes) > 4


def test_a_row_as_long_as_the_model_reads_is_not_made_longer(scorer: CrossEncoderScorer) -> None:
    """At the model's last position there is no room for padding, and the row is scored."""
    (scored,) = scorer.score_detailed([("cat", "sat " * 400)])
    assert scored.truncated
    assert np.isfinite(scored.score)


def test_the_most_a_query_takes_can_be_given(bert_folder: Path) -> None:
    """max_query_share bounds the query, and a share that is none is refused."""
    reranker = load_reranker(bert_folder, engine="openvino", precision="fp32", max_length=100, max_query_share=0.1)
    assert reranker.scorer.encoder.max_query_tokens == 10  # type: ignore[attr-defined]
    with pytest.raises(InvalidInputError, match="max_query_share"):
        load_reranker(bert_folder, max_query_share=1.5)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_models_whose_positions_begin_behind_the_padding_are_not_overrun(tmp_path: Path, engine: Any) -> None:
    """An MPNet cross-encoder cuts a long passage where its positions end."""
    bundled = Path(__file__).parents[2] / "models" / "rerank-mini-en"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(bundled / name, tmp_path / name)
    write_model(tmp_path, "mpnet", vocab_size=30_522, num_hidden_layers=1, max_position_embeddings=66)
    reranker = load_reranker(tmp_path, engine=engine, precision="fp32", device="cpu")
    (result,) = reranker.rerank("what", ["word " * 500])
    assert reranker.scorer.encoder.max_length == 64  # type: ignore[attr-defined]
    assert result.truncated is True


def test_a_model_that_cannot_read_so_much_is_an_error_of_ours(
    bert_folder: Path, load_scorer: Callable[[Path, str], CrossEncoderScorer]
) -> None:
    """Rows longer than the positions give a ScoringError that speaks of max_length, on both engines."""
    for engine in ("torch", "openvino"):
        ids = np.ones((1, 300), dtype=np.int64)
        with pytest.raises(ScoringError, match="max_length"):
            load_scorer(bert_folder, engine).engine.logits(ids, ids, ids * 0)
