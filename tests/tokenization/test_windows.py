from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from doc_pages import names_left_by
from rerank_plugins import InvalidInputError, RankedResult, Reranker, ScoringError, load_reranker
from rerank_plugins.hub import find_model
from rerank_plugins.retrieval import example_collection, read_collection
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from rerank_plugins.testing import POISON, FailingEngine, NaNEngine, SlowEngine, SmallMemoryEngine, toy_reranker
from rerank_plugins.tokenization.pair_encoder import EncodedPair, PairEncoder

ALPHABET = "ab 食"

# Every token says where it stands: the word w7 is the token 7.
_WORDS = {**{f"w{number}": number for number in range(2000)}, "[CLS]": 2000, "[SEP]": 2001, "q": 2002}


def encoder_of_words(max_length: int, max_windows: int) -> PairEncoder:
    """An encoder whose passages are the words w0, w1, and so on, and whose queries are made of q."""
    tokenizer = Tokenizer(models.WordLevel(_WORDS, unk_token="q"))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2000), ("[SEP]", 2001)],
    )
    return PairEncoder(tokenizer, max_length, max_windows=max_windows)


def words(count: int) -> str:
    return " ".join(f"w{number}" for number in range(count))


def passages_read(rows: list[EncodedPair]) -> list[range]:
    """The words that each window has, which follow on each other."""
    read = [[token for token in row.input_ids if token < 2000] for row in rows]
    ranges = [range(tokens[0], tokens[-1] + 1) for tokens in read]
    assert [list(one) for one in ranges] == read
    return ranges


@given(query=st.integers(0, 40), length=st.integers(1, 600), max_length=st.integers(5, 60))
def test_windows_read_every_token_in_order(query: int, length: int, max_length: int) -> None:
    """The windows fit, begin at the first token, leave none out, and end at the last; none is truncated for it."""
    (rows,) = encoder_of_words(max_length, 1000).windows([("q " * query, words(length))])
    read = passages_read(rows)
    assert all(len(row.input_ids) <= max_length for row in rows)
    assert (read[0].start, read[-1].stop) == (0, length)
    assert all(one.start < other.start <= one.stop for one, other in itertools.pairwise(read))
    assert {row.truncated for row in rows} == {query > max_length // 2 or query > max_length - 4}


@given(length=st.integers(1, 80), max_length=st.integers(5, 60))
def test_what_fits_has_one_window(length: int, max_length: int) -> None:
    """A passage that fits beside its query is one row, as without windows; one that does not is several."""
    encoder, pair = encoder_of_words(max_length, 1000), ("q", words(length))
    (rows,) = encoder.windows([pair])
    assert (rows == encoder.encode([pair])) == (length <= max_length - 4) == (len(rows) == 1)


@given(length=st.integers(1, 400), max_length=st.integers(8, 60), max_windows=st.integers(1, 9))
def test_the_budget_cuts_the_end_and_says_so(length: int, max_length: int, max_windows: int) -> None:
    """There are max_windows at most; what they leave unread is the passage's end, and all of them are truncated."""
    (rows,) = encoder_of_words(max_length, max_windows).windows([("q", words(length))])
    read = passages_read(rows)
    assert len(rows) <= max_windows
    assert read[0].start == 0
    assert all(other.start <= one.stop for one, other in itertools.pairwise(read))
    assert {row.truncated for row in rows} == {read[-1].stop < length}
    assert read[-1].stop == length or len(rows) == max_windows


def test_neighbours_share_a_quarter() -> None:
    """Windows overlap by a quarter or a little more, all alike, and there are no more of them than that takes."""
    (rows,) = encoder_of_words(104, 50).windows([("q", words(1000))])
    read = passages_read(rows)
    assert {len(one) for one in read} == {100}
    assert {one.stop - other.start for one, other in itertools.pairwise(read)} <= {25, 26}
    assert len(read) == 13  # the first 100, and 75 more in each of the others


def test_the_score_is_the_best_window_s(bert_folder: Path) -> None:
    """A long document's logit is the highest of its windows' logits, each computed as a row of its own."""
    scorer = CrossEncoderScorer.from_folder(
        bert_folder, engine="openvino", max_length=40, long_documents="windows", max_windows=20
    )
    query, document = (
        "cat",
        " ".join(["bread", "sun", "food", "flour", "water", "plants"][n * n % 6] for n in range(300)),
    )
    (rows,) = scorer.encoder.windows([(query, document)])
    alone = [
        scorer.engine.logits(
            *(np.array([part]) for part in (row.input_ids, [1] * len(row.input_ids), row.token_type_ids))
        )
        for row in rows
    ]
    (scored,) = scorer.score_detailed([(query, document)])
    assert len(rows) > 5
    assert np.ptp(alone) > 0.1
    assert scored.score == pytest.approx(np.max(alone), abs=1e-4)
    assert scored.truncated is False


@pytest.fixture(scope="module")
def long_documents() -> list[str]:
    """Two documents of about 5,700 tokens each, out of the English example."""
    texts = list(read_collection(example_collection("english")).passages.values())
    texts = [text for text in texts if "phone" not in text.lower() and "titanium" not in text.lower()]
    return [" ".join(texts[start::2] * 10)[:26_000] for start in range(2)]


def varied(length: int, start: int) -> str:
    return "".join(chr(97 + (start + number * number) % 26) for number in range(length))


def planted(document: str, sentence: str, at: int) -> str:
    return f"{document[:at]} {sentence} {document[at:]}"


def test_an_answer_at_token_5000_is_found(long_documents: list[str]) -> None:
    """An answer behind 5,000 tokens puts its document first with windows, and is not seen without; for so many rows."""
    query = "What is the frame of the iPhone 15 Pro made of?"
    cutting = load_reranker("rerank-mini-en")
    reading = load_reranker("rerank-mini-en", long_documents="windows", max_windows=20)
    encoder = PairEncoder(Tokenizer.from_file(str(find_model("rerank-mini-en") / "tokenizer.json")), 100_000)
    documents = list(long_documents)
    before = 24_000
    documents[1] = planted(documents[1], "The frame of the iPhone 15 Pro is made of titanium.", before)
    assert len(encoder.encode([("", documents[1][:before])])[0].input_ids) > 5_000
    best, other = reading.rerank(query, documents)
    assert best.index == 1
    assert best.truncated is False
    assert (best.score or 0) > 2 * (other.score or 0)
    untouched = cutting.rerank(query, long_documents)
    assert [(r.index, r.score) for r in cutting.rerank(query, documents)] == [(r.index, r.score) for r in untouched]
    # What it costs: rows that were read, against one a document.
    assert cutting.stats().rows == 4
    assert reading.stats().rows > 10 * reading.stats().pairs


def test_short_documents_score_as_without_windows() -> None:
    """What fits gets the very same score, alone and beside a long document."""
    documents = ["a short one", "another, a little longer than the first", "x" * 300]
    windowed, plain = toy_reranker(max_length=64, max_windows=8), toy_reranker(max_length=64)

    def scores(reranker: Reranker, texts: list[str]) -> dict[int, float | None]:
        return {result.index: result.score for result in reranker.rerank("query", texts)}

    expected = scores(plain, documents[:2])
    assert scores(windowed, documents[:2]) == expected
    beside = scores(windowed, documents)
    assert {index: beside[index] for index in expected} == expected


@given(
    documents=st.lists(st.text(ALPHABET, max_size=300), max_size=8),
    max_windows=st.integers(1, 6),
    token_budget=st.integers(1, 2000),
)
def test_batches_do_not_move_a_score(documents: list[str], max_windows: int, token_budget: int) -> None:
    """However windows fall into batches, each document's score is what it is alone."""
    reranker = toy_reranker(max_length=40, max_windows=max_windows, token_budget=token_budget)
    alone = toy_reranker(max_length=40, max_windows=max_windows)
    found = {result.index: (result.score, result.truncated) for result in reranker.rerank("query", documents)}
    for position, text in enumerate(documents):
        (result,) = alone.rerank("query", [text])
        assert found[position] == (pytest.approx(result.score, abs=1e-6), result.truncated)


def test_many_callers_get_their_own_windows() -> None:
    """Calls from eight threads with documents of all lengths get the scores they get one after another."""
    reranker = toy_reranker(max_length=64, max_windows=5)
    calls = [[varied(length, start) for length in (1, 30, 150, 400)] for start in range(40)]
    serial = [reranker.rerank("query", documents) for documents in calls]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda documents: reranker.rerank("query", documents), calls))
    for expected, found in zip(serial, together, strict=True):
        assert [(r.index, r.truncated) for r in found] == [(r.index, r.truncated) for r in expected]
        assert [r.score for r in found] == pytest.approx([r.score for r in expected], abs=1e-6)


def test_a_nan_in_any_window_is_noticed() -> None:
    """A document one of whose windows gives NaN is named, and no other score hides it."""
    reranker = toy_reranker(NaNEngine(), max_length=64, max_windows=8)
    bad = planted("b" * 200, POISON, 120)
    with pytest.raises(ScoringError, match="NaN or infinite scores for documents 1 "):
        reranker.rerank("query", ["a" * 200, bad])


def test_a_failing_window_fails_its_call_only() -> None:
    """A batch that fails because of one window costs that call its answer; the next call has its own."""
    reranker = toy_reranker(FailingEngine(), max_length=64, max_windows=8)
    with pytest.raises(ScoringError, match="fails on purpose"):
        reranker.rerank("query", [planted("b" * 200, POISON, 120)])
    assert len(reranker.rerank("query", ["a" * 200])) == 1


def test_windows_survive_running_out_of_memory() -> None:
    """Where memory runs out over windows they are computed in smaller batches, to the same scores."""

    def scores(reranker: Reranker) -> list[tuple[int, float | None]]:
        return [(r.index, pytest.approx(r.score, abs=1e-6)) for r in reranker.rerank("query", documents)]

    documents = [varied(400, start) for start in range(4)]
    small = toy_reranker(SmallMemoryEngine(padded_tokens=150), max_length=64, max_windows=8)
    assert scores(small) == scores(toy_reranker(max_length=64, max_windows=8))
    assert small.stats().out_of_memory > 0


def test_a_document_is_counted_once_however_many_windows_it_has() -> None:
    """The turn of a call is chosen by what it has left: nothing, when its windows were computed batch by batch."""
    reranker = toy_reranker(max_length=64, max_windows=100, token_budget=64)
    request = reranker.scorer.submit([("query", "b" * 900), ("query", "c")])  # type: ignore[attr-defined]
    assert request.characters == 911
    request.result()
    assert (request.characters, request.waiting) == (0, 0)


def test_a_document_read_in_part_has_no_score_at_a_deadline() -> None:
    """A deadline in the middle of a document's windows leaves it without a score, behind those that have one."""
    reranker = toy_reranker(SlowEngine(seconds=0.05), max_length=64, max_windows=100, token_budget=64)
    results = reranker.rerank("query", ["short", "b" * 4000], deadline=0.5)
    assert [(result.index, result.score is None) for result in results] == [(0, False), (1, True)]


@pytest.mark.slow
def test_kept_scores_of_windows_and_of_cut_documents_stay_apart(tmp_path: Path) -> None:
    """A cache of scores gives a document's windowed score to who reads windows, and to nobody else."""
    documents = [*read_collection(example_collection("english")).passages.values()]
    document = planted(" ".join(documents)[:3600], "The frame of the iPhone 15 Pro is made of titanium.", 3000)
    options = {"score_cache": 100, "score_cache_folder": tmp_path}

    def ask(**reading: object) -> tuple[RankedResult, int]:
        reranker = load_reranker("rerank-mini-en", **options, **reading)
        (result,) = reranker.rerank("What is the iPhone's frame made of?", [document])
        hits = reranker.stats().cache_hits
        reranker.close()
        return result, hits

    (cut, _), (windowed, hits) = ask(), ask(long_documents="windows")
    assert hits == 0
    assert (cut.truncated, windowed.truncated) == (True, False)
    assert ask(long_documents="windows") == (windowed, 1)
    assert ask(long_documents="windows", max_windows=2)[1] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"long_documents": "split"}, "long_documents must be one of truncate, windows; got 'split'"),
        ({"long_documents": "windows", "max_windows": 0}, "max_windows must be a whole number of at least 1"),
        ({"max_windows": True}, "max_windows must be a whole number of at least 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    """What is no way to read a document, or no number of windows, is refused before a model is looked for."""
    with pytest.raises(InvalidInputError, match=message):
        load_reranker("no such model", **options)


def test_both_adapters_read_windows(long_documents: list[str]) -> None:
    """The adapters have the options as fields, and find an answer deep in a document."""
    from langchain_core.documents import Document
    from llama_index.core.schema import NodeWithScore, TextNode

    from rerank_plugins.langchain import RerankCompressor
    from rerank_plugins.llama_index import RerankPostprocessor

    query = "What is the frame of the iPhone 15 Pro made of?"
    texts = [text[:4000] for text in long_documents]
    texts[1] = planted(texts[1], "The frame of the iPhone 15 Pro is made of titanium.", 3500)
    fields = {"model": "rerank-mini-en", "long_documents": "windows", "max_windows": 8, "top_n": 1}
    (document,) = RerankCompressor(**fields).compress_documents([Document(text) for text in texts], query)
    assert document.page_content == texts[1]
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
    (node,) = RerankPostprocessor(**fields).postprocess_nodes(nodes, query_str=query)
    assert node.node.get_content() == texts[1]


def test_the_page_s_code_runs() -> None:
    """The code of docs/long_documents.md loads the model as it says."""
    options = names_left_by("long_documents.md")["reranker"].loaded_from
    assert (options.long_documents, options.max_windows) == ("windows", 16)
