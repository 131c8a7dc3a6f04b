from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import ir_measures
import pytest

from beir_folders import write_folder, write_run
from rerank_plugins import InvalidInputError, ModelNotFoundError, Pair, Reranker, sigmoid
from rerank_plugins.evaluation import Evaluation, evaluate
from rerank_plugins.retrieval import example_collection, load_embedder, read_collection
from rerank_plugins.retrieval.first_stage import embedded, from_run_file
from rerank_plugins.testing import WordOverlap, toy_reranker

ENGLISH = example_collection("english")
PASSAGES = {"a": "the red fox", "b": "a red house", "c": "the blue sea", "d": " "}
QUERIES = {"q": "red fox", "r": "blue sea", "s": "old tree"}
JUDGEMENTS = {"q": {"a": 2, "b": 1}, "r": {"c": 1}, "s": {"a": 0}}


class Fixed:
    """Scores passages by a table; counts its calls."""

    scale = "logit"

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores
        self.asked: list[list[Pair]] = []

    def score(self, pairs: list[Pair]) -> list[float]:
        """Those of the table."""
        self.asked.append(pairs)
        return [self.scores[passage] for _, passage in pairs]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "small", PASSAGES, QUERIES, JUDGEMENTS)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "first.run", {"q": ["d", "c", "b", "a"], "r": ["a", "b"]})


@pytest.fixture(scope="module")
def toy() -> Evaluation:
    """The toy engine, real but for its model, over 20 of the English example's queries."""
    return evaluate(ENGLISH, [toy_reranker()], top_k=12, queries=20, seed=5)


def test_ndcg_is_ir_measures_on_the_raw_logits(toy: Evaluation) -> None:
    """Where no logits are equal, the result is what ir-measures makes of the logits by hand."""
    collection = read_collection(ENGLISH)
    stage = embedded(collection, load_embedder("embed-static-en"), name="", top_k=12)
    reranker = toy_reranker()
    run = {}
    for query in toy.before.per_query["nDCG@10"]:
        names = [name for name, _ in stage.candidates[query]]
        logits = reranker.score([(collection.queries[query], collection.passages[name]) for name in names])
        assert len(set(logits)) == len(logits)
        run[query] = dict(zip(names, logits, strict=True))
    judgements = {query: collection.judgements[query] for query in run}
    expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10, ir_measures.RR @ 10], judgements, run)
    means = toy.rerankers[0].ranking.means
    assert {name: means[name].mean for name in ("nDCG@10", "RR@10")} == pytest.approx(
        {str(metric): value for metric, value in expected.items()}
    )


def test_numbers_fit_together(toy: Evaluation) -> None:
    """Differences, counts, depths, seconds and scores are those of the same queries."""
    (reranked,) = toy.rerankers
    was, became = toy.before.per_query["nDCG@10"], reranked.ranking.per_query["nDCG@10"]
    assert len(was) == toy.queries == 20
    assert was.keys() == became.keys() == reranked.seconds.keys() == reranked.scores.keys()
    means = toy.before.means["nDCG@10"], reranked.ranking.means["nDCG@10"]
    assert reranked.difference.mean == pytest.approx(means[1].mean - means[0].mean)
    assert reranked.better == sum(became[query] > was[query] for query in was)
    assert reranked.worse == sum(became[query] < was[query] for query in was)
    assert list(reranked.by_depth) == [5, 10, 12]
    assert reranked.by_depth[12] == pytest.approx(means[1].mean)
    assert all(seconds > 0 for seconds in reranked.seconds.values())
    assert all(len(scores) == 12 and 0 < scores[0][0] < 1 for scores in reranked.scores.values())
    losses = [change.after - change.before for change in reranked.changes]
    assert losses == sorted(losses)
    assert len(losses) == 20
    assert toy.recall >= toy.before.means["R@10"].mean
    assert (toy.collection, toy.first_stage, toy.top_k, toy.passages) == ("english", "embed-static-en", 12, 366)
    assert (reranked.model, reranked.engine, reranked.precision) == ("CrossEncoderScorer", "openvino", "fp32")
    assert "thread" in toy.machine


def test_a_seed_draws_the_same_queries_for_every_reranker(toy: Evaluation) -> None:
    """The sample is of the collection and the seed: a second evaluation has the same, another seed others."""
    again = evaluate(ENGLISH, [Reranker(WordOverlap())], top_k=3, queries=20, seed=5)
    other = evaluate(ENGLISH, [Reranker(WordOverlap())], top_k=3, queries=20, seed=6)
    drawn = toy.before.per_query["nDCG@10"].keys()
    assert again.before.per_query["nDCG@10"].keys() == drawn
    assert other.before.per_query["nDCG@10"].keys() != drawn


def test_a_run_file_is_reranked_query_by_query(small: Path, run: Path) -> None:
    """What changed is told by query: ranks, texts, and scores in the first stage's order."""
    found = evaluate(small, [Reranker(WordOverlap())], run=run)
    (reranked,) = found.rerankers
    assert (found.queries, found.first_stage, found.recall) == (2, "first.run", 0.5)
    change = next(one for one in reranked.changes if one.query_id == "q")
    assert (change.query, change.first_relevant_before, change.first_relevant_after) == ("red fox", 3, 1)
    assert (change.top_before, change.top_after, change.relevant) == (" ", "the red fox", "a red house")
    assert change.before < change.after == 1.0
    none, half, all_ = (sigmoid(logit) for logit in (-4.0, 0.0, 4.0))
    assert reranked.scores["q"] == [(0.0, False), (none, False), (half, True), (all_, True)]
    missed = next(one for one in reranked.changes if one.query_id == "r")
    assert (missed.first_relevant_before, missed.first_relevant_after, missed.relevant) == (None, None, "the blue sea")
    assert (missed.before, missed.after) == (0.0, 0.0)


def test_equal_scores_change_nothing(small: Path, tmp_path: Path) -> None:
    """A reranker that tells nothing apart leaves the first stage's order, whatever the ids are."""
    for order in (["a", "b", "c"], ["c", "b", "a"]):
        run = write_run(tmp_path / "tied.run", {"q": order})
        (reranked,) = evaluate(small, [Reranker(Fixed(dict.fromkeys(PASSAGES.values(), 1.0)))], run=run).rerankers
        assert (reranked.better, reranked.worse, reranked.p_value) == (0, 0, 1.0)
        assert reranked.verdict.startswith("Whether reranking helps cannot be told")


def test_each_query_is_one_call_after_one_that_does_not_count(small: Path, run: Path) -> None:
    """Latency is that of a call as production makes it: all candidates of one query, blank ones left out."""
    scorer = Fixed({"the red fox": 1.0, "a red house": 0.5, "the blue sea": 0.0})
    evaluate(small, [Reranker(scorer)], run=run)
    asked = [[passage for _, passage in pairs] for pairs in scorer.asked]
    assert asked[0] == asked[1] == ["the blue sea", "a red house", "the red fox"]
    assert asked[2:] == [["the red fox", "a red house"]]


def test_probabilities_stay_what_they_are(small: Path, run: Path) -> None:
    """A scorer of probabilities gets no sigmoid."""
    scorer = Fixed({"the red fox": 0.9, "a red house": 0.5, "the blue sea": 0.1})
    (reranked,) = evaluate(small, [Reranker(scorer, scale="probability")], run=run).rerankers
    assert [score for score, _ in reranked.scores["q"]] == [0.0, 0.1, 0.5, 0.9]


def test_a_loss_is_a_verdict(tmp_path: Path) -> None:
    """A reranker that puts the right passage last, for enough queries, is told to hurt."""
    queries = {f"q{number}": f"word{number}" for number in range(12)}
    passages = {**queries, "other": "something else"}
    folder = write_folder(tmp_path / "lost", passages, queries, {name: {name: 1} for name in queries})
    run = write_run(tmp_path / "good.run", {name: [name, "other"] for name in queries})
    scorer = Fixed(dict.fromkeys(passages.values(), 0.0) | {"something else": 1.0})
    (reranked,) = evaluate(folder, [Reranker(scorer)], run=run).rerankers
    assert reranked.verdict.startswith("Reranking hurts: nDCG@10 falls by 0.369")
    assert (reranked.better, reranked.worse) == (0, 12)


def test_several_rerankers_share_the_candidates(small: Path, run: Path) -> None:
    """Rerankers are told apart by name, those of the same name by number."""
    found = evaluate(small, [Reranker(WordOverlap()), toy_reranker(), Reranker(WordOverlap())], run=run)
    assert [one.model for one in found.rerankers] == ["WordOverlap", "CrossEncoderScorer", "WordOverlap (2)"]
    assert found.rerankers[0].ranking == found.rerankers[2].ranking


def test_a_model_that_is_nowhere_costs_no_work(small: Path, run: Path) -> None:
    """The second model's name is looked up before the first scores anything."""
    scorer = Fixed({})
    with pytest.raises(ModelNotFoundError):
        evaluate(small, [Reranker(scorer), "no/such-model"], run=run)
    assert scorer.asked == []


def test_queries_that_the_run_lacks_are_named(small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run without one of the judged queries is evaluated without it, and that is said."""
    run = write_run(tmp_path / "part.run", {"q": ["a"]})
    with caplog.at_level(logging.WARNING, "rerank_plugins"):
        assert evaluate(small, [Reranker(WordOverlap())], run=run).queries == 1
    assert "1 of 2 judged queries have no candidates in part.run and are left out, 'r' the first" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ({"top_k": True}, "top_k must be"),
        ({"queries": 0}, "queries must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"split": "dev"}, "has no qrels/dev.tsv"),
        ({"run": "x.run", "embedder": "other"}, "leave one out of x.run, other"),
        ({"models": []}, "at least one model"),
        ({"models": "rerank-mini-en"}, "must be a list"),
        ({"models": ["a/model", "b/model", "a/model"]}, "a/model is given twice"),
        ({"engine": "onnx", "models": ["rerank-mini-en"]}, "engine"),
    ],
)
def test_options_out_of_range_are_named(small: Path, options: dict[str, object], message: str) -> None:
    """A wrong option is an error before anything is computed."""
    given = {"models": [Reranker(WordOverlap())], **options}
    with pytest.raises(InvalidInputError) as error:
        evaluate(small, **given)  # type: ignore[arg-type]
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("judgements", "queries", "message"),
    [
        (None, QUERIES, "has no judgements"),
        ({"q": {"a": 0}, "x": {"a": 1}}, QUERIES, "None of the 2 judged queries"),
        ({"q": {"A": 1}}, QUERIES, "No passage judged relevant in odd is in its corpus.jsonl"),
        ({"q": {"a": 1}}, {"q": "  "}, "judged query 'q' of odd is blank"),
    ],
)
def test_collections_that_cannot_be_judged_are_refused(
    tmp_path: Path, judgements: dict[str, dict[str, int]] | None, queries: dict[str, str], message: str
) -> None:
    """Judgements that are not there, or not of this collection, are an error that says what was expected."""
    folder = write_folder(tmp_path / "odd", PASSAGES, queries, judgements)
    with pytest.raises(InvalidInputError) as error:
        evaluate(folder, [Reranker(WordOverlap())])
    assert message in str(error.value)


def test_what_was_loaded_is_closed(
    bert_openvino: object, bert_folder: Path, small: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models given by name end with the evaluation; a reranker given ready-made stays open."""
    del bert_openvino
    closed = []
    close: Callable[[Reranker], None] = Reranker.close
    monkeypatch.setattr(Reranker, "close", lambda self: closed.append(self) or close(self))
    mine = Reranker(WordOverlap())
    found = evaluate(small, [bert_folder, mine], run=run, engine="openvino", precision="fp32")
    assert len(closed) == 1
    assert mine not in closed
    assert (found.rerankers[0].model, found.rerankers[0].engine) == (str(bert_folder), "openvino")


def test_what_was_read_and_found_already_is_evaluated_alike(small: Path, run: Path) -> None:
    """A `Collection` and a `FirstStage` in place of a folder and a run file give the same, cut to ``top_k`` too."""
    collection = read_collection(small)
    found = from_run_file(run, collection)
    for top_k in (50, 2):
        scorers = [Reranker(WordOverlap()), Reranker(WordOverlap())]
        by_files = evaluate(small, scorers[:1], run=run, top_k=top_k)
        by_values = evaluate(collection, scorers[1:], run=found, top_k=top_k)
        assert by_values.first_stage == "first.run"
        assert by_values.before == by_files.before
        assert by_values.rerankers[0].ranking == by_files.rerankers[0].ranking
