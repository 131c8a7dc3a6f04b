from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rerank_plugins
import rerank_plugins.evaluation
import rerank_plugins.training
from run_python import run_python

HEAVY = (
    "torch",
    "openvino",
    "sentencex",
    "transformers",
    "sentence_transformers",
    "langchain_core",
    "llama_index",
    "tensorflow",
    "keras",
)


def test_importing_loads_no_engine_and_no_framework_and_prints_nothing() -> None:
    """`import rerank_plugins` leaves every heavy package unloaded, and writes neither to stdout nor to stderr."""
    code = f"import sys, rerank_plugins; print([name for name in {HEAVY} if name in sys.modules])"
    assert run_python(code) == "[]"


def test_public_names_are_pinned() -> None:
    """A public name appears or disappears only on purpose."""
    assert rerank_plugins.__all__ == [
        "DEFAULT_MODEL",
        "Calibration",
        "ClosedError",
        "Deadline",
        "DeadlineExceededError",
        "DetailedScorer",
        "EngineName",
        "ExportError",
        "Highlight",
        "InvalidInputError",
        "LoadingOptions",
        "LongDocuments",
        "MissingExtraError",
        "ModelLoadError",
        "ModelNotFoundError",
        "OnDeadline",
        "OnError",
        "OutOfMemoryError",
        "OverloadedError",
        "Pair",
        "Pending",
        "Precision",
        "QueuedScorer",
        "RankedResult",
        "RemoteError",
        "RemoteRateLimitError",
        "RemoteResponseError",
        "RemoteTooLargeError",
        "RemoteUnauthorizedError",
        "RemoteUnavailableError",
        "RerankError",
        "Reranker",
        "Scale",
        "ScoredPair",
        "Scorer",
        "ScoringError",
        "Stats",
        "TrainingError",
        "load_reranker",
        "sigmoid",
    ]


def test_every_public_name_is_there() -> None:
    """Each name in __all__ can be had from the package."""
    assert [name for name in rerank_plugins.__all__ if not hasattr(rerank_plugins, name)] == []


def test_the_default_model_is_the_multilingual_one() -> None:
    """Without a name, BAAI/bge-reranker-v2-m3 is meant."""
    assert rerank_plugins.DEFAULT_MODEL == "BAAI/bge-reranker-v2-m3"


def test_the_public_names_of_the_evaluation_are_pinned() -> None:
    """They too appear or disappear only on purpose."""
    assert rerank_plugins.evaluation.__all__ == [
        "METRICS",
        "CalibrationResult",
        "Evaluation",
        "Interval",
        "QueryChange",
        "Ranking",
        "Reranked",
        "calibrate",
        "evaluate",
    ]
    assert callable(rerank_plugins.evaluation.evaluate)


def test_the_public_names_of_the_training_are_pinned() -> None:
    """They too appear or disappear only on purpose."""
    assert rerank_plugins.training.__all__ == [
        "Change",
        "CurvePoint",
        "Training",
        "TrainingConfig",
        "TrainingData",
        "train_reranker",
    ]
    assert callable(rerank_plugins.training.train_reranker)


@pytest.mark.parametrize("package", ["evaluation", "training"])
def test_results_are_read_without_the_extra(package: str) -> None:
    """Whoever reads the results of an evaluation or a training waits for none of its packages, nor needs them."""
    heavy = (*HEAVY, "numpy", "scipy", "ir_measures", "datasets", "accelerate")
    code = f"import sys, rerank_plugins.{package}; print([name for name in {heavy} if name in sys.modules])"
    assert run_python(code) == "[]"


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
