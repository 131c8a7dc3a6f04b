"""`calibrate`: what it fits, what it measures, and what it refuses."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beir_folders import write_folder, write_run
from calibration_data import Reads, judged_queries, logistic, write
from rerank_plugins import InvalidInputError, Pair, Reranker
from rerank_plugins.evaluation import CalibrationResult, calibrate
from rerank_plugins.evaluation.calibration.curves import ScoredQuery

NQ = Path(__file__).resolve().parents[4] / "shared" / "data" / "nq-qed"


class Never:
    """A scorer that must not be called."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """An error."""
        pytest.fail(f"{len(pairs)} pairs were scored")


def calibrated(folder: Path, scorer: Reads | None = None, **options: Any) -> CalibrationResult:
    return calibrate(folder, Reranker(scorer or Reads()), run_file=folder / "run", **options)


def test_the_error_falls_on_queries_that_were_not_fitted_on(tmp_path: Path) -> None:
    """If relevance follows another curve than the sigmoid, the error on the held-out half falls to a fifth."""
    result = calibrated(write(tmp_path / "drawn", judged_queries(logistic, 100)))
    calibration = result.calibration
    assert calibration.ece_after < calibration.ece_before / 5
    assert result.brier_after < result.brier_before
    assert (result.fitted.queries, result.fitted.pairs, result.held_out.queries) == (50, 2500, 50)
    assert calibration.model == "Reads"
    assert calibration.fitted_on == (
        f"drawn, top 50 of run: 2500 pairs of 50 queries, {result.fitted.relevant} relevant"
    )
    assert set(result.log_loss) == {"platt", "isotonic"}


def test_what_is_held_out_does_not_move_the_curve(tmp_path: Path) -> None:
    """Other qrels of the held-out half change the measurement and not the curve."""
    queries = judged_queries(logistic, 60, 20)
    scorer = Reads()
    before = calibrated(write(tmp_path / "before", queries), scorer)
    held_out = set(scorer.queries[30:])
    other = [
        replace(query, relevant=[not label for label in query.relevant]) if f"q{number}" in held_out else query
        for number, query in enumerate(queries)
    ]
    after = calibrated(write(tmp_path / "after", other))
    measured = {"fitted_on": "", "ece_before": 0.0, "ece_after": 0.0}
    assert replace(after.calibration, **measured) == replace(before.calibration, **measured)
    assert after.calibration.ece_after > 0.5 > before.calibration.ece_after


def test_the_seed_determines_the_halves(tmp_path: Path) -> None:
    """The same seed gives the same result, another one other halves; a sample has so many queries."""
    folder = write(tmp_path / "drawn", judged_queries(logistic, 100, 20))
    assert calibrated(folder, max_queries=60) == calibrated(folder, max_queries=60)
    assert calibrated(folder, max_queries=60).calibration != calibrated(folder, max_queries=60, seed=1).calibration
    assert calibrated(folder, max_queries=60).fitted.queries == 30


def test_a_scorer_of_probabilities_is_calibrated_from_its_own_numbers(tmp_path: Path) -> None:
    """The error before is that of the scores as they are, without a sigmoid."""
    chance = random.Random(0)
    rows = [[chance.random() for _ in range(20)] for _ in range(60)]
    folder = write(
        tmp_path / "drawn", [ScoredQuery(row, [chance.random() < score**2 for score in row]) for row in rows]
    )
    result = calibrate(folder, Reranker(Reads(), scale="probability"), run_file=folder / "run")
    assert result.calibration.ece_before == pytest.approx(1 / 2 - 1 / 3, abs=0.04)  # the means of x and of x²
    assert result.calibration.ece_after < result.calibration.ece_before / 2


def test_blank_passages_are_left_out(tmp_path: Path) -> None:
    """A `Reranker` does not score blank passages, so they are no pairs to fit on."""
    folder = write(tmp_path / "drawn", judged_queries(logistic, 60, 20))
    corpus = folder / "corpus.jsonl"
    lines = corpus.read_text().splitlines()
    corpus.write_text("\n".join([json.dumps({"_id": "p0-0", "text": " "}), *lines[1:]]))
    result = calibrated(folder)
    assert result.fitted.pairs + result.held_out.pairs == 60 * 20 - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sigmoid"}, "method must be 'auto', 'platt' or 'isotonic'"),
        ({"fetch_k": 0}, "fetch_k must be a whole number of at least 1"),
        ({"max_queries": True}, "max_queries must be a whole number of at least 1"),
        ({"embedder": "another"}, "from a run file or from an embedder"),
        ({"max_length": 100}, "Got a Reranker and max_length"),
        (
            {"max_queries": 12},
            "6 queries to fit on, 6 have a relevant passage among their candidates, expected at least 10",
        ),
        ({"split": "dev"}, r"no qrels/dev\.tsv"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    """An option outside its range, or a sample that is too small, says what was expected."""
    folder = write(tmp_path / "drawn", judged_queries(logistic, 40))
    with pytest.raises(InvalidInputError, match=message):
        calibrated(folder, **options)


def test_collections_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    """Missing qrels, no relevant candidate, or only relevant ones are errors that say what to give."""
    for name, relevant, message in (
        ("none", [False] * 4, "0 have a relevant passage.*Give more judged queries"),
        ("all", [True] * 4, "all 80 candidates of the 20 queries to fit on are relevant"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            calibrated(write(tmp_path / name, [ScoredQuery([1.0, 2.0, 3.0, 4.0], relevant)] * 40))
    (tmp_path / "all" / "qrels" / "test.tsv").unlink()
    with pytest.raises(InvalidInputError, match="has no qrels"):
        calibrated(tmp_path / "all")


@pytest.mark.data
@pytest.mark.slow
def test_on_real_search_queries_the_error_falls_by_half() -> None:
    """nq-qed with the bundled model: 30 queries fitted on, the error of the other 30 at most half of what it was."""
    if not NQ.is_dir():
        pytest.skip("needs ../shared/data/nq-qed, which is not here")
    calibration = calibrate(NQ, "rerank-mini-en", max_queries=60, fetch_k=30).calibration
    assert calibration.ece_after <= calibration.ece_before / 2
    assert math.isfinite(calibration.slope)


def test_too_few_queries_are_an_error_before_scoring(tmp_path: Path) -> None:
    """The number of judged queries is checked before anything is scored."""
    folder = write(tmp_path / "few", judged_queries(logistic, 12, candidates=3))
    with pytest.raises(InvalidInputError, match="expected at least 10 in either half"):
        calibrate(folder, Reranker(Never()), run_file=folder / "run")


def test_qrels_of_other_queries_are_an_error_before_embedding(tmp_path: Path) -> None:
    """Qrels whose query ids are not in queries.jsonl are an error before anything is embedded."""
    folder = write_folder(tmp_path / "odd", {"b": "text"}, {"q": "query"}, {"elsewhere": {"b": 1}})
    with pytest.raises(InvalidInputError, match=r"None of the 1 judged queries of odd has a text in queries\.jsonl"):
        calibrate(folder, Reranker(Never()))


def test_the_order_of_a_runs_lines_does_not_change_the_halves(tmp_path: Path) -> None:
    """The same run, its lines in another order, gives the same calibration."""
    folder = write(tmp_path / "run order", judged_queries(logistic, 60, candidates=8))
    lines = (folder / "run").read_text().splitlines()
    random.Random(1).shuffle(lines)
    (tmp_path / "other").write_text("\n".join(lines))
    first, second = (calibrate(folder, Reranker(Reads()), run_file=run) for run in (folder / "run", tmp_path / "other"))
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
        result = calibrate(folder, Reranker(scorer), run_file=run, max_queries=45, seed=seed)
        fitted, held_out = scorer.queries[: result.fitted.queries], scorer.queries[result.fitted.queries :]
        assert len(fitted) + len(held_out) == 45
        assert not set(fitted) & set(held_out)
