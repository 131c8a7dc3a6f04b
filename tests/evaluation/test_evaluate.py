from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import ir_measures
import pytest

from beir_folders import write_folder, write_run
from rerank_plugins import Calibration, InvalidInputError, ModelNotFoundError, Pair, Reranker, sigmoid
from rerank_plugins.evaluation import Evaluation, evaluate
from rerank_plugins.retrieval import example_collection, load_embedder, read_collection
from rerank_plugins.retrieval.first_stage import retrieve
from rerank_plugins.retrieval.trec_run import read_run_file
from rerank_plugins.testing import WordOverlap, toy_reranker

ENGLISH = example_collection("english")
PASSAGES = {"a": "the red fox", "b": "a red house", "c": "the blue sea", "d": " "}
QUERIES = {"q": "red fox", "r": "blue sea", "s": "old tree"}
QRELS = {"q": {"a": 2, "b": 1}, "r": {"c": 1}, "s": {"a": 0}}


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
    return write_folder(tmp_path / "small", PASSAGES, QUERIES, QRELS)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "first.run", {"q": ["d", "c", "b", "a"], "r": ["a", "b"]})


@pytest.fixture(scope="module")
def toy() -> Evaluation:
    """An evaluation of the toy reranker on 20 queries of the English example."""
    return evaluate(ENGLISH, [toy_reranker()], fetch_k=12, max_queries=20, seed=5)


def test_ndcg_is_ir_measures_on_the_raw_logits(toy: Evaluation) -> None:
    """Without equal logits, the metrics are those of ir-measures on the logits."""
    collection = read_collection(ENGLISH)
    stage = retrieve(collection, load_embedder("embed-static-en"), name="", fetch_k=12)
    reranker = toy_reranker()
    run = {}
    for query in toy.before.per_query["nDCG@10"]:
        names = [name for name, _ in stage.candidates[query]]
        logits = reranker.score([(collection.queries[query], collection.passages[name]) for name in names])
        assert len(set(logits)) == len(logits)
        run[query] = dict(zip(names, logits, strict=True))
    qrels = {query: collection.qrels[query] for query in run}
    expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10, ir_measures.RR @ 10], qrels, run)
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
    assert (toy.collection, toy.first_stage, toy.fetch_k, toy.passages) == ("english", "embed-static-en", 12, 366)
    assert (reranked.model, reranked.engine, reranked.precision) == ("CrossEncoderScorer", "openvino", "fp32")
    assert "thread" in toy.machine


def test_a_seed_draws_the_same_queries_for_every_reranker(toy: Evaluation) -> None:
    """The sample is of the collection and the seed: a second evaluation has the same, another seed others."""
    again = evaluate(ENGLISH, [Reranker(WordOverlap())], fetch_k=3, max_queries=20, seed=5)
    other = evaluate(ENGLISH, [Reranker(WordOverlap())], fetch_k=3, max_queries=20, seed=6)
    drawn = toy.before.per_query["nDCG@10"].keys()
    assert again.before.per_query["nDCG@10"].keys() == drawn
    assert other.before.per_query["nDCG@10"].keys() != drawn


def test_a_run_file_is_reranked_query_by_query(small: Path, run: Path) -> None:
    """Ranks, texts and scores of every query are those of the run file's candidates."""
    found = evaluate(small, [Reranker(WordOverlap())], run_file=run)
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
    """A reranker that gives all passages one score keeps the first stage's order, whatever the ids are."""
    for order in (["a", "b", "c"], ["c", "b", "a"]):
        run = write_run(tmp_path / "tied.run", {"q": order})
        (reranked,) = evaluate(small, [Reranker(Fixed(dict.fromkeys(PASSAGES.values(), 1.0)))], run_file=run).rerankers
        assert (reranked.better, reranked.worse, reranked.p_value) == (0, 0, 1.0)
        assert reranked.verdict.startswith("Whether reranking helps cannot be told")


def test_each_query_is_one_call_after_one_that_does_not_count(small: Path, run: Path) -> None:
    """Each measured call scores all candidates of one query without the blank ones, as in production."""
    scorer = Fixed({"the red fox": 1.0, "a red house": 0.5, "the blue sea": 0.0})
    evaluate(small, [Reranker(scorer)], run_file=run)
    asked = [[passage for _, passage in pairs] for pairs in scorer.asked]
    assert asked[0] == asked[1] == ["the blue sea", "a red house", "the red fox"]
    assert asked[2:] == [["the red fox", "a red house"]]


def test_probabilities_stay_what_they_are(small: Path, run: Path) -> None:
    """A scorer of probabilities gets no sigmoid."""
    scorer = Fixed({"the red fox": 0.9, "a red house": 0.5, "the blue sea": 0.1})
    (reranked,) = evaluate(small, [Reranker(scorer, scale="probability")], run_file=run).rerankers
    assert [score for score, _ in reranked.scores["q"]] == [0.0, 0.1, 0.5, 0.9]


def test_a_loss_is_a_verdict(tmp_path: Path) -> None:
    """A reranker that ranks the relevant passage last for enough queries gets the verdict "hurts"."""
    queries = {f"q{number}": f"word{number}" for number in range(12)}
    passages = {**queries, "other": "something else"}
    folder = write_folder(tmp_path / "lost", passages, queries, {name: {name: 1} for name in queries})
    run = write_run(tmp_path / "good.run", {name: [name, "other"] for name in queries})
    scorer = Fixed(dict.fromkeys(passages.values(), 0.0) | {"something else": 1.0})
    (reranked,) = evaluate(folder, [Reranker(scorer)], run_file=run).rerankers
    assert reranked.verdict.startswith("Reranking hurts: nDCG@10 falls by 0.369")
    assert (reranked.better, reranked.worse) == (0, 12)


def test_several_rerankers_share_the_candidates(small: Path, run: Path) -> None:
    """Rerankers of the same name get numbers."""
    found = evaluate(small, [Reranker(WordOverlap()), toy_reranker(), Reranker(WordOverlap())], run_file=run)
    assert [one.model for one in found.rerankers] == ["WordOverlap", "CrossEncoderScorer", "WordOverlap (2)"]
    assert found.rerankers[0].ranking == found.rerankers[2].ranking


def test_a_model_that_is_nowhere_costs_no_work(small: Path, run: Path) -> None:
    """The second model's name is looked up before the first scores anything."""
    scorer = Fixed({})
    with pytest.raises(ModelNotFoundError):
        evaluate(small, [Reranker(scorer), "no/such-model"], run_file=run)
    assert scorer.asked == []


def test_queries_that_the_run_lacks_are_named(small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run without one of the judged queries is evaluated without it, with a warning."""
    run = write_run(tmp_path / "part.run", {"q": ["a"]})
    with caplog.at_level(logging.WARNING, "rerank_plugins"):
        assert evaluate(small, [Reranker(WordOverlap())], run_file=run).queries == 1
    assert "1 of 2 judged queries have no candidates in part.run and are left out, 'r' the first" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fetch_k": 0}, "fetch_k must be a whole number of at least 1 (candidates), got 0"),
        ({"fetch_k": True}, "fetch_k must be"),
        ({"max_queries": 0}, "max_queries must be a whole number of at least 1 (queries), got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0 (of random numbers), got -1"),
        ({"split": "dev"}, "has no qrels/dev.tsv"),
        ({"run_file": "x.run", "embedder": "other"}, "got x.run and other"),
        ({"models": []}, "at least one model"),
        ({"models": "rerank-mini-en"}, "must be a list"),
        ({"models": ["a/model", "b/model", "a/model"]}, "a/model is given twice"),
        ({"engine": "onnx", "models": ["rerank-mini-en"]}, "engine"),
        ({"batch_size": 8, "models": ["rerank-mini-en"]}, "load_reranker has no option 'batch_size'"),
        ({"engine": "torch"}, "Got engine for models that are loaded already"),
    ],
)
def test_options_out_of_range_are_named(small: Path, options: dict[str, object], message: str) -> None:
    """A wrong option is an error before anything is computed."""
    given = {"models": [Reranker(WordOverlap())], **options}
    with pytest.raises(InvalidInputError) as error:
        evaluate(small, **given)  # type: ignore[arg-type]
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("qrels", "queries", "message"),
    [
        (None, QUERIES, "has no qrels"),
        ({"q": {"a": 0}, "x": {"a": 1}}, QUERIES, "None of the 2 judged queries"),
        ({"q": {"A": 1}}, QUERIES, "No relevant passage in the qrels of odd is in its corpus.jsonl"),
        ({"q": {"a": 1}}, {"q": "  "}, "judged query 'q' of odd is blank"),
    ],
)
def test_collections_without_usable_qrels_are_refused(
    tmp_path: Path, qrels: dict[str, dict[str, int]] | None, queries: dict[str, str], message: str
) -> None:
    """Missing qrels, or those of another collection, are an error that says what was expected."""
    folder = write_folder(tmp_path / "odd", PASSAGES, queries, qrels)
    with pytest.raises(InvalidInputError) as error:
        evaluate(folder, [Reranker(WordOverlap())])
    assert message in str(error.value)


def test_models_given_by_name_are_closed(small: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models given by name are closed after the evaluation; a `Reranker` stays open."""
    closed = []
    close: Callable[[Reranker], None] = Reranker.close
    monkeypatch.setattr(Reranker, "close", lambda self: closed.append(self) or close(self))
    mine = Reranker(WordOverlap())
    found = evaluate(small, ["rerank-mini-en", mine], run_file=run, engine="openvino", max_length=32)
    assert len(closed) == 1
    assert mine not in closed
    assert (found.rerankers[0].model, found.rerankers[0].engine) == ("rerank-mini-en", "openvino")


def test_a_collection_and_a_first_stage_stand_for_their_files(small: Path, run: Path) -> None:
    """A `Collection` and a `FirstStage` in place of a folder and a run file give the same, cut to ``fetch_k`` too."""
    collection = read_collection(small)
    found = read_run_file(run, collection)
    for fetch_k in (50, 2):
        scorers = [Reranker(WordOverlap()), Reranker(WordOverlap())]
        by_files = evaluate(small, scorers[:1], run_file=run, fetch_k=fetch_k)
        by_values = evaluate(collection, scorers[1:], run_file=found, fetch_k=fetch_k)
        assert by_values.first_stage == "first.run"
        assert by_values.before == by_files.before
        assert by_values.rerankers[0].ranking == by_files.rerankers[0].ranking


def test_lone_surrogates_are_evaluated_like_any_text(tmp_path: Path) -> None:
    """Lone surrogates in ids, passages and queries break neither the embedder nor the metrics."""
    half = "\ud800"
    passages = {half: "the red fox", "b": f"a red {half} house", "c": "the blue sea"}
    queries = {"q": f"red fox {half}", "r": "blue sea"}
    folder = write_folder(tmp_path / "surrogates", passages, queries, {"q": {"b": 1}, "r": {"c": 1}})
    evaluation = evaluate(folder, [Reranker(WordOverlap())])
    assert evaluation.queries == 2
    assert evaluation.rerankers[0].ranking.per_query["nDCG@10"]["r"] == 1.0


def test_depths_end_where_the_candidates_do(small: Path) -> None:
    """With four candidates a query there is no value for a depth of 50."""
    assert list(evaluate(small, [Reranker(WordOverlap())], fetch_k=50).rerankers[0].by_depth) == [4]


def test_scores_of_a_calibrated_reranker_are_those_of_its_results(small: Path) -> None:
    """The scores in an evaluation are the ones that a score_threshold is compared with."""
    curve = Calibration(method="platt", slope=0.5, intercept=-1, model="", fitted_on="", ece_before=0, ece_after=0)
    reranker = Reranker(WordOverlap(), calibration=curve)
    scores = {score for score, _ in evaluate(small, [reranker]).rerankers[0].scores["r"]}
    assert scores == {result.score for result in reranker.rerank(QUERIES["r"], list(PASSAGES.values()))}


def test_a_score_cache_is_refused(small: Path, run: Path) -> None:
    """A cached score takes no time, so latencies would be wrong."""
    with pytest.raises(InvalidInputError, match="rerank-mini-en has a score_cache"):
        evaluate(small, ["rerank-mini-en"], run_file=run, score_cache=10)


@pytest.mark.parametrize(("old", "new"), [("top_k", "fetch_k"), ("queries", "max_queries"), ("run", "run_file")])
def test_options_of_release_0_1_are_refused_with_their_new_names(old: str, new: str) -> None:
    """Before anything is read or loaded."""
    with pytest.raises(InvalidInputError, match=f"has no option '{old}'.*It is called {new}"):
        evaluate("no-such-folder", ["rerank-mini-en"], **{old: 5})
