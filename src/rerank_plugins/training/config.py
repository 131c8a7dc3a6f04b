"""The options of a training: the one place where each has its name, type, default, range and description."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

from rerank_plugins._internal.options import AtLeast, Between, check_options
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.reranker import Reranker
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What to train, on what, and how.

    Raises:
        InvalidInputError: An option is outside its range. No file has been read yet.
    """

    folder: Annotated[str | Path, "A collection in BEIR layout, with qrels. Nothing is written into it."]
    base: Annotated[
        str | Path,
        "What to train, a folder or a name on the hub, with safetensors: a cross-encoder with one label, or a plain "
        "encoder or an embedder, which gets a new ranking head.",
    ]
    _: KW_ONLY
    output_folder: Annotated[
        str | Path, "A new folder for the model. Its subfolder ``work`` holds what a stopped training resumes from."
    ]
    teacher: Annotated[
        str | Path | Reranker | None,
        "A reranker to learn from: what `load_reranker` takes, or a `Reranker`. Its scores are learned as well, also "
        "those of queries without qrels.",
    ] = None
    split: Annotated[
        str | None, "The qrels/SPLIT.tsv to learn from; by default the first there is of train, dev, test."
    ] = None
    test_split: Annotated[
        str | None,
        "The qrels to evaluate on; by default the first other one there is of test, dev. Where there is none, a fifth "
        "of the queries of ``split`` is held out for it.",
    ] = None
    embedder: Annotated[
        str, 'The first stage: ``"embed-static-en"``, or a sentence-transformers model. Its search is exact.'
    ] = BUNDLED_EMBEDDER
    run_file: Annotated[
        str | Path | None,
        "A TREC run file of your own retriever, with the queries of both splits, instead of an embedder.",
    ] = None
    fetch_k: Annotated[int, AtLeast(2, "candidates"), "Candidates per query."] = 50
    list_size: Annotated[
        int, AtLeast(2, "passages"), "Passages in a training list: a relevant one and other candidates."
    ] = 8
    epochs: Annotated[
        int, AtLeast(1, "epochs"), "How often each query is learned from, each time with other passages."
    ] = 1
    batch_size: Annotated[int, AtLeast(1, "lists"), "Lists per step."] = 8
    learning_rate: Annotated[
        float,
        Between(0, 1),
        "The highest learning rate, usually 1e-5 to 1e-4; it rises for a tenth of the steps, then falls to 0.",
    ] = 2e-5
    max_length: Annotated[
        int, AtLeast(8, "tokens"), "Most tokens of a query-passage pair; longer ones are truncated."
    ] = 256
    teacher_weight: Annotated[
        float, Between(0, 1, inclusive=True), "Weight of the teacher beside the qrels, 0 to 1."
    ] = 0.5
    development: Annotated[
        float,
        Between(0, 0.5, inclusive=True),
        "Share of the judged queries that chooses the best step, 0 to 0.5; 10 queries at least and 100 at most.",
    ] = 0.1
    drop_leaks: Annotated[
        bool,
        "Leave out training queries that share their text or a relevant passage with a test query, instead of "
        "refusing them.",
    ] = False
    seed: Annotated[int, AtLeast(0, "the seed"), "Seed of every random choice."] = 0
    max_test_queries: Annotated[
        int | None, AtLeast(1, "queries, or None"), "Evaluate a random sample of so many queries; all by default."
    ] = None
    evaluate_teacher: Annotated[bool, "Evaluate the teacher too, beside the model."] = False
    minutes_between_checkpoints: Annotated[
        float, AtLeast(0, "minutes", whole=False), "Minutes between two checkpoints; 0 saves after every step."
    ] = 5.0
    fresh: Annotated[bool, "Delete what an earlier training left in the output folder, and start anew."] = False
    threads: Annotated[
        int | None,
        AtLeast(1, "processors, or None"),
        "How many processors to compute on, on a CPU; by default as in `load_reranker`.",
    ] = None
    progress: Annotated[bool, "Show the progress, on standard error."] = False

    def __post_init__(self) -> None:
        check_options(self)
        if self.seed >= 2**32:
            raise InvalidInputError(f"seed must be below 2**32, got {self.seed}.")
        if self.teacher is None and self.evaluate_teacher:
            raise InvalidInputError("evaluate_teacher needs a teacher. Name one, or leave evaluate_teacher out.")

    @property
    def recipe(self) -> dict[str, Any]:
        """The options that the weights depend on, besides data, base and teacher."""
        return {name: getattr(self, name) for name in _RECIPE}


_RECIPE = (
    *("embedder", "fetch_k", "list_size", "epochs", "batch_size", "learning_rate", "max_length"),
    *("teacher_weight", "development", "drop_leaks", "seed"),
)

HINTS = {
    "out": "It is called output_folder.",
    "output_dir": "It is called output_folder.",
    "run": "It is called run_file.",
    "top_k": "It is called fetch_k.",
    "test_queries": "It is called max_test_queries.",
    "resume_from_checkpoint": "A training that was stopped resumes when it is called again; fresh=True prevents it.",
    "warmup_ratio": "A tenth of the steps warm up; there is nothing to set.",
    "num_train_epochs": "It is called epochs.",
    "per_device_train_batch_size": "It is called batch_size.",
}
"""What to use instead of options that do not exist, by the names that earlier releases and transformers have."""
