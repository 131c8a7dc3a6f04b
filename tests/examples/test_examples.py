"""The example scripts; the two pipelines against a chat server on loopback."""

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
EXAMPLES = ROOT / "examples"
CORPUS = EXAMPLES / "data/english/corpus.jsonl"
CHINESE = ("--corpus", str(EXAMPLES / "data/chinese/corpus.jsonl"), "--query", "苹果公司最新发布的手机")
SCRIPTS = ("rag_langchain.py", "rag_llama_index.py")
# What both scripts take from rerank_plugins.demo is fast for one of them, and tested for both by `make test-slow`.
PIPELINES = pytest.mark.parametrize("script", [SCRIPTS[0], pytest.param(SCRIPTS[1], marks=pytest.mark.slow)])


def run(script: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a script as people do, without a key for an LLM."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / script), *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        env={**environment, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8", **settings},
    )


def run_offline(script: str, *arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run a script that finds nothing in the Hugging Face cache and does not ask the hub."""
    return run(script, *arguments, HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(cache))


def list_sources(output: str) -> list[str]:
    return re.findall(r"^  \[\d\] (.+)$", output, flags=re.MULTILINE)


@PIPELINES
def test_shows_retrieval_reranking_timings_and_a_sourced_answer(script: str) -> None:
    """Without an LLM the pipeline ends in an extractive answer, with five sources and the best sentence of each."""
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert "50 candidates → 5 kept" in done.stdout
    assert re.search(r"retrieval \d+ ms  reranking with highlights \d+ ms", done.stdout)
    assert "extractive" in done.stdout
    assert len(list_sources(done.stdout)) == 5
    sentences = re.findall(r"^  \[\d\] .+\n((?:      .+\n)+)", done.stdout + "\n", flags=re.MULTILINE)
    assert len(sentences) == 5
    assert "titanium" in sentences[0]
    assert "[1]" in done.stdout


@pytest.mark.parametrize(
    ("script", "provider", "suffix"),
    [
        (SCRIPTS[0], "ollama", ""),
        (SCRIPTS[1], "openai", "/v1"),
        pytest.param(SCRIPTS[0], "openai", "/v1", marks=pytest.mark.slow),
        pytest.param(SCRIPTS[1], "ollama", "", marks=pytest.mark.slow),
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
    titles = {row["title"] for row in rows if row["text"] in prompt}
    assert titles == set(list_sources(done.stdout))
    assert len(titles) == 5


@PIPELINES
@pytest.mark.parametrize(
    "url",
    [
        pytest.param([], id="no key"),
        # Slow, because the client tries the server again before it gives up.
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


def test_a_chinese_question_without_the_model_says_how_to_get_it(tmp_path: Path) -> None:
    """Chinese runs with bge-reranker-v2-m3; if it is not there, one message gives the command."""
    done = run_offline("rag_langchain.py", *CHINESE, cache=tmp_path)
    assert done.returncode == 1
    assert "hf download BAAI/bge-reranker-v2-m3" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow  # tests/demo tests the warning without the pipelines
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_english_model_warns_when_asked_in_chinese(script: str) -> None:
    """rerank-mini-en asked in Chinese says that it reads English only, and which embedder to use."""
    done = run(script, *CHINESE, "--model", "rerank-mini-en")
    assert done.returncode == 0, done.stderr
    assert "reads English only" in done.stdout
    assert "--embedder BAAI/bge-m3" in done.stdout


@pytest.mark.slow  # tests/demo tests the message without the pipelines
def test_a_corpus_that_cannot_be_read_names_the_line(tmp_path: Path) -> None:
    """A file that is not JSON lines with text is one message."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("{broken", encoding="utf-8")
    done = run("rag_langchain.py", "--corpus", str(corpus))
    assert done.returncode == 1
    assert "line 1 is not JSON" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_first_program_scores_the_right_passage_higher() -> None:
    """It prints three pairs with their scores and says that the bundled model reads no Chinese."""
    done = run("first_scores.py")
    assert done.returncode == 0, done.stderr
    warning, *lines = done.stdout.splitlines()
    assert "reads English only" in warning
    scores = {line.split(" | ")[1]: float(line.split()[0]) for line in lines}
    assert len(scores) == 3
    assert scores["The iPhone 15 Pro has a frame of titanium."] > scores["Apples are a healthy fruit, rich in fibre."]


def test_the_first_program_scores_chinese_if_the_model_reads_it(fresh_ir: Path) -> None:
    """With another model there is a Chinese pair more, and no warning."""
    done = run("first_scores.py", "--model", str(fresh_ir))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert "苹果公司最新发布的手机 | iPhone 15 Pro 支持钛合金边框" in done.stdout


@pytest.mark.slow
def test_the_traps_are_shown_and_counted() -> None:
    """Six English traps with bars and marks, a note that the Chinese ones are left out, and the count at the end."""
    done = run("keyword_traps.py")
    assert done.returncode == 0, done.stderr
    assert "Chinese traps are left out" in done.stderr
    assert "How fast can a jaguar run? (homonym)" in done.stdout
    assert done.stdout.count("✓") == 8
    assert "█" in done.stdout
    assert re.search(r"reranking .*\d of 6", done.stdout)


@pytest.mark.parametrize("script", ["first_scores.py", "keyword_traps.py"])
def test_a_model_that_is_nowhere_is_one_message(script: str, tmp_path: Path) -> None:
    """The message says how to download it."""
    done = run_offline(script, "--model", "no/such-model", cache=tmp_path)
    assert done.returncode == 1
    assert "hf download no/such-model" in done.stderr
    assert "Traceback" not in done.stderr
