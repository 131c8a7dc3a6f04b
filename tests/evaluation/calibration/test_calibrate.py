"""`calibrate`: the curve it finds, what it measures, and what it refuses."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from calibration_data import Curve, Reads, drawn, logistic, write
from rerank_plugins import Calibration, InvalidInputError, Reranker, load_reranker, sigmoid
from rerank_plugins.cli import app
from rerank_plugins.evaluation import CalibrationResult, calibrate
from rerank_plugins.evaluation.calibration.curves import ScoredQuery, better_method, fit
from rerank_plugins.evaluation.calibration.error import BINS, brier_score, calibration_error, threshold_effects
from rerank_plugins.retrieval import example_collection, load_embedder, read_collection
from rerank_plugins.retrieval.first_stage import embedded

NQ = Path(__file__).resolve().parents[4] / "shared" / "data" / "nq-qed"


def stairs(score: float) -> float:
    return 0.02 if score < -1 else 0.5 if score < 4 else 0.95


def calibrated(folder: Path, scorer: Reads | None = None, **options: Any) -> CalibrationResult:
    return calibrate(folder, Reranker(scorer or Reads()), run=folder / "run", **options)


def test_platt_finds_the_curve_that_the_judgements_follow() -> None:
    """Of 5,000 pairs judged by a logistic curve, slope and intercept come back."""
    found = fit("platt", drawn(logistic, 100))
    assert (found.slope, found.intercept) == pytest.approx((0.7, -3.0), abs=0.15)


def test_platt_stays_finite_where_scores_separate_perfectly() -> None:
    """Scores that separate all relevant from all others leave a curve with values in between."""
    queries = [ScoredQuery([-1.0, -0.5, 0.5, 1.0], [False, False, True, True]) for _ in range(20)]
    found = fit("platt", queries)
    assert 0.001 < found.probability(-0.5) < 0.1
    assert 0.9 < found.probability(0.5) < 0.999


def test_an_isotonic_curve_follows_stairs_and_is_never_certain() -> None:
    """Any non-decreasing curve is found; 0 and 1 are not said after so many pairs; its file stays small."""
    found = fit("isotonic", drawn(stairs, 400))
    for score in (-5.0, 1.5, 7.0):
        assert found.probability(score) == pytest.approx(stairs(score), abs=0.06)
    assert 0 < found.probability(-1e9) < found.probability(1e9) < 1
    assert len(found.scores) <= 200


@pytest.mark.parametrize(("curve", "queries", "method"), [(logistic, 40, "platt"), (stairs, 100, "isotonic")])
def test_auto_takes_what_predicts_better(curve: Curve, queries: int, method: str) -> None:
    """A logistic truth seen seldom gives Platt's curve, stairs the isotonic one."""
    chosen, losses = better_method(drawn(curve, queries))
    assert chosen == method == min(losses, key=lambda name: losses[name])


def test_few_pairs_are_platts() -> None:
    """With fewer than 1,000 pairs to fit on the isotonic curve is not tried."""
    assert better_method(drawn(stairs, 19)) == ("platt", {})
    assert set(better_method(drawn(stairs, 20))[1]) == {"platt", "isotonic"}


def test_scores_that_tell_nothing_are_refused() -> None:
    """The same score for all, and relevant ones below the others, give no curve."""
    for queries in (
        [ScoredQuery([1.0, 1.0], [True, False])] * 20,
        [ScoredQuery([-1.0, 1.0], [True, False])] * 20,
    ):
        for method in ("platt", "isotonic"):
            with pytest.raises(InvalidInputError, match="no higher scores than others"):
                fit(method, queries)


def test_the_calibration_error_is_the_distance_in_bins_of_equal_size() -> None:
    """Two bins' worth of truth: what is said of a bin, less what happened in it, by the share of pairs."""
    scores = [float(number) for number in range(4 * BINS)]
    queries = [ScoredQuery([score], [score % 4 == 0]) for score in scores]
    assert calibration_error(queries, lambda _: 0.25) == pytest.approx(0.0)  # one of four in every bin
    assert calibration_error(queries, lambda _: 0.75) == pytest.approx(0.5)
    half = 2 * BINS
    # The bin in the middle has both halves: 2 × .25 less 2 × 1 is what its four pairs are off in sum.
    assert calibration_error(queries, lambda score: 0.25 if score < half else 1.0) == pytest.approx(
        (7 * 4 * 0.75 + abs(2 * 0.25 + 2 * 1.0 - 1)) / (4 * BINS)
    )
    assert brier_score(queries, lambda _: 0.25) == pytest.approx((0.75**2 + 3 * 0.25**2) / 4)


@given(st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=1, max_size=40))
def test_errors_lie_in_0_to_1(pairs: list[tuple[float, bool]]) -> None:
    """For any pairs, fewer than there are bins included."""
    queries = [ScoredQuery([score], [label]) for score, label in pairs]
    for error in (calibration_error, brier_score):
        assert 0 <= error(queries, sigmoid) <= 1


def test_what_a_threshold_does_is_counted_by_query() -> None:
    """Precision, recall, documents kept, and both kinds of queries that return nothing."""
    queries = [
        ScoredQuery([0.8, 0.6, 0.2], [True, False, False]),
        ScoredQuery([0.4, 0.3], [True, False]),
        ScoredQuery([0.55, 0.1], [False, False]),
        ScoredQuery([0.05], [False]),
    ]
    effects = {effect.threshold: effect for effect in threshold_effects(queries, float)}
    half = effects[0.5]
    assert (half.precision, half.recall, half.kept) == (pytest.approx(1 / 3), 0.5, 0.75)
    # Of q0 and q1, which have an answer, q1 is empty; with the answers taken out q0 and q2 still keep something.
    assert (half.empty_with_answer, half.empty_without_answer) == (0.5, 0.5)
    most = effects[0.9]
    assert (most.precision, most.recall, most.kept) == (None, 0.0, 0.0)
    assert (most.empty_with_answer, most.empty_without_answer) == (1.0, 1.0)


def test_the_error_falls_on_queries_that_were_not_fitted_on(tmp_path: Path) -> None:
    """Judged by a curve that is not the sigmoid, the held-out half is off before and nearly right after."""
    result = calibrated(write(tmp_path / "drawn", drawn(logistic, 100)))
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
    """Other judgements of the held-out half change what is measured and nothing that is fitted."""
    queries = drawn(logistic, 60, 20)
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


def test_the_seed_draws_the_queries(tmp_path: Path) -> None:
    """The same seed gives the same result, another one other halves; a sample has so many queries."""
    folder = write(tmp_path / "drawn", drawn(logistic, 100, 20))
    assert calibrated(folder, queries=60) == calibrated(folder, queries=60)
    assert calibrated(folder, queries=60).calibration != calibrated(folder, queries=60, seed=1).calibration
    assert calibrated(folder, queries=60).fitted.queries == 30


def test_a_scorer_of_probabilities_is_calibrated_from_its_own_numbers(tmp_path: Path) -> None:
    """Without a calibration its scores are taken as they are, so its error before is theirs."""
    chance = random.Random(0)
    rows = [[chance.random() for _ in range(20)] for _ in range(60)]
    folder = write(
        tmp_path / "drawn", [ScoredQuery(row, [chance.random() < score**2 for score in row]) for row in rows]
    )
    result = calibrate(folder, Reranker(Reads(), scale="probability"), run=folder / "run")
    assert result.calibration.ece_before == pytest.approx(1 / 2 - 1 / 3, abs=0.04)  # the means of x and of x²
    assert result.calibration.ece_after < result.calibration.ece_before / 2


def test_blank_passages_are_left_out(tmp_path: Path) -> None:
    """They never reach the model in a `Reranker`, so they say nothing about its scores."""
    folder = write(tmp_path / "drawn", drawn(logistic, 60, 20))
    corpus = folder / "corpus.jsonl"
    lines = corpus.read_text().splitlines()
    corpus.write_text("\n".join([json.dumps({"_id": "p0-0", "text": " "}), *lines[1:]]))
    result = calibrated(folder)
    assert result.fitted.pairs + result.held_out.pairs == 60 * 20 - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sigmoid"}, "method must be 'auto', 'platt' or 'isotonic'"),
        ({"top_k": 0}, "top_k must be a whole number of at least 1"),
        ({"queries": 0}, "queries must be a whole number of at least 1"),
        ({"queries": True}, "queries must be a whole number of at least 1"),
        ({"embedder": "another"}, "from a run file or from an embedder"),
        ({"max_length": 100}, "Got a Reranker and, beside it, max_length"),
        (
            {"queries": 12},
            "6 queries to fit on, 6 have a relevant passage among their candidates, expected at least 10",
        ),
        ({"split": "dev"}, r"no qrels/dev\.tsv"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    """An option outside its range, or a sample that is too small, says what was expected."""
    folder = write(tmp_path / "drawn", drawn(logistic, 40))
    with pytest.raises(InvalidInputError, match=message):
        calibrated(folder, **options)


def test_collections_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    """Without judgements, without a relevant candidate, or with nothing else, it says what to give."""
    for name, relevant, message in (
        ("none", [False] * 4, "0 have a relevant passage.*Give more judged queries"),
        ("all", [True] * 4, "all 80 candidates of the 20 queries to fit on are relevant"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            calibrated(write(tmp_path / name, [ScoredQuery([1.0, 2.0, 3.0, 4.0], relevant)] * 40))
    (tmp_path / "all" / "qrels" / "test.tsv").unlink()
    with pytest.raises(InvalidInputError, match="has no judgements"):
        calibrated(tmp_path / "all")


def test_without_scikit_learn_the_extra_is_named() -> None:
    """The error gives the command that installs it."""
    program = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from rerank_plugins.evaluation.calibration.curves import ScoredQuery, fit; fit('platt', [])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert "pip install 'rerank-plugins[eval]'" in done.stderr


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the command wrote and printed for the model in the box and a part of the English example."""
    out = tmp_path_factory.mktemp("english") / "english.json"
    options = ["--model", "rerank-mini-en", "--queries", "44", "--top-k", "5", "--out", str(out)]
    result = CliRunner().invoke(app, ["calibrate", str(example_collection("english")), *options])
    assert result.exit_code == 0, result.output
    return out, result.stdout


@pytest.fixture(scope="module")
def mini(english: tuple[Path, str]) -> Iterator[Reranker]:
    with load_reranker("rerank-mini-en", calibration=english[0]) as reranker:
        yield reranker


@pytest.mark.slow
def test_the_command_prints_tables_and_the_line_to_use(english: tuple[Path, str]) -> None:
    """Both errors before and after, every threshold, and the Python that uses the file it wrote."""
    out, printed = english
    calibration = Calibration.read(out)
    assert f"{calibration.ece_before:.4f}" in printed
    assert f"{calibration.ece_after:.4f}" in printed
    for part in ("Brier score", "score_threshold", "0.25", "measured on 22 other queries"):
        assert part in printed
    assert f"load_reranker('rerank-mini-en', calibration={str(out)!r})" in printed
    assert calibration.fitted_on.startswith("english, top 5 of embed-static-en: 110 pairs of 22 queries, ")


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    """For each question the ten passages of the English example that the embedder finds."""
    collection = read_collection(example_collection("english"))
    questions = {query: query for query, _ in (*ANSWERS, *((query, "") for query in NO_ANSWERS))}
    asked = replace(collection, queries=questions, judgements={})
    stage = embedded(asked, load_embedder("embed-static-en"), name="embed-static-en", top_k=10)
    return {query: [collection.passages[name] for name, _ in names] for query, names in stage.candidates.items()}


ANSWERS = [("why does popcorn pop", "steam"), ("What does a patent protect?", "patent")]
NO_ANSWERS = [
    "How do I remove red wine stains?",
    "How is the offside rule applied in ice hockey?",
    "telephone inventor",
    "How long does shoe polish keep?",
]


@pytest.mark.slow
@pytest.mark.parametrize(("query", "word"), ANSWERS)
def test_an_answer_is_above_one_half(mini: Reranker, found: dict[str, list[str]], query: str, word: str) -> None:
    """At score_threshold=0.5 a question that the corpus answers returns the answer first."""
    results = mini.rerank(query, found[query], score_threshold=0.5)
    assert word in results[0].document


@pytest.mark.slow
@pytest.mark.parametrize("query", NO_ANSWERS)
def test_what_the_corpus_does_not_hold_returns_nothing(mini: Reranker, found: dict[str, list[str]], query: str) -> None:
    """At score_threshold=0.5 a question that the corpus does not answer returns nothing."""
    assert mini.rerank(query, found[query], score_threshold=0.5) == []


@pytest.mark.slow
def test_the_sigmoid_would_have_returned_something(mini: Reranker, found: dict[str, list[str]]) -> None:
    """Without the calibration the same threshold lets what shoe polish is made of pass for how long it keeps."""
    assert Reranker(mini.scorer).rerank(NO_ANSWERS[-1], found[NO_ANSWERS[-1]], score_threshold=0.5) != []


@pytest.mark.slow
def test_json_is_one_document(tmp_path: Path) -> None:
    """The file, the calibration and all that was measured."""
    collection = read_collection(example_collection("english"))
    run = tmp_path / "run"
    lines = [
        f"{query} Q0 {passage} 1 {grade} judged"
        for query, grades in list(collection.judgements.items())[:24]
        for passage, grade in list(grades.items())[:3]
    ]
    run.write_text("\n".join(lines))
    options = ["--model", "rerank-mini-en", "--run", str(run), "--method", "platt", "--out", str(tmp_path / "c.json")]
    result = CliRunner().invoke(app, ["calibrate", str(example_collection("english")), *options, "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["file"] == str(tmp_path / "c.json")
    assert printed["calibration"]["slope"] == Calibration.read(tmp_path / "c.json").slope
    assert printed["fitted"]["queries"] == printed["held_out"]["queries"] == 12
    assert [effect["threshold"] for effect in printed["thresholds"]] == [0.1, 0.25, 0.5, 0.75, 0.9]


def test_a_place_that_cannot_be_written_is_told_first(tmp_path: Path) -> None:
    """Before anything is read, let alone scored."""
    for out in (tmp_path / "not" / "there.json", tmp_path):
        result = CliRunner().invoke(app, ["calibrate", str(tmp_path / "no-collection"), "--out", str(out)])
        assert isinstance(result.exception, InvalidInputError)
        assert "cannot be written" in str(result.exception)


@pytest.mark.data
@pytest.mark.slow
def test_on_real_search_queries_the_error_falls_by_half() -> None:
    """nq-qed with the model in the box: 30 queries fitted on, the error of the other 30 at most half of what it was."""
    if not NQ.is_dir():
        pytest.skip("needs ../shared/data/nq-qed, which is not here")
    calibration = calibrate(NQ, "rerank-mini-en", queries=60, top_k=30).calibration
    assert calibration.ece_after <= calibration.ece_before / 2
    assert math.isfinite(calibration.slope)
