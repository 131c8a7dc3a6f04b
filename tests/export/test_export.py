"""The files and the report of an export."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from rerank_plugins import Pair, load_reranker
from rerank_plugins.backends import load_engine
from rerank_plugins.backends.cpu import has_bf16
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.export import Export, export_model
from rerank_plugins.hub.cache_dirs import conversion_folder
from rerank_plugins.hub.fidelity_report import FIDELITY_FILE
from rerank_plugins.hub.folder import ONNX_FILE, OPENVINO_FILE, OPENVINO_INT8_FILE
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

Edit = Callable[..., None]


def share_of_the_spread(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """The root mean square of the errors, by the standard deviation of what was expected."""
    return float(np.sqrt(((found - expected) ** 2).mean()) / expected.std())


def test_int8_lies_beside_the_weights_under_the_ecosystems_name(session_export: Export, pairs: list[Pair]) -> None:
    """The folder can be loaded in int8; over 300 pairs its errors are less than a tenth of the logits' spread."""
    assert session_export.file == session_export.folder / OPENVINO_INT8_FILE
    scorer = CrossEncoderScorer.from_folder(session_export.folder, precision="int8")
    exact = CrossEncoderScorer.from_folder(session_export.folder, engine="openvino", precision="fp32")
    assert 0 < share_of_the_spread(np.array(scorer.score(pairs)), np.array(exact.score(pairs))) < 0.1


@pytest.mark.parametrize(
    "rest", ["fp32", pytest.param("bf16", marks=pytest.mark.skipif(not has_bf16(), reason="needs bf16"))]
)
def test_int8_is_near_fp32_whatever_the_length(exported: Path, edit_report: Edit, rest: str) -> None:
    """Also where a row is as long as an attention head is wide: OpenVINO's fused attention fails there beside bf16."""
    edit_report(exported, "int8", rest_precision=rest)
    int8, fp32 = (load_engine(exported, engine="openvino", precision=precision) for precision in ("int8", "fp32"))
    draw = np.random.default_rng(0)
    for length in range(8, 73, 8):
        ids = draw.integers(5, 100, (32, length))
        found, expected = (engine.logits(ids, np.ones_like(ids), np.zeros_like(ids)) for engine in (int8, fp32))
        assert share_of_the_spread(found, expected) < 0.25, f"rows of {length} tokens"


def test_what_multiplies_every_token_is_int8(session_export: Export) -> None:
    """The embeddings, the classifier and what the last layer computes of its first token only are floats."""
    graph = openvino.Core().read_model(session_export.file)
    matrices = [
        op
        for op in graph.get_ops()
        if op.get_type_name() == "Constant" and len(op.get_output_shape(0)) == 2 and min(op.get_output_shape(0)) >= 32
    ]
    by_type = {
        dtype: [op.get_friendly_name() for op in matrices if op.get_element_type().to_dtype() == dtype]
        for dtype in (np.int8, np.float16)
    }
    # Of six matrices a layer - query, key, value, two outputs, one in between - the last layer's key and value only.
    assert len(by_type[np.int8]) == 6 + 2
    assert sum("first_token" in name for name in by_type[np.float16]) == 4
    others = {name.split(".")[-2] for name in by_type[np.float16] if "first_token" not in name}
    assert others == {"word_embeddings", "position_embeddings", "dense"}  # the dense one is the pooler's


def test_the_report_lies_beside_the_model(session_export: Export) -> None:
    """What is returned is what was saved: differences, orders, floor, verdict."""
    saved = json.loads((session_export.folder / FIDELITY_FILE).read_text(encoding="utf-8"))
    assert saved["int8"] == session_export.report
    assert len(saved["int8"]["per_query"]) == saved["int8"]["queries"] == 10
    assert saved["int8"]["pairs"] == 200
    assert saved["int8"]["logit_difference"]["max"] > 0
    assert saved["int8"]["passed"] == session_export.is_default


def test_fp32_is_compared_with_sentence_transformers(fresh_bert: Path) -> None:
    """No logit of the IR differs from the torch model's by more than 1e-3."""
    result = export_model(fresh_bert, "fp32", max_queries=4)
    assert result.file == fresh_bert / OPENVINO_FILE
    assert result.report["compared_with"] == "torch fp32"
    assert 0 < result.report["logit_difference"]["max"] <= 1e-3
    assert result.is_default


@pytest.mark.skipif(not has_bf16(), reason="no bf16 in this processor")
def test_bf16_is_the_fp32_file_with_a_report_of_its_own(exported: Path) -> None:
    """Its logits were compared in bf16, and the other reports stay."""
    before = (exported / OPENVINO_FILE).stat().st_mtime_ns
    result = export_model(exported, "bf16", max_queries=4)
    assert result.report["logit_difference"]["max"] > 1e-4
    assert (exported / OPENVINO_FILE).stat().st_mtime_ns == before
    assert set(json.loads((exported / FIDELITY_FILE).read_text(encoding="utf-8"))) == {"int8", "bf16"}


def test_bf16_is_refused_at_once_where_the_processor_has_none(
    fresh_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is converted or compared."""
    monkeypatch.setattr("rerank_plugins.backends.cpu.has_bf16_instructions", lambda: False)
    before = sorted(fresh_bert.rglob("*"))
    with pytest.raises(InvalidInputError, match=r"has no bf16 .* take precision='fp32': the file is the same"):
        export_model(fresh_bert, "bf16")
    assert sorted(fresh_bert.rglob("*")) == before


@pytest.mark.parametrize("int8_too", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_onnx_model_is_exported_without_torch_weights(onnx_folder: Path, pairs: list[Pair], int8_too: bool) -> None:  # noqa: FBT001
    """fp32 gives IR with the same logits, int8 its file."""
    before = CrossEncoderScorer.from_folder(onnx_folder, precision="fp32").score(pairs[:20])
    export_model(onnx_folder, "fp32", max_queries=4)
    if int8_too:
        export_model(onnx_folder, "int8", max_queries=4)
        assert (onnx_folder / OPENVINO_INT8_FILE).is_file()
    (onnx_folder / ONNX_FILE).unlink()
    after = CrossEncoderScorer.from_folder(onnx_folder, precision="fp32").score(pairs[:20])
    assert after == pytest.approx(before, abs=1e-4)


def test_int8_alone_cannot_be_exported(exported: Path) -> None:
    """There is nothing exact to start from, and the error lists what would be."""
    (exported / "model.safetensors").unlink()
    (exported / OPENVINO_FILE).unlink()
    with pytest.raises(InvalidInputError, match=r"int8 weights only. Expected model\.safetensors"):
        export_model(exported, "fp32")


@pytest.mark.slow  # test_output_folder.py shows it in fp32
def test_an_output_folder_is_a_model_of_its_own(exported: Path, tmp_path: Path, pairs: list[Pair]) -> None:
    """It loads where the original is gone, and gives what the original's int8 gives."""
    result = export_model(exported, "int8", output_folder=tmp_path / "new" / "small", max_queries=10, accept=True)
    assert result.folder == tmp_path / "new" / "small"
    expected = load_reranker(exported, precision="int8").score(pairs[:20])
    shutil.rmtree(exported)
    loaded = load_reranker(result.folder)
    assert loaded.score(pairs[:20]) == pytest.approx(expected, abs=1e-4)
    assert not list(result.folder.glob("**/*.safetensors"))
    assert not list(result.folder.glob("**/.exporting-*"))


@pytest.mark.slow  # test_repeated_export.py shows where it is looked for
@pytest.mark.usefixtures("choosing_on_a_new_cpu")
def test_a_hub_models_export_goes_into_our_cache_and_is_found(
    session_export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot stays as it was; loading it with precision="auto" takes the int8 of the cache."""
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", str(tmp_path / "cache"))
    snapshot = tmp_path / "hub" / "models--OWNER--NAME" / "snapshots" / "0123abc"
    shutil.copytree(session_export.folder, snapshot, ignore=shutil.ignore_patterns("openvino"))
    before = sorted(snapshot.rglob("*"))
    result = export_model(snapshot, "int8", max_queries=4, accept=True)
    assert sorted(snapshot.rglob("*")) == before
    assert result.file == conversion_folder(snapshot) / OPENVINO_INT8_FILE
    scorer = CrossEncoderScorer.from_folder(snapshot, device="cpu")
    assert (scorer.engine.name, scorer.engine.precision) == ("openvino", "int8")


def test_the_same_export_is_not_made_again(exported: Path) -> None:
    """Same weights, texts and versions: the file stays, and accept=True changes the report only."""
    file = exported / OPENVINO_INT8_FILE
    before = file.stat().st_mtime_ns
    assert export_model(exported, "int8", max_queries=10, accept=True).report["accepted"]
    assert file.stat().st_mtime_ns == before
    assert json.loads((exported / FIDELITY_FILE).read_text(encoding="utf-8"))["int8"]["accepted"]


@pytest.mark.slow
def test_other_texts_make_it_anew(exported: Path, pairs_file: Path) -> None:
    """A file of pairs calibrates and compares; it has no qrels, so there is no nDCG."""
    file = exported / OPENVINO_INT8_FILE
    before = file.stat().st_mtime_ns
    report = export_model(exported, "int8", calibration_data=pairs_file, accept=True).report
    assert file.stat().st_mtime_ns != before
    assert (report["texts"], report["queries"], report["ndcg_at_10"]) == ("pairs.jsonl", 6, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp16"}, "precision must be one of fp32, bf16, int8; got 'fp16'"),
        ({"max_queries": 0}, r"max_queries must be a whole number of at least 1 \(queries\), got 0"),
        ({"max_queries": True}, "max_queries must be a whole number"),
        ({"calibration": "texts"}, "export_model has no option 'calibration' .* It is called calibration_data"),
        ({"device": "cuda"}, "export_model has no option 'device'"),
        ({"local_files_only": 1}, "local_files_only must be True or False, got 1"),
    ],
)
def test_a_wrong_option_is_refused(fresh_bert: Path, options: dict[str, object], message: str) -> None:
    """The error names it before anything is loaded or written."""
    with pytest.raises(InvalidInputError, match=message):
        export_model(fresh_bert, **options)  # type: ignore[arg-type]
    assert not (fresh_bert / "openvino").exists()


PROGRAM = """
import os, sys
asked = []
sys.addaudithook(lambda event, args: asked.append(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
before = {name: os.environ.get(name) for name in ("CI", "NNCF_CI")}
from rerank_plugins.export import export_model
export_model(sys.argv[1], "int8", max_queries=2)
assert {name: os.environ.get(name) for name in before} == before
print(asked)
"""


@pytest.mark.slow
def test_an_export_calls_nobody(fresh_bert: Path, tmp_path: Path) -> None:
    """Nncf's reporting is off, the environment is as before, and nothing is printed unless asked for."""
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "NNCF_CI"}}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(fresh_bert)],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
