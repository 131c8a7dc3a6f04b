"""The examples, run as a person runs them; the two pipelines against a real chat server on loopback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llm_server import ANSWER, chat_server

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "examples/data/english/corpus.jsonl"
SCRIPTS = ("rag_langchain.py", "rag_llama_index.py")
# What both scripts have from rerank_plugins.demo.rag is shown by one of them, and by both under `make test-slow`.
SHARED = (SCRIPTS[0], pytest.param(SCRIPTS[1], marks=pytest.mark.slow))


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    return subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / script), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**kept, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8", **environment},
    )


def sources(output: str) -> list[str]:
    return re.findall(r"^  \[\d\] (.+)$", output, flags=re.MULTILINE)


@pytest.mark.parametrize("script", SHARED)
def test_shows_retrieval_reranking_timings_and_a_sourced_answer(script: str) -> None:
    """Without an LLM the pipeline ends in an extractive answer that says it is one, with five sources."""
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert "50 candidates → 5 kept" in done.stdout
    assert re.search(r"retrieval \d+ ms  reranking with highlights \d+ ms", done.stdout)
    assert "extractive" in done.stdout
    assert len(sources(done.stdout)) == 5
    # Each source is followed by its best sentence, the first by the one that answers.
    beneath = re.findall(r"^  \[\d\] .+\n((?:      .+\n)+)", done.stdout + "\n", flags=re.MULTILINE)
    assert len(beneath) == 5
    assert "titanium" in beneath[0]
    assert "[1]" in done.stdout


# Each script and each provider once, and all four together under `make test-slow`.
@pytest.mark.parametrize(
    ("script", "provider", "suffix"),
    [
        ("rag_langchain.py", "ollama", ""),
        ("rag_llama_index.py", "openai", "/v1"),
        pytest.param("rag_langchain.py", "openai", "/v1", marks=pytest.mark.slow),
        pytest.param("rag_llama_index.py", "ollama", "", marks=pytest.mark.slow),
    ],
)
def test_exactly_the_top_five_reach_the_llm(script: str, provider: str, suffix: str) -> None:
    """One chat is asked, holding the five passages shown as sources and no other, and its answer is shown."""
    with chat_server() as server:
        done = run(script, "--llm", f"{provider}:tiny", "--llm-url", server.url + suffix)
    assert done.returncode == 0, done.stderr
    assert ANSWER in done.stdout
    rows = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    prompt = server.prompt()
    arrived = {row["title"] for row in rows if row["text"] in prompt}
    assert arrived == set(sources(done.stdout))
    assert len(arrived) == 5


@pytest.mark.parametrize("script", SHARED)
@pytest.mark.parametrize(
    "url",
    # One handler catches both, and the client tries the server again before it gives up.
    [
        pytest.param([], id="no key"),
        pytest.param(["--llm-url", "http://127.0.0.1:9/v1"], id="no server", marks=pytest.mark.slow),
    ],
)
def test_an_llm_out_of_reach_is_an_error_after_the_retrieval(script: str, url: list[str]) -> None:
    """A missing key or server ends non-zero with what to check, after the table has been shown."""
    done = run(script, "--llm", "openai:tiny", *url)
    assert done.returncode == 1
    assert "50 candidates → 5 kept" in done.stdout
    assert "did not answer" in done.stderr
    assert "OPENAI_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("script", SHARED)
def test_a_chinese_question_without_the_model_says_how_to_get_it(script: str, tmp_path: Path) -> None:
    """Chinese runs with bge-reranker-v2-m3; where it is not there, one message gives the command."""
    chinese = ROOT / "examples/data/chinese/corpus.jsonl"
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    done = run(script, "--corpus", str(chinese), "--query", "苹果公司最新发布的手机", **offline)
    assert done.returncode == 1
    assert "hf download BAAI/bge-reranker-v2-m3" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow  # tests/test_demo.py shows it without the pipelines
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_english_model_warns_when_asked_in_chinese(script: str) -> None:
    """rerank-mini-en asked in Chinese says that its scores mean nothing, and which model to use."""
    chinese = ROOT / "examples/data/chinese/corpus.jsonl"
    done = run(script, "--corpus", str(chinese), "--query", "苹果公司最新发布的手机", "--model", "rerank-mini-en")
    assert done.returncode == 0, done.stderr
    assert "reads English only" in done.stdout
    assert "--embedder BAAI/bge-m3" in done.stdout


@pytest.mark.slow  # the fast ones are in tests/test_demo.py; the way out is that of a model that is not there
def test_a_corpus_that_cannot_be_read_names_the_line(tmp_path: Path) -> None:
    """A file that is not JSON lines with text is one message, not a traceback."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("{broken", encoding="utf-8")
    done = run(SCRIPTS[0], "--corpus", str(corpus))
    assert done.returncode == 1
    assert "line 1 is not JSON" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_smallest_program_scores_the_right_passage_higher() -> None:
    """It prints three pairs with their scores, says that the model in the box reads no Chinese, and is short."""
    done = run("first_scores.py")
    assert done.returncode == 0, done.stderr
    said, *lines = done.stdout.splitlines()
    assert "reads English only" in said
    scores = {line.split(" | ")[1]: float(line.split()[0]) for line in lines}
    assert len(scores) == 3
    assert scores["The iPhone 15 Pro has a frame of titanium."] > scores["Apples are a healthy fruit, rich in fibre."]
    assert len((ROOT / "examples/first_scores.py").read_text(encoding="utf-8").splitlines()) <= 25


def test_the_smallest_program_scores_chinese_where_it_is_read(fresh_ir: Path) -> None:
    """With another model there is a Chinese pair more, and no warning."""
    done = run("first_scores.py", "--model", str(fresh_ir))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert "苹果公司最新发布的手机 | iPhone 15 Pro 支持钛合金边框" in done.stdout


@pytest.mark.slow
def test_the_traps_are_shown_and_counted() -> None:
    """Six English traps with bars and marks, the Chinese ones left out with a word, and the count at the end."""
    done = run("keyword_traps.py")
    assert done.returncode == 0, done.stderr
    assert "Chinese traps are left out" in done.stderr
    assert "How fast can a jaguar run? (homonym)" in done.stdout
    assert done.stdout.count("✓") == 8
    assert "█" in done.stdout
    assert re.search(r"reranking .*\d of 6", done.stdout)


@pytest.mark.parametrize("script", ["first_scores.py", "keyword_traps.py"])
def test_a_model_that_is_nowhere_is_one_message(script: str, tmp_path: Path) -> None:
    """The first scripts end with how to get it, and no traceback."""
    done = run(script, "--model", "no/such-model", HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path))
    assert done.returncode == 1
    assert "hf download no/such-model" in done.stderr
    assert "Traceback" not in done.stderr
