"""`rerank-plugins calibrate`, and thresholds on the scores that it calibrates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rerank_plugins import Calibration, InvalidInputError, Reranker, load_reranker
from rerank_plugins.cli import app
from rerank_plugins.retrieval import example_collection, load_embedder, read_collection, retrieve

ANSWERS = [("why does popcorn pop", "steam"), ("What does a patent protect?", "patent")]
NO_ANSWERS = [
    "How do I remove red wine stains?",
    "How is the offside rule applied in ice hockey?",
    "telephone inventor",
    "How long does shoe polish keep?",
]


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the command wrote and printed for the bundled model and a part of the English example."""
    out = tmp_path_factory.mktemp("english") / "english.json"
    options = ["--model", "rerank-mini-en", "--max-queries", "44", "--fetch-k", "5", "--output-file", str(out)]
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
    asked = replace(collection, queries=questions, qrels={})
    stage = retrieve(asked, load_embedder("embed-static-en"), name="embed-static-en", fetch_k=10)
    return {query: [collection.passages[name] for name, _ in names] for query, names in stage.candidates.items()}


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
    """Without the calibration the same threshold returns a passage for a question without an answer."""
    assert Reranker(mini.scorer).rerank(NO_ANSWERS[-1], found[NO_ANSWERS[-1]], score_threshold=0.5) != []


@pytest.mark.slow
def test_json_is_one_document(tmp_path: Path) -> None:
    """The file, the calibration and all that was measured."""
    collection = read_collection(example_collection("english"))
    run = tmp_path / "run"
    lines = [
        f"{query} Q0 {passage} 1 {grade} judged"
        for query, grades in list(collection.qrels.items())[:24]
        for passage, grade in list(grades.items())[:3]
    ]
    run.write_text("\n".join(lines))
    options = [
        "--model",
        "rerank-mini-en",
        "--run-file",
        str(run),
        "--method",
        "platt",
        "--output-file",
        str(tmp_path / "c.json"),
    ]
    result = CliRunner().invoke(app, ["calibrate", str(example_collection("english")), *options, "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["file"] == str(tmp_path / "c.json")
    assert printed["calibration"]["slope"] == Calibration.read(tmp_path / "c.json").slope
    assert printed["fitted"]["queries"] == printed["held_out"]["queries"] == 12
    assert [effect["threshold"] for effect in printed["thresholds"]] == [0.1, 0.25, 0.5, 0.75, 0.9]


def test_an_output_file_that_cannot_be_written_is_an_error_first(tmp_path: Path) -> None:
    """The error comes before anything is read or scored."""
    for out in (tmp_path / "not" / "there.json", tmp_path):
        result = CliRunner().invoke(app, ["calibrate", str(tmp_path / "no-collection"), "--output-file", str(out)])
        assert isinstance(result.exception, InvalidInputError)
        assert "cannot be written" in str(result.exception)
