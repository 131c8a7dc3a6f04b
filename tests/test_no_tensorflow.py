"""A broken TensorFlow or Keras beside this package does no harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("engine", [pytest.param("torch", marks=pytest.mark.slow), "openvino"])
def test_broken_tensorflow_and_keras_are_never_imported(bert_folder: Path, tmp_path: Path, engine: str) -> None:
    """With a tensorflow, keras and tf_keras that raise on import, both engines load and score."""
    for name in ("tensorflow", "keras", "tf_keras"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('{name} was imported')", encoding="utf-8")
    program = (
        "import sys; from rerank_plugins import load_reranker; "
        f"print(len(load_reranker(sys.argv[1], engine={engine!r}).rerank('cat', ['the cat sat', 'bread'])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(bert_folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2"
