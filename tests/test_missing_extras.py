"""Without an optional dependency the error names the extra to install, and comes before any download."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

BLOCKED = "import sys\nfor name in {names!r}: sys.modules[name] = None\n"  # as if it were not installed


def run(program: str, *blocked: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.format(names=blocked) + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("program", "blocked", "extra"),
    [
        ("import rerank_plugins.langchain", "langchain_core", "langchain"),
        ("import rerank_plugins.llama_index", "llama_index.core", "llama-index"),
        ("from rerank_plugins.demo.rag import demo; demo()", "faiss", "faiss"),
        ("from rerank_plugins.demo import traps; traps.order_by_bm25(traps.read_traps('en'))", "bm25s", "faiss"),
        ("from rerank_plugins.evaluation import evaluate", "ir_measures", "eval"),
        ("from rerank_plugins.evaluation import evaluate", "scipy.stats", "eval"),
        ("from rerank_plugins.evaluation.calibration.curves import fit; fit('platt', [])", "sklearn", "eval"),
        ("from rerank_plugins.demo.rag import demo; demo()", "sentencex", "highlight"),
        (
            "from rerank_plugins.retrieval import load_embedder; load_embedder('embed-static-en')",
            "model2vec",
            "faiss",
        ),
        ("import rerank_plugins.evaluation.report.page", "jinja2", "eval"),
        ("import rerank_plugins.evaluation.report.page", "matplotlib", "eval"),
        ("from rerank_plugins.training import train_reranker", "datasets", "train"),
        ("from rerank_plugins.training import train_reranker", "nncf", "train"),
    ],
)
def test_a_missing_package_names_its_extra(program: str, blocked: str, extra: str) -> None:
    """The error is ours and gives the exact command."""
    done = run(program, blocked)
    assert done.returncode == 1
    assert "MissingExtraError" in done.stderr
    assert f"pip install 'rerank-plugins[{extra}]'" in done.stderr


ASKED = """
class Scorer:
    def score(self, pairs):
        print("scored", len(pairs))
        return [0.0 for _ in pairs]
"""


PROGRAMS = {
    "sync": "from rerank_plugins import Reranker; Reranker(Scorer()).rerank('a', ['b'], highlight=True)",
    "async": """
import asyncio
from rerank_plugins import Reranker
asyncio.run(Reranker(Scorer()).arerank('a', ['b'], highlight=True))
""",
    "LangChain": """
from langchain_core.documents import Document
from rerank_plugins.langchain import RerankCompressor
compressor = RerankCompressor(reranker=Scorer(), highlight=True)
assert compressor.compress_documents([], 'a') == []
compressor.compress_documents([Document('b')], 'a')
""",
    "LlamaIndex": """
from llama_index.core.schema import NodeWithScore, TextNode
from rerank_plugins.llama_index import RerankPostprocessor
postprocessor = RerankPostprocessor(reranker=Scorer(), highlight=True)
assert postprocessor.postprocess_nodes([], query_str='a') == []
postprocessor.postprocess_nodes([NodeWithScore(node=TextNode(text='b'))], query_str='a')
""",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_highlights_without_the_extra_are_refused_before_scoring(program: str) -> None:
    """The error names the extra highlight, and the scorer was not asked."""
    done = run(ASKED + program, "sentencex")
    assert "MissingExtraError: Finding sentences needs the package 'sentencex'" in done.stderr
    assert "pip install 'rerank-plugins[highlight]'" in done.stderr
    assert done.stdout == ""


def test_without_highlights_the_extra_is_not_needed() -> None:
    """Everything else works where sentencex is not installed."""
    done = run(ASKED + "from rerank_plugins import Reranker; Reranker(Scorer()).rerank('a', ['b'])", "sentencex")
    assert done.stdout == "scored 1\n", done.stderr


@pytest.mark.parametrize("options", ["engine='torch'", "engine='openvino'"])
def test_torch_weights_without_torch_name_the_extra(bert_folder: Path, tmp_path: Path, options: str) -> None:
    """Asking for torch, or for a conversion, without torch says to install the extra."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_bytes((bert_folder / name).read_bytes())
    done = run(f"import rerank_plugins; rerank_plugins.load_reranker({str(folder)!r}, {options})", "torch")
    assert "MissingExtraError" in done.stderr
    assert "pip install 'rerank-plugins[torch]'" in done.stderr


def test_the_bundled_reranker_needs_no_extra() -> None:
    """rerank-mini-en loads and ranks without torch, transformers and every framework."""
    program = (
        "from rerank_plugins import load_reranker; print(load_reranker('rerank-mini-en').rerank('a', ['b'])[0].index)"
    )
    done = run(program, "torch", "transformers", "sentence_transformers", "langchain_core", "llama_index", "faiss")
    assert done.stdout.strip() == "0", done.stderr


class TorchOnlyHub(http.server.BaseHTTPRequestHandler):
    """A hub with one model that has torch weights only; remembers which files were asked for."""

    files = ("config.json", "tokenizer.json", "model.safetensors")
    asked: list[str] = []  # noqa: RUF012 - shared by the handlers of one test on purpose

    def do_GET(self) -> None:
        """Two of the hub's ways to list files; anything else is the fetching of one."""
        names = self.files
        if "/resolve/" in self.path:
            self.asked.append(self.path)
        if "/tree/" in self.path:
            answer: object = [{"type": "file", "path": name, "size": 2, "oid": name} for name in names]
        else:
            answer = {"id": "OWNER/NAME", "sha": "0" * 40, "siblings": [{"rfilename": name} for name in names]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_model_that_needs_torch_is_not_downloaded_without_it(tmp_path: Path) -> None:
    """Where the hub has torch weights only and torch is missing, that is said before a file is fetched."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), TorchOnlyHub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        program = "from rerank_plugins import load_reranker; load_reranker('OWNER/NAME')"
        done = run(program, "torch", HF_ENDPOINT=address, HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="0")
        server.shutdown()
    assert "pip install 'rerank-plugins[torch]'" in done.stderr
    assert TorchOnlyHub.asked == []


def test_onnx_is_taken_where_torch_is_missing() -> None:
    """Of a repository with torch and ONNX weights the ONNX file is wanted, and no error raised."""
    program = (
        "from rerank_plugins.hub.lookup import _select_files; "
        "files = ['config.json', 'model.safetensors', 'onnx/model.onnx', 'pytorch_model.bin']; "
        "print(_select_files('OWNER/NAME', files))"
    )
    assert run(program, "torch").stdout.strip() == "['*.json', '*.jinja', 'onnx/model.onnx']"
    assert run(program).stdout.strip() == "['*.json', '*.jinja', 'model.safetensors']"
