from __future__ import annotations

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


def test_importing_loads_no_engine_and_no_framework() -> None:
    """`import rerank_plugins` leaves every heavy package unloaded."""
    code = f"import sys, rerank_plugins; print([name for name in {HEAVY} if name in sys.modules])"
    assert run_python(code) == "[]"


def test_importing_prints_nothing() -> None:
    """`import rerank_plugins` writes neither to stdout nor to stderr."""
    assert not run_python("import rerank_plugins")


def test_importing_takes_less_than_a_fifth_of_a_second() -> None:
    """At its best of five, `import rerank_plugins` takes under 0.2 s."""
    code = "import time; start = time.perf_counter(); import rerank_plugins; print(time.perf_counter() - start)"
    assert min(float(run_python(code)) for _ in range(5)) < 0.2


def test_public_names_are_pinned() -> None:
    """A public name appears or disappears only on purpose."""
    assert rerank_plugins.__all__ == [
        "DEFAULT_MODEL",
        "Calibration",
        "ClosedError",
        "DeadlineExceededError",
        "DetailedScorer",
        "ExportError",
        "Highlight",
        "InvalidInputError",
        "MissingExtraError",
        "ModelLoadError",
        "ModelNotFoundError",
        "OutOfMemoryError",
        "OverloadedError",
        "Pair",
        "RankedResult",
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


def test_results_of_an_evaluation_are_read_without_its_extra() -> None:
    """Whoever reads or draws an `Evaluation` need not wait for scipy, nor have it."""
    heavy = (*HEAVY, "numpy", "scipy", "ir_measures")
    code = f"import sys, rerank_plugins.evaluation; print([name for name in {heavy} if name in sys.modules])"
    assert run_python(code) == "[]"


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


def test_results_of_a_training_are_read_without_its_extra() -> None:
    """Whoever reads a `Training` need not wait for torch, nor have it."""
    heavy = (*HEAVY, "numpy", "scipy", "datasets", "accelerate")
    code = f"import sys, rerank_plugins.training; print([name for name in {heavy} if name in sys.modules])"
    assert run_python(code) == "[]"
