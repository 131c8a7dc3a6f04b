"""Collections, runs and rerankers as people really have them."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from beir_folders import write_folder, write_run
from calibration_data import Reads, drawn, logistic, write
from rerank_plugins import Calibration, InvalidInputError, Pair, Reranker, load_reranker
from rerank_plugins.evaluation import calibrate, evaluate
from rerank_plugins.retrieval import load_embedder, read_collection
from rerank_plugins.retrieval.first_stage import from_run_file
from rerank_plugins.testing import WordOverlap

HALF = "\ud800"
PASSAGES = {HALF: "the red fox", "b": f"a red {HALF} house", "file one.pdf": "the blue sea"}
QUERIES = {"q": f"red fox {HALF}", "r": "blue sea"}
JUDGEMENTS = {"q": {"b": 1}, "r": {"file one.pdf": 1}}


class Never:
    """A scorer that nobody may ask."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """An error."""
        pytest.fail(f"{len(pairs)} pairs were scored")


def test_half_a_surrogate_pair_is_evaluated_like_any_text(tmp_path: Path) -> None:
    """Lone surrogates in ids, passages and queries end neither the embedder nor the metrics."""
    folder = write_folder(tmp_path / "odd", PASSAGES, QUERIES, JUDGEMENTS)
    evaluation = evaluate(folder, [Reranker(WordOverlap())])
    assert evaluation.queries == 2
    assert evaluation.rerankers[0].ranking.per_query["nDCG@10"]["r"] == 1.0


def test_the_embedder_takes_half_a_surrogate_pair() -> None:
    """It is embedded as the replacement character, in sentences that are otherwise as they were."""
    vectors = load_embedder("embed-static-en")([f"a red {HALF} house", "a red \ufffd house"])
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_ids_with_spaces_stand_in_a_run_with_tabs(tmp_path: Path) -> None:
    """A run whose values have tabs between them may name passages after files; one with spaces cannot, and says so."""
    collection = read_collection(write_folder(tmp_path / "odd", PASSAGES, QUERIES, JUDGEMENTS))
    path = tmp_path / "run"
    path.write_text("r\tQ0\tfile one.pdf\t1\t2.5\tmine\n")
    assert from_run_file(path, collection).candidates == {"r": [("file one.pdf", 2.5)]}
    path.write_text("r Q0 file one.pdf 1 2.5 mine\n")
    with pytest.raises(InvalidInputError, match="or with tabs where ids have spaces"):
        from_run_file(path, collection)


@pytest.mark.parametrize("place", ["1 nan", "1 inf", "nan 1"])
def test_a_run_whose_scores_order_nothing_is_refused(tmp_path: Path, place: str) -> None:
    """NaN and infinity would put passages anywhere."""
    collection = read_collection(write_folder(tmp_path / "odd", PASSAGES, QUERIES, JUDGEMENTS))
    (tmp_path / "run").write_text(f"q Q0 b {place} mine\n")
    with pytest.raises(InvalidInputError, match="rank and score are finite numbers"):
        from_run_file(tmp_path / "run", collection)


def test_depths_end_where_the_candidates_do(tmp_path: Path) -> None:
    """With three candidates a query nobody is told what 50 of them give."""
    folder = write_folder(tmp_path / "odd", PASSAGES, QUERIES, JUDGEMENTS)
    assert list(evaluate(folder, [Reranker(WordOverlap())], top_k=50).rerankers[0].by_depth) == [3]


def test_scores_of_a_calibrated_reranker_are_its_results_scores(tmp_path: Path) -> None:
    """What is drawn as score is what a score_threshold is compared with."""
    folder = write_folder(tmp_path / "odd", PASSAGES, QUERIES, JUDGEMENTS)
    curve = Calibration(method="platt", slope=0.5, intercept=-1, model="", fitted_on="", ece_before=0, ece_after=0)
    reranker = Reranker(WordOverlap(), calibration=curve)
    found = {score for score, _ in evaluate(folder, [reranker]).rerankers[0].scores["r"]}
    results = reranker.rerank(QUERIES["r"], list(PASSAGES.values()))
    assert found == {result.score for result in results}


def test_a_cache_of_scores_is_refused(tmp_path: Path) -> None:
    """A score that is known takes no time, and latencies are half of what is compared."""
    folder = write_folder(tmp_path / "odd", PASSAGES, QUERIES, JUDGEMENTS)
    with (
        load_reranker("rerank-mini-en", score_cache=10) as reranker,
        pytest.raises(InvalidInputError, match="rerank-mini-en has a score_cache"),
    ):
        evaluate(folder, [reranker])


def test_too_few_queries_to_calibrate_on_are_told_before_scoring(tmp_path: Path) -> None:
    """What the judgements alone can tell is told at once."""
    folder = write(tmp_path / "few", drawn(logistic, 12, candidates=3))
    with pytest.raises(InvalidInputError, match="expected at least 10 in either half"):
        calibrate(folder, Reranker(Never()), run=folder / "run")


def test_judgements_of_other_queries_are_told_at_once(tmp_path: Path) -> None:
    """A collection whose judged ids are not in queries.jsonl is not embedded to find out."""
    folder = write_folder(tmp_path / "odd", PASSAGES, QUERIES, {"elsewhere": {"b": 1}})
    with pytest.raises(InvalidInputError, match=r"None of the 1 judged queries of odd has a text in queries\.jsonl"):
        calibrate(folder, Reranker(Never()))


def test_the_order_of_a_runs_lines_draws_no_other_halves(tmp_path: Path) -> None:
    """The same run, its lines in another order, gives the same calibration."""
    folder = write(tmp_path / "run order", drawn(logistic, 60, candidates=8))
    lines = (folder / "run").read_text().splitlines()
    random.Random(1).shuffle(lines)
    (tmp_path / "other").write_text("\n".join(lines))
    first, second = (calibrate(folder, Reranker(Reads()), run=run) for run in (folder / "run", tmp_path / "other"))
    source = first.calibration.fitted_on.replace("run", "other")
    assert replace(first.calibration, fitted_on="") == replace(second.calibration, fitted_on="")
    assert source.split(":")[1] == second.calibration.fitted_on.split(":")[1]


def test_a_question_asked_twice_is_in_one_half(tmp_path: Path) -> None:
    """Two ids of one text are never fitted on and held out."""
    texts = {f"q{number}": f"question {number // 2}" for number in range(60)}
    passages = {"yes": "5", "no": "-5"}
    folder = write_folder(tmp_path / "twice", passages, texts, {name: {"yes": 1} for name in texts})
    run = write_run(tmp_path / "run", {name: ["yes", "no"] for name in texts})
    for seed in range(4):
        scorer = Reads()
        result = calibrate(folder, Reranker(scorer), run=run, queries=45, seed=seed)
        fitted, held_out = scorer.queries[: result.fitted.queries], scorer.queries[result.fitted.queries :]
        assert len(fitted) + len(held_out) == 45
        assert not set(fitted) & set(held_out)
