"""ONNX graphs with external weights, and models in the Hugging Face cache, whose files are links."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from folder_hub import files_of, link_into_cache, serving
from rerank_plugins import ModelLoadError, ModelNotFoundError, Pair, load_reranker
from rerank_plugins.backends import load_engine
from rerank_plugins.backends.load import fingerprint_model
from rerank_plugins.hub import find_model
from rerank_plugins.hub.folder import ONNX_FILE, list_missing_files
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

LoadScorer = Callable[[Path, str], CrossEncoderScorer]


def move_weights_out(folder: Path, location: str) -> None:
    """Have the ONNX file in ``folder`` keep its weights in the file ``location`` beside it."""
    path = folder / ONNX_FILE
    (path.parent / location).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location=location, size_threshold=0)


@pytest.fixture(params=["model.onnx_data", "parts/first.data"])
def external_folder(request: pytest.FixtureRequest, onnx_folder: Path) -> Path:
    """The BERT stand-in as ONNX, its weights in a file of each of these names in turn."""
    move_weights_out(onnx_folder, request.param)
    return onnx_folder


@pytest.fixture
def expected(load_scorer: LoadScorer, bert_folder: Path, pairs: list[Pair]) -> Any:
    """The logits of the stand-in, by torch."""
    return pytest.approx(load_scorer(bert_folder, "torch").score(pairs[:20]), abs=1e-3)


def score(folder: Path, pairs: list[Pair]) -> list[float]:
    return CrossEncoderScorer.from_folder(folder, precision="fp32", device="cpu").score(pairs[:20])


def test_onnx_loads_from_the_hubs_cache(
    external_folder: Path, tmp_path: Path, pairs: list[Pair], expected: Any, cache_of_our_own: Path
) -> None:
    """Whatever its weights' file is called; the Hugging Face cache stays as it was, and ours keeps nothing of it."""
    snapshot = link_into_cache(external_folder, tmp_path / "hub")
    before = sorted((tmp_path / "hub").rglob("*"))
    assert score(snapshot, pairs) == expected
    assert sorted((tmp_path / "hub").rglob("*")) == before
    assert list((cache_of_our_own / "linked").iterdir()) == []


def test_onnx_of_one_file_a_tensor_loads_from_the_hubs_cache(
    onnx_folder: Path, tmp_path: Path, pairs: list[Pair], expected: Any
) -> None:
    """Some exporters write every weight into a file of its own."""
    path = onnx_folder / ONNX_FILE
    onnx.save(onnx.load(path), path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)
    assert len(list(path.parent.iterdir())) > 10
    assert score(link_into_cache(onnx_folder, tmp_path / "hub"), pairs) == expected


def test_onnx_loads_where_our_cache_is_on_another_disk(
    external_folder: Path, tmp_path: Path, pairs: list[Pair], expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links cannot reach there: the weights are copied for the time of reading."""
    shared_memory = Path("/dev/shm")  # noqa: S108 - the one other file system that a test can count on
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    ours = shared_memory / f"rerank-plugins-test-{tmp_path.parent.name}-{tmp_path.name}"
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", str(ours))
    try:
        assert score(link_into_cache(external_folder, tmp_path / "hub"), pairs) == expected
        assert list((ours / "linked").iterdir()) == []
    finally:
        shutil.rmtree(ours, ignore_errors=True)


def test_onnx_that_no_place_can_take_is_an_error_with_a_remedy(
    onnx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file stands where our cache should be: the error names the variable that moves it."""
    move_weights_out(onnx_folder, "model.onnx_data")
    (tmp_path / "file").touch()
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelLoadError, match=r"are links.*Set RERANK_PLUGINS_CACHE"):
        load_engine(link_into_cache(onnx_folder, tmp_path / "hub"), precision="fp32")


def test_weights_beside_an_onnx_file_are_read_where_they_are(
    external_folder: Path, pairs: list[Pair], expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is linked or copied where they are plain files."""
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", str(tmp_path / "ours"))
    assert score(external_folder, pairs) == expected
    assert not (tmp_path / "ours").exists()


def test_weights_that_an_onnx_file_names_and_are_not_there_are_missing(external_folder: Path, tmp_path: Path) -> None:
    """The folder is incomplete, and the error names the file; so is the snapshot in a cache."""
    (data,) = [name for name in files_of(external_folder) if name.startswith("onnx/") and name != "onnx/model.onnx"]
    snapshot = link_into_cache(external_folder, tmp_path / "hub", data)
    assert list_missing_files(snapshot) == [data]
    with pytest.raises(ModelNotFoundError, match=f"incomplete, {data} missing"):
        find_model("OWNER/NAME", cache_folder=tmp_path / "hub", local_files_only=True)
    (external_folder / data).unlink()
    with pytest.raises(ModelLoadError, match=f"{data} missing"):
        load_reranker(external_folder)


@pytest.mark.parametrize(("location", "in_cache"), [("model.onnx.data", False), ("weights.bin", True)])
def test_the_hub_is_asked_for_the_weights_of_an_onnx_file(
    onnx_folder: Path, tmp_path: Path, pairs: list[Pair], expected: Any, location: str, *, in_cache: bool
) -> None:
    """In a first download, and where an earlier one left them out, under whatever name the graph says."""
    move_weights_out(onnx_folder, location)
    if in_cache:
        link_into_cache(onnx_folder, tmp_path / "hub", f"onnx/{location}")
    with serving(onnx_folder) as hub:
        printed = hub.score(tmp_path, pairs[:20])
    assert json.loads(printed) == expected
    assert f"onnx/{location}" in hub.fetched


def test_half_an_onnx_beside_whole_weights_does_no_harm(
    onnx_folder: Path, bert_folder: Path, pairs: list[Pair], expected: Any
) -> None:
    """The torch weights are converted."""
    move_weights_out(onnx_folder, "model.onnx_data")
    (onnx_folder / "onnx" / "model.onnx_data").unlink()
    shutil.copyfile(bert_folder / "model.safetensors", onnx_folder / "model.safetensors")
    assert score(onnx_folder, pairs) == expected


def test_cached_scores_are_of_the_weights_beside_an_onnx_file(onnx_folder: Path) -> None:
    """Other numbers in that file are another model."""
    move_weights_out(onnx_folder, "model.onnx_data")
    engine = load_engine(onnx_folder, precision="fp32")
    before = fingerprint_model(onnx_folder, engine)
    with (onnx_folder / "onnx" / "model.onnx_data").open("r+b") as file:
        file.write(b"\1\2\3\4")
    assert fingerprint_model(onnx_folder, engine) != before


def test_cached_scores_are_of_the_graph_beside_torch_weights(onnx_folder: Path, bert_folder: Path) -> None:
    """An ONNX file that somebody replaces is another model, whatever lies beside it."""
    shutil.copyfile(bert_folder / "model.safetensors", onnx_folder / "model.safetensors")
    engine = load_engine(onnx_folder, engine="openvino", precision="fp32")
    before = fingerprint_model(onnx_folder, engine)
    model = onnx.load(onnx_folder / ONNX_FILE)
    model.doc_string = "another"
    onnx.save(model, onnx_folder / ONNX_FILE)
    assert fingerprint_model(onnx_folder, engine) != before


@pytest.mark.parametrize("location", ["../others.data", "/etc/hostname", "", "x" * 300, "a\0b"])
def test_weights_that_cannot_lie_beside_an_onnx_file_are_not_read(onnx_folder: Path, location: str) -> None:
    """A graph that leads out of its folder, or is damaged, is an error."""
    move_weights_out(onnx_folder, "model.onnx_data")
    model = onnx.load(onnx_folder / ONNX_FILE, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    (onnx_folder / ONNX_FILE).write_bytes(model.SerializeToString())
    shutil.copyfile(onnx_folder / "onnx" / "model.onnx_data", onnx_folder / "others.data")
    with pytest.raises(ModelLoadError, match="OpenVINO cannot read"):
        load_reranker(onnx_folder, precision="fp32")


def test_an_export_reads_linked_onnx(onnx_folder: Path, tmp_path: Path) -> None:
    """As loading does."""
    from rerank_plugins.export import export_model

    move_weights_out(onnx_folder, "model.onnx_data")
    snapshot = link_into_cache(onnx_folder, tmp_path / "hub")
    made = export_model(snapshot, "fp32", output_folder=tmp_path / "made", max_queries=10)
    assert made.report["logit_difference"]["mean"] < 0.5


def test_linked_ir_loads_and_its_compiled_model_is_cached(
    fresh_ir: Path, tmp_path: Path, pairs: list[Pair], expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first load to the third the logits are the model's."""
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", str(tmp_path / "ours"))
    monkeypatch.setattr("rerank_plugins.backends.compiled_cache.MIN_WEIGHT_BYTES", 0)
    snapshot = link_into_cache(fresh_ir, tmp_path / "hub")
    for _ in range(3):
        assert score(snapshot, pairs) == expected
    assert len(list((tmp_path / "ours" / "compiled").iterdir())) == 1


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_linked_shards_load(fresh_bert: Path, tmp_path: Path, pairs: list[Pair], expected: Any, engine: Any) -> None:
    """Sharded safetensors in the Hugging Face cache."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(fresh_bert)
    (fresh_bert / "model.safetensors").unlink()
    model.save_pretrained(fresh_bert, max_shard_size="50KB")
    assert len(list(fresh_bert.glob("*.safetensors"))) > 1
    snapshot = link_into_cache(fresh_bert, tmp_path / "hub")
    scorer = CrossEncoderScorer.from_folder(snapshot, engine=engine, precision="fp32", device="cpu")
    assert scorer.score(pairs[:20]) == expected


@pytest.fixture
def quantized_folder(onnx_folder: Path) -> Path:
    """A folder whose only weights bear the name that transformers.js gives to quantized ones; inside they are fp32."""
    (onnx_folder / "onnx" / "model.onnx").rename(onnx_folder / "onnx" / "model_quantized.onnx")
    return onnx_folder


def test_a_quantized_graph_is_taken_where_there_is_nothing_else(
    quantized_folder: Path, pairs: list[Pair], expected: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """And a warning says that its scores are not quite the model's."""
    assert score(quantized_folder, pairs[:20]) == expected
    assert "It is quantized: its scores differ from the model's own" in caplog.text


def test_a_quantized_graph_is_fetched_where_there_is_nothing_else(
    quantized_folder: Path, bert_folder: Path, tmp_path: Path, pairs: list[Pair], expected: Any
) -> None:
    """From a repository without another; beside torch weights it stays there."""
    for home, beside in (("alone", False), ("beside", True)):
        (tmp_path / home).mkdir()
        if beside:
            shutil.copyfile(bert_folder / "model.safetensors", quantized_folder / "model.safetensors")
        with serving(quantized_folder) as hub:
            assert json.loads(hub.score(tmp_path / home, pairs[:20])) == expected
        assert ("onnx/model_quantized.onnx" in hub.fetched) is not beside
