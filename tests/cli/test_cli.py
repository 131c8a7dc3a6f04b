"""The command line, run as a person runs it, or in this process where that makes no difference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rerank_plugins import Calibration

MODEL = ("--model", "rerank-mini-en")
QUERY = "What is the frame of the phone made of?"
LINES = [
    "Apples are a healthy fruit, rich in fibre.",
    "The iPhone 15 Pro has a frame of titanium.",
    "A frame of oak holds the picture in the hall.",
]

Here = Callable[..., subprocess.CompletedProcess[str]]


def run(
    *arguments: str, given: str = "", cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    # Without an endpoint that answers: no test of the command line may depend on a network.
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, "-m", "rerank_plugins.cli", *arguments],
        input=given,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        cwd=cwd,
        env={**os.environ, **offline, **environment},
    )


def test_rank_prints_the_best_document_first(tmp_path: Path) -> None:
    """Text lines of a file come back best first, each with its score."""
    file = tmp_path / "documents.txt"
    file.write_text("\n".join(LINES), encoding="utf-8")
    done = run("rank", QUERY, "--documents", str(file), *MODEL, "--top-n", "2")
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert len(printed) == 2
    assert printed[0].endswith(LINES[1])
    assert 0.0 <= float(printed[0].split()[1]) <= 1.0


PASSAGE = "The iPhone 15 Pro was shown in September. It has a frame of titanium."


def test_rank_shows_the_best_sentence(here: Here) -> None:
    """--highlight puts it beneath its document, unless the document is that sentence."""
    done = here("rank", QUERY, "--documents", "-", *MODEL, "--highlight", given=f"{PASSAGE}\n{LINES[0]}\n")
    first, beneath, second = done.stdout.splitlines()
    assert first.endswith(PASSAGE)
    assert beneath == "             > It has a frame of titanium."
    assert second.endswith(LINES[0])


def test_rank_writes_where_the_best_sentence_is(here: Here) -> None:
    """--json with --highlight has its offsets and text; without --highlight there is no such key."""
    given = json.dumps({"text": PASSAGE}) + "\n" + json.dumps({"text": " "})
    done = here("rank", QUERY, "--documents", "-", *MODEL, "--highlight", "--json", given=given)
    found, blank = (json.loads(line)["highlight"] for line in done.stdout.splitlines())
    assert found == {"start": 42, "end": 69, "text": "It has a frame of titanium."}
    assert blank is None
    plain = here("rank", QUERY, "--documents", "-", *MODEL, "--json", given=given)
    assert "highlight" not in plain.stdout


def test_rank_reads_and_writes_json_lines(here: Here) -> None:
    """JSON lines on standard input keep their fields, and --json adds index, score and truncated."""
    given = "\n".join(json.dumps({"text": text, "id": number}) for number, text in enumerate(LINES))
    done = here("rank", QUERY, "--documents", "-", *MODEL, "--json", given=given)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[0]["document"] == {"text": LINES[1], "id": 1}
    assert all(row["index"] == row["document"]["id"] and row["truncated"] is False for row in rows)
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)


def test_rank_takes_chinese_emoji_and_brackets_as_they_are(here: Here) -> None:
    """What looks like markup or is not ASCII is printed unchanged."""
    given = "[bold]not markup[/bold] 🍎\n苹果是一种健康的水果\n"
    done = here("rank", "apple", "--documents", "-", *MODEL, given=given)
    assert done.returncode == 0, done.stderr
    assert "[bold]not markup[/bold] 🍎" in done.stdout
    assert "苹果是一种健康的水果" in done.stdout


def test_rank_reads_long_lines_in_windows(here: Here) -> None:
    """What is too long for the model is cut and called truncated, or with --long-documents windows read to the end."""
    given = f"{'The weather was fine that day. ' * 120}{LINES[1]}\n"
    for windows, truncated in ((), True), (("--long-documents", "windows"), False):
        done = here("rank", QUERY, "--documents", "-", *MODEL, "--json", *windows, given=given)
        assert json.loads(done.stdout)["truncated"] is truncated


def test_rank_of_nothing_prints_nothing_and_loads_no_model(here: Here) -> None:
    """No documents, no output, no error, although the model does not exist."""
    done = here("rank", QUERY, "--documents", "-", "--model", "no/such-model", given="\n\n")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rank", QUERY, "--documents", "missing.txt", *MODEL), "no file missing.txt"),
        (("rank", " ", "--documents", "-", *MODEL), "query is blank"),
        (("rank", QUERY, "--documents", "-", *MODEL, "--top-n", "-1"), "top_n must be 0 or more"),
        (("rank", QUERY, "--documents", "-", *MODEL, "--score-threshold", "7"), "must lie in [0, 1]"),
        (("verify", "rerank-mini-en"), "no published scores of 'rerank-mini-en'"),
    ],
)
def test_errors_are_one_message_and_status_2(here: Here, arguments: tuple[str, ...], message: str) -> None:
    """What a person can get wrong ends with a message that helps, and no traceback."""
    done = here(*arguments, given="a document\n")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_model_that_is_nowhere_is_one_message_and_status_2() -> None:
    """Where the hub cannot be reached the message says how to get the model, and there is no traceback."""
    done = run("rank", QUERY, "--documents", "-", "--model", "no/such-model", given="a document\n")
    assert done.returncode == 2
    assert "hf download no/such-model" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_models_lists_what_is_here_and_how_to_get_the_default(tmp_path: Path) -> None:
    """The bundled model is listed, the embedder is not, and the default's download command is given."""
    done = run("models", HF_HUB_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "rerank-mini-en" in done.stdout
    assert "embed-static-en" not in done.stdout
    assert "hf download BAAI/bge-reranker-v2-m3" in done.stdout


def test_doctor_says_what_this_machine_will_use_and_why(tmp_path: Path) -> None:
    """Versions, engine and precision with the reason, models, and a hub that does not answer."""
    done = run("doctor", HF_HUB_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "openvino 20" in done.stdout
    assert "rerank-mini-en (bundled): openvino, int8 on cpu, because" in done.stdout
    assert "cannot be reached (ConnectError)" in done.stdout


def test_doctor_asks_no_hub_when_offline(tmp_path: Path) -> None:
    """With HF_HUB_OFFLINE=1 the hub is not used, and doctor says so."""
    done = run("doctor", HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="1")
    assert "not used: HF_HUB_OFFLINE is set" in done.stdout


@pytest.mark.slow
def test_demo_retrieves_reranks_and_answers() -> None:
    """The demo shows 50 candidates, 5 kept, timings, and an extractive answer with its sources."""
    done = run("demo")
    assert done.returncode == 0, done.stderr
    assert "50 candidates → 5 kept" in done.stdout
    assert "reranking" in done.stdout
    assert "extractive" in done.stdout
    assert "titanium" in done.stdout


def test_rank_prints_probabilities_of_a_calibration(here: Here, tmp_path: Path) -> None:
    """With --calibration scores and threshold are the calibrated ones."""
    file = tmp_path / "calibration.json"
    says = {"model": "rerank-mini-en", "fitted_on": "", "ece_before": 0.5, "ece_after": 0.25}
    Calibration(method="isotonic", scores=(-20.0, 20.0), probabilities=(0.25, 0.25), **says).write(file)
    given = "\n".join(LINES)
    for threshold, scores in (("0.2", [0.25] * 3), ("0.3", [])):
        options = ["--documents", "-", *MODEL, "--calibration", str(file), "--score-threshold", threshold, "--json"]
        done = here("rank", QUERY, *options, given=given)
        assert [json.loads(line)["score"] for line in done.stdout.splitlines()] == scores, done.stderr


def test_rank_reads_windows_files_and_refuses_utf_16(here: Here, tmp_path: Path) -> None:
    """A byte order mark and CRLF ends do no harm; UTF-16 is an error that says so."""
    file = tmp_path / "documents.jsonl"
    rows = "\r\n".join(json.dumps({"text": text}) for text in LINES)
    file.write_bytes(b"\xef\xbb\xbf" + rows.encode() + b"\r\n")
    done = here("rank", QUERY, "--documents", str(file), *MODEL, "--json", "--top-n", "1")
    assert json.loads(done.stdout)["document"] == {"text": LINES[1]}
    file.write_bytes("some text".encode("utf-16"))
    done = here("rank", QUERY, "--documents", str(file), *MODEL)
    assert done.returncode == 2
    assert "UTF-16" in done.stderr


def test_rank_names_the_line_of_a_broken_json_object(here: Here) -> None:
    """In JSON lines a line that is not JSON is an error with its number; plain text may begin with a brace."""
    done = here("rank", QUERY, "--documents", "-", *MODEL, given='{"text": "a"}\n{"text": \n')
    assert done.returncode == 2
    assert "line 2 is not JSON" in done.stderr
    done = here("rank", QUERY, "--documents", "-", *MODEL, given="{not json}\nplain\n")
    assert done.returncode == 0, done.stderr
    assert "{not json}" in done.stdout


def test_rank_prints_what_the_terminal_cannot_show_as_escapes() -> None:
    """A lone surrogate, or a terminal that knows ASCII only, does not end the output half way."""
    done = run(
        "rank", "apple", "--documents", "-", *MODEL, given='{"text": "a\\ud800b 苹果"}\n', PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 0, done.stderr
    assert "a\\ud800b" in done.stdout


@pytest.mark.slow
def test_models_and_doctor_pass_over_what_is_damaged_or_no_reranker(tmp_path: Path) -> None:
    """A damaged config and a language model in models/ are not listed, and nothing crashes."""
    for name, config in (("damaged", "{"), ("llm", '{"architectures": ["LlamaForCausalLM"]}')):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(config, encoding="utf-8")
        for file in ("tokenizer.json", "model.safetensors"):
            (folder / file).touch()
    for command in ("models", "doctor"):
        done = run(command, HF_HUB_CACHE=str(tmp_path / "cache"), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "rerank-mini-en" in done.stdout
        assert "damaged" not in done.stdout
        assert "llm" not in done.stdout


def test_an_empty_path_is_not_the_working_folder(here: Here) -> None:
    """As a shell gives it for a variable that is not set: an error, and nothing is written."""
    done = here("rank", QUERY, "--documents", "-", *MODEL, "--score-cache", "10", "--score-cache-folder", "", given="a")
    assert done.returncode == 2
    assert "score_cache_folder must be a string or a Path, not blank" in done.stderr
