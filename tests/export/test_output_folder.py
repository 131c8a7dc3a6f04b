"""An output folder: complete, of one model, and the source as it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rerank_plugins import Pair
from rerank_plugins.errors import ExportError, InvalidInputError
from rerank_plugins.export import export_model
from rerank_plugins.hub.fidelity_report import FIDELITY_FILE, read_reports
from rerank_plugins.hub.folder import OPENVINO_FILE, list_missing_files
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_source_stays_as_it_was(exported: Path, tmp_path: Path) -> None:
    """Not a byte of the model's own folder changes, its reports among them."""
    before = contents(exported)
    result = export_model(exported, "fp32", output_folder=tmp_path / "new", max_queries=2)
    assert contents(exported) == before
    assert set(read_reports(result.folder)) == {"fp32"}


def test_the_description_is_copied_byte_for_byte(exported: Path, tmp_path: Path) -> None:
    """Configuration and tokenizer, whatever JSON there is beside the weights, and no weights of torch."""
    (exported / "special_tokens_map.json").write_text('{"pad_token": "[PAD]"}', encoding="utf-8")
    result = export_model(exported, "fp32", output_folder=tmp_path / "new", max_queries=2)
    assert not list_missing_files(result.folder)
    for file in exported.glob("*.json"):
        assert (result.folder / file.name).read_bytes() == file.read_bytes()
    names = {name for name in contents(result.folder) if not name.endswith(".json")}
    assert names == {"openvino/openvino_model.xml", "openvino/openvino_model.bin"}


def test_it_loads_without_torch(exported: Path, tmp_path: Path, pairs: list[Pair]) -> None:
    """In a process where torch and transformers are not installed, with the logits that it has here."""
    result = export_model(exported, "fp32", output_folder=tmp_path / "new", max_queries=2)
    program = (
        "import json, sys\n"
        "for name in ('torch', 'transformers', 'sentence_transformers', 'nncf', 'sklearn'): sys.modules[name] = None\n"
        "from rerank_plugins import load_reranker\n"
        "loaded = load_reranker(sys.argv[1], precision='fp32')\n"
        "print(json.dumps(loaded.scorer.score([tuple(pair) for pair in json.loads(sys.argv[2])])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(result.folder), json.dumps(pairs[:4])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = CrossEncoderScorer.from_folder(exported, engine="openvino", precision="fp32").score(pairs[:4])
    assert json.loads(done.stdout) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_sharded_weights_leave_no_index_behind(fresh_bert: Path, tmp_path: Path) -> None:
    """An index would promise shards that are not in the new folder."""
    from safetensors.numpy import load_file

    shard = fresh_bert / "model-00001-of-00001.safetensors"
    (fresh_bert / "model.safetensors").rename(shard)
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(shard), shard.name)}
    (fresh_bert / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    result = export_model(fresh_bert, "fp32", output_folder=tmp_path / "new", max_queries=2)
    assert result.report["compared_with"] == "torch fp32"
    assert result.is_default
    shutil.rmtree(fresh_bert)
    assert not list_missing_files(result.folder)
    assert CrossEncoderScorer.from_folder(result.folder, precision="fp32").score([("cat", "bread")])


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_with_another_description_is_refused(exported: Path, tmp_path: Path, name: str) -> None:
    """The error names the file that differs and says what to do; nothing is written."""
    other = tmp_path / "other"
    other.mkdir()
    (other / name).write_text("{}", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=rf"holds another model: its {name} .* Name another output_folder"):
        export_model(exported, "fp32", output_folder=other, max_queries=2)
    assert contents(other) == {name: b"{}"}


def test_precisions_gather_in_one_folder(exported: Path, tmp_path: Path) -> None:
    """An export to a folder that holds another of the same weights keeps that one's file and report."""
    new = tmp_path / "new"
    shutil.copytree(exported, new, ignore=shutil.ignore_patterns("model.safetensors", "openvino_model.*"))
    before = contents(new)
    result = export_model(exported, "fp32", output_folder=new, max_queries=2)
    assert set(read_reports(new)) == {"int8", "fp32"}
    assert read_reports(new)["int8"] == read_reports(exported)["int8"]
    after = contents(result.folder)
    assert {name: after[name] for name in before.keys() - {FIDELITY_FILE.as_posix()}} == {
        name: before[name] for name in before.keys() - {FIDELITY_FILE.as_posix()}
    }


@pytest.mark.slow
def test_int8_joins_fp32(exported: Path, tmp_path: Path) -> None:
    """Both load, and both reports are there."""
    new = tmp_path / "new"
    export_model(exported, "fp32", output_folder=new, max_queries=2)
    export_model(exported, "int8", output_folder=new, max_queries=10)
    assert set(read_reports(new)) == {"fp32", "int8"}
    for precision in ("fp32", "int8"):
        assert CrossEncoderScorer.from_folder(new, precision=precision).engine.precision == precision  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["itself", "link"])
def test_the_models_own_folder_is_no_other_place(exported: Path, tmp_path: Path, way: str) -> None:
    """Named outright or through a link, it is where the export goes without out, and no file is copied over itself."""
    out = exported
    if way == "link":
        out = tmp_path / "link"
        out.symlink_to(exported)
    before = (exported / OPENVINO_FILE).stat().st_mtime_ns
    result = export_model(exported, "fp32", output_folder=out, max_queries=2)
    assert result.file.resolve() == (exported / OPENVINO_FILE).resolve()
    assert (exported / OPENVINO_FILE).stat().st_mtime_ns == before
    assert set(json.loads((exported / FIDELITY_FILE).read_text(encoding="utf-8"))) == {"int8", "fp32"}


def test_a_relative_folder_is_under_the_working_directory(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``~`` is tested in tests/_internal/test_files.py."""
    monkeypatch.chdir(tmp_path)
    assert (
        export_model(exported, "fp32", output_folder="here", max_queries=2)
        .file.resolve()
        .is_relative_to(tmp_path / "here")
    )


def test_a_folder_that_cannot_be_written_to_is_an_export_error(exported: Path, tmp_path: Path) -> None:
    """The system's own reason, and what to do."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    try:
        (locked / "probe").touch()
    except PermissionError:
        with pytest.raises(ExportError, match=r"cannot be written to .*denied.* Name another output_folder"):
            export_model(exported, "fp32", output_folder=locked / "new", max_queries=2)
    else:
        pytest.skip("this user may write everywhere")
