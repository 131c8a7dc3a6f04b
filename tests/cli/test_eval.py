"""`rerank-plugins eval`, in this process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from beir_folders import write_folder, write_run
from rerank_plugins.cli.eval import print_evaluation
from rerank_plugins.evaluation import Evaluation, evaluate
from rerank_plugins.evaluation.results import Interval, QueryChange, Ranking, Reranked
from rerank_plugins.retrieval import example_collection
from rerank_plugins.testing import toy_reranker

Here = Callable[..., subprocess.CompletedProcess[str]]
MODEL = ("--model", "rerank-mini-en")
PASSAGES = {"a": "The frame is of titanium.", "b": "Apples are rich in fibre.", "c": "Oak holds the [bold]picture."}
QUERIES = {"q": "What is the frame made of?", "r": "Is fruit healthy?"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "small", PASSAGES, QUERIES, {"q": {"a": 1}, "r": {"b": 1}})


def test_the_table_has_a_row_a_model_and_the_verdict_follows(here: Here, folder: Path, tmp_path: Path) -> None:
    """First stage and model side by side, what the candidates hold, the machine, the verdict."""
    run = write_run(tmp_path / "bm25.run", {"q": ["c", "b", "a"], "r": ["c", "b"]})
    done = here("eval", folder, "--run-file", run, *MODEL)
    assert done.returncode == 0, done.stderr
    assert "small: 2 judged queries over 3 passages" in done.stdout
    assert "candidates of bm25.run, 50 at most, hold 100.0% of what is relevant" in done.stdout
    before, after = (next(row for row in done.stdout.splitlines() if row.startswith(name)) for name in ("bm25", "rer"))
    assert before.split()[:2] == ["bm25.run", "0.565"]
    assert after.split()[:4] == ["rerank-mini-en", "1.000", "+0.435", "0.500"]
    assert "Whether reranking helps cannot be told from 2 queries" in done.stdout
    assert "largest losses" not in done.stdout


def test_json_is_the_whole_evaluation(here: Here, folder: Path, tmp_path: Path) -> None:
    """--json prints one object with the fields of `Evaluation`; --work-folder keeps the same, and the scores."""
    done = here(
        "eval", folder, *MODEL, "--json", "--work-folder", tmp_path / "work", "--fetch-k", "2", "--precision", "int8"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == [
        "collection",
        "passages",
        "queries",
        "first_stage",
        "fetch_k",
        "recall",
        "before",
        "rerankers",
        "machine",
    ]
    (reranked,) = found["rerankers"]
    assert reranked["by_depth"]["2"] == reranked["ranking"]["means"]["nDCG@10"]["mean"]
    assert json.loads((tmp_path / "work" / "evaluation.json").read_text()) == found
    assert len(list((tmp_path / "work").glob("scores-rerank-mini-en-*.jsonl"))) == 1


def change(number: int, before: float, after: float) -> QueryChange:
    return QueryChange(
        query_id=f"q{number}",
        query=f"query {number} " + "long " * 50,
        before=before,
        after=after,
        first_relevant_before=1,
        first_relevant_after=4,
        top_before="the [bold]right one",
        top_after="a wrong\none",
        relevant="the right one",
    )


def test_the_largest_losses_are_printed_with_their_texts(capsys: pytest.CaptureFixture[str]) -> None:
    """The three queries with the largest losses, worst first, shortened, without those that gained."""
    mean = Interval(0.5, 0.4, 0.6)
    ranking = Ranking(dict.fromkeys(("nDCG@10", "RR@10", "R@10"), mean), {})
    changes = [change(number, 1.0, number / 10) for number in range(5)] + [change(5, 0.5, 1.0)]
    reranked = Reranked(
        model="some/very-long-name-of-a-model-that-breaks",
        engine="openvino",
        precision="fp32",
        ranking=ranking,
        difference=Interval(-0.1, -0.2, -0.05),
        p_value=0.0002,
        better=1,
        worse=5,
        seconds={f"q{number}": number / 100 for number in range(1, 22)},
        by_depth={50: 0.5},
        changes=changes,
        scores={},
        verdict="Reranking hurts: and so on.",
    )
    print_evaluation(Evaluation("c", 10, 6, "stage", 50, 0.9, ranking, [reranked], "a processor, 2 threads"))
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    row = next(line for line in lines if "-0.100" in line)
    assert row.split()[-5] == "<.001"
    assert row.split()[-2:] == ["110", "200"]
    assert "[-0.200, -0.050]" in printed
    assert "[0.400, 0.600]" in printed
    assert "Reranking hurts: and so on." in lines
    assert "The largest losses, 3 of 5:" in lines
    worst = lines.index("The largest losses, 3 of 5:") + 1
    for number in range(3):
        assert lines[worst + 4 * number].startswith(f"  1.000 → 0.{number}00  query {number} long")
    assert lines[worst].endswith("…")
    assert lines[worst + 1 : worst + 4] == [
        "    first before: the [bold]right one",
        "    first after:  a wrong one",
        "    relevant, rank 1; now the best relevant one has 4: the right one",
    ]


def test_several_models_are_several_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """Each reranker has its row and its verdict."""
    print_evaluation(
        evaluate(example_collection("english"), [toy_reranker(), toy_reranker()], fetch_k=5, max_queries=10)
    )
    printed = capsys.readouterr().out
    assert printed.count("CrossEncoderScorer (openvino, fp32)") == 1
    assert printed.count("CrossEncoderScorer (2) (openvino, fp32)") == 1
    assert printed.count("of 10.") == 2


@pytest.mark.slow
def test_chinese_queries_and_english_models_are_warned_of(here: Here, tmp_path: Path) -> None:
    """Chinese queries print a warning for each model that does not read Chinese."""
    folder = write_folder(tmp_path / "zh", {"a": "苹果手机", "b": "海洋"}, {"q": "手机"}, {"q": {"a": 1}})
    done = here("eval", folder, *MODEL)
    assert done.returncode == 0
    assert "rerank-mini-en reads English only" in done.stderr
    assert "embed-static-en knows Chinese by single characters only" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing",), "missing has no corpus.jsonl"),
        (("{folder}", "--fetch-k", "0"), "fetch_k must be a whole number of at least 1 (candidates), got 0"),
        (("{folder}", *MODEL), "rerank-mini-en is given twice"),
        (("{folder}", "--engine", "onnx"), "onnx"),
        (("{folder}", "--run-file", "missing.run"), "no file missing.run"),
        (("{folder}", "--split", "train"), "has no qrels/train.tsv"),
    ],
)
def test_errors_are_one_message_and_status_2(
    here: Here, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    """A wrong argument ends with a helpful message, without a traceback."""
    done = here("eval", *[argument.format(folder=folder) for argument in arguments], *MODEL)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
