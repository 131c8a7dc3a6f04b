"""An evaluation that was stopped continues where it was, and only with its own scores."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from beir_folders import write_folder, write_run
from rerank_plugins import InvalidInputError, Reranker, load_reranker
from rerank_plugins.evaluation import Evaluation, evaluate
from rerank_plugins.evaluation.score_log import open_score_log
from rerank_plugins.evaluation.systems import load_systems
from rerank_plugins.retrieval import example_collection
from rerank_plugins.testing import WordOverlap

PASSAGES = {"a": "the cat sat on the mat", "b": "bread is baked from flour", "c": "water and air"}
QUERIES = {"q": "what is bread baked from", "r": "how do plants make food"}
CANDIDATES = {"q": ["a", "b", "c"], "r": ["c", "b"]}


@pytest.fixture
def reranker(bert_openvino: object, fresh_ir: Path) -> Iterator[Reranker]:
    del bert_openvino
    with load(fresh_ir) as loaded:
        yield loaded


def load(folder: Path, **options: int) -> Reranker:
    return load_reranker(folder, engine="openvino", precision="fp32", **options)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "small", PASSAGES, QUERIES, {"q": {"b": 1}, "r": {"c": 1}})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "first.run", CANDIDATES)


def computed(reranker: Reranker, folder: Path, run: Path, work: Path) -> int:
    """Tokens that the model reads for an evaluation; 0 if all was known."""
    before = reranker.stats().tokens
    evaluate(folder, [reranker], run_file=run, work_folder=work)
    return reranker.stats().tokens - before


def files(work: Path) -> list[Path]:
    return sorted(work.glob("scores-*.jsonl"))


def without_seconds(evaluation: Evaluation) -> Evaluation:
    return replace(evaluation, rerankers=[replace(one, seconds={}) for one in evaluation.rerankers])


def test_a_killed_evaluation_continues_where_it_stopped(reranker: Reranker, fresh_ir: Path, tmp_path: Path) -> None:
    """After SIGKILL in the middle the same call gives the same result, and computes only what is missing."""
    work, english = tmp_path / "work", example_collection("english")
    program = (
        f"from rerank_plugins.evaluation import evaluate; evaluate({str(english)!r}, [{str(fresh_ir)!r}], "
        f"max_queries=30, fetch_k=30, work_folder={str(work)!r}, engine='openvino', precision='fp32')"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    until = time.monotonic() + 60
    while not (files(work) and files(work)[0].read_bytes().count(b"\n") >= 3):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (kept,) = files(work)
    lines = kept.read_bytes().split(b"\n")[:-1]
    assert 3 <= len(lines) < 30

    whole = evaluate(english, [reranker], max_queries=30, fetch_k=30)
    tokens = reranker.stats().tokens
    resumed = evaluate(english, [reranker], max_queries=30, fetch_k=30, work_folder=work)
    assert reranker.stats().tokens - tokens < tokens
    assert without_seconds(resumed) == without_seconds(whole)
    assert files(work) == [kept]
    after = kept.read_bytes().split(b"\n")[:-1]
    assert after[: len(lines)] == lines
    assert len(after) == 30
    assert [resumed.rerankers[0].seconds[row["query_id"]] for row in map(json.loads, lines)] == [
        row["seconds"] for row in map(json.loads, lines)
    ]


def test_half_a_line_is_dropped_and_computed_again(reranker: Reranker, folder: Path, run: Path, tmp_path: Path) -> None:
    """An incomplete last line is removed; the lines before it are used."""
    work = tmp_path / "work"
    computed(reranker, folder, run, work)
    (kept,) = files(work)
    first, second, _ = kept.read_bytes().split(b"\n")
    kept.write_bytes(first + b"\n" + second[:50])
    assert computed(reranker, folder, run, work) > 0
    again = [json.loads(line) for line in kept.read_bytes().split(b"\n")[:-1]]
    assert [row["query_id"] for row in again] == ["q", "r"]
    assert again[1]["scores"] == json.loads(second)["scores"]
    assert computed(reranker, folder, run, work) == 0


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"\xff", b'{"scores": [NaN], "seconds": 1, "texts": "x"}'])
def test_a_damaged_line_is_computed_again(
    reranker: Reranker, folder: Path, run: Path, tmp_path: Path, damage: bytes
) -> None:
    """A line of another format is skipped."""
    work = tmp_path / "work"
    computed(reranker, folder, run, work)
    (kept,) = files(work)
    first, _, _ = kept.read_bytes().split(b"\n")
    kept.write_bytes(damage + b"\n" + first + b"\n")
    assert computed(reranker, folder, run, work) > 0
    assert computed(reranker, folder, run, work) == 0


@pytest.mark.parametrize("changed", ["query", "passage", "order"])
def test_other_texts_never_get_these_scores(
    reranker: Reranker, folder: Path, run: Path, tmp_path: Path, changed: str
) -> None:
    """A query, passage or order that changed under the same ids is scored again, and only that."""
    work = tmp_path / "work"
    whole = computed(reranker, folder, run, work)
    passages, queries, candidates = dict(PASSAGES), dict(QUERIES), dict(CANDIDATES)
    if changed == "query":
        queries["r"] += " again"
    elif changed == "passage":
        passages["a"] += " again"
    else:
        candidates["r"] = ["b", "c"]
    write_folder(folder, passages, queries, {"q": {"b": 1}, "r": {"c": 1}})
    write_run(run, candidates)
    assert 0 < computed(reranker, folder, run, work) < whole


def test_qrels_may_change(reranker: Reranker, folder: Path, run: Path, tmp_path: Path) -> None:
    """Scores do not depend on qrels: other qrels change the metrics and compute nothing."""
    work = tmp_path / "work"
    before = evaluate(folder, [reranker], run_file=run, work_folder=work).recall
    write_folder(folder, PASSAGES, QUERIES, {"q": {"b": 1, "a": 1}, "r": {"a": 1}})
    assert computed(reranker, folder, run, work) == 0
    assert evaluate(folder, [reranker], run_file=run, work_folder=work).recall < before


def test_another_model_under_the_same_name_never_gets_these_scores(
    reranker: Reranker, fresh_ir: Path, folder: Path, run: Path, tmp_path: Path
) -> None:
    """Other files in the same folder, and other loading options, have logs of their own."""
    work = tmp_path / "work"
    whole = computed(reranker, folder, run, work)
    with load(fresh_ir, max_length=8) as shorter:
        assert computed(shorter, folder, run, work) > 0
    shutil.copyfile(fresh_ir / "config.json", tmp_path / "config.json")
    (fresh_ir / "config.json").write_text((fresh_ir / "config.json").read_text() + "\n")
    with load(fresh_ir) as changed:
        assert computed(changed, folder, run, work) == whole
    assert len(files(work)) == 3
    shutil.copyfile(tmp_path / "config.json", fresh_ir / "config.json")
    assert computed(reranker, folder, run, work) == 0


def test_scores_of_a_custom_scorer_are_not_logged(folder: Path, run: Path, tmp_path: Path) -> None:
    """A custom scorer has no key that tells whether it is the same in the next process."""
    evaluate(folder, [Reranker(WordOverlap())], run_file=run, work_folder=tmp_path / "work")
    assert files(tmp_path / "work") == []


def test_two_evaluations_do_not_write_one_file(reranker: Reranker, tmp_path: Path) -> None:
    """A second evaluation of the same model in the same folder is refused, until the first ends."""
    with ExitStack() as stack:
        (system,) = stack.enter_context(load_systems([reranker]))
        identity = system.identity()
        assert identity is not None
        with open_score_log(tmp_path, "model", identity):
            with open_score_log(tmp_path, "model", "another"):
                pass
            with pytest.raises(InvalidInputError, match="at work in"), open_score_log(tmp_path, "model", identity):
                pass
        with open_score_log(tmp_path, "model", identity):
            pass


def test_a_folder_that_is_a_file_is_refused_first(folder: Path, run: Path, tmp_path: Path) -> None:
    """A work folder that cannot be created is an error before anything is loaded."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="cannot be created"):
        evaluate(folder, ["no/such-model"], run_file=run, work_folder=tmp_path / "file")
