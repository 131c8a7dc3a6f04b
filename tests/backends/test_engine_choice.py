from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rerank_plugins.backends import choose_engine


@pytest.mark.parametrize("device", ["CPU", "cpu:0"])
def test_spellings_of_the_cpu_are_the_cpu(bert_folder: Path, device: str) -> None:
    """Another spelling of cpu chooses the same engine."""
    assert choose_engine(bert_folder, device=device)[:3] == choose_engine(bert_folder, device="cpu")[:3]


def test_int8_is_used_where_the_other_weights_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch, a folder with torch weights and an int8 file runs on the int8 file."""
    bundled = Path(__file__).parents[2] / "models" / "rerank-mini-en"
    folder = shutil.copytree(bundled, tmp_path / "both")
    (folder / "model.safetensors").touch()
    monkeypatch.setattr("rerank_plugins.backends.auto.torch_installed", lambda: False)
    assert choose_engine(folder).precision == "int8"
