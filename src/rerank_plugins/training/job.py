"""`train_reranker`: from a collection and a base to a model, its int8, its evaluation and its card."""

from __future__ import annotations

from pathlib import Path

from rerank_plugins._internal.files import expand
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.reranker import Reranker
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER
from rerank_plugins.training.config import Recipe, check_minutes
from rerank_plugins.training.results import Training
from rerank_plugins.training.run import Sitting


def train_reranker(  # noqa: PLR0913 - data, models, recipe and how to go on: every option of a training, in one place
    folder: str | Path,
    base: str | Path,
    *,
    out: str | Path,
    teacher: str | Path | Reranker | None = None,
    split: str | None = None,
    test_split: str | None = None,
    embedder: str = BUNDLED_EMBEDDER,
    run: str | Path | None = None,
    top_k: int = 50,
    list_size: int = 8,
    epochs: int = 1,
    batch_size: int = 8,
    learning_rate: float = 2e-5,
    max_length: int = 256,
    teacher_weight: float = 0.5,
    development: float = 0.1,
    drop_leaks: bool = False,
    seed: int = 0,
    test_queries: int | None = None,
    evaluate_teacher: bool = False,
    minutes_between_checkpoints: float = 5.0,
    fresh: bool = False,
    threads: int | None = None,
    progress: bool = False,
) -> Training:
    """Train a cross-encoder on the judgements of a collection, on a teacher's scores, or on both.

    A training that was stopped, in whatever way, goes on when it is called again with the same arguments. It computes
    on CUDA or MPS where there is one, else on the CPU, in bf16 where that is fast. torch's, numpy's and Python's global
    random numbers are seeded by it.

    Args:
        folder: A collection in BEIR layout, with judgements. Nothing is written into it.
        base: A folder or a name on the hub, with safetensors: a cross-encoder with one label, or a plain encoder or
            an embedder, which gets a new ranking head.
        out: A new folder. The model will be in it, and under ``work`` what the training goes on from.
        teacher: What `load_reranker` takes, or a `Reranker`. Its scores are learned as well, also those of queries
            that nobody judged.
        split: The qrels/SPLIT.tsv to learn from; None takes the first there is of train, dev, test.
        test_split: The one to evaluate on; None takes the first other one there is of test, dev; where there is none, a
            fifth of the queries of ``split`` is held out for it.
        embedder: The first stage: ``"embed-static-en"``, or a sentence-transformers model. Exact search.
        run: Instead of an embedder, a TREC run file of your own retriever, with the queries of both splits.
        top_k: Candidates a query, at least 2.
        list_size: Passages in a list that is learned from, at least 2: a relevant one and others of the candidates.
        epochs: How often each query is learned from, each time with other passages.
        batch_size: Lists a step.
        learning_rate: The highest; it rises for a tenth of the steps, then falls to 0.
        max_length: Tokens that a query and a passage are cut to, together.
        teacher_weight: In [0, 1]: what the teacher counts beside a judgement.
        development: In (0, 0.5]: the share of the judged queries that chooses the best step; 10 at least and 100 at
            most.
        drop_leaks: Leave queries out that share their text or a relevant passage with one that is evaluated, instead
            of refusing them.
        seed: Of all that is drawn.
        test_queries: How many queries are evaluated, a random sample; None takes all.
        evaluate_teacher: Evaluate the teacher too, beside the model.
        minutes_between_checkpoints: On the clock; 0 saves after every step.
        fresh: Remove what an earlier training left in ``out`` to go on from, and begin anew.
        threads: How many processors to compute on, on a CPU; None as in `load_reranker`.
        progress: Say what is done and how far it is, on standard error.

    Returns:
        Where the model is, its curve, its fidelity as int8, and its evaluation beside the base.

    Raises:
        InvalidInputError: An option outside its range; a collection, a run or a folder that cannot be used; too few
            queries, or some that leak; another training in ``out``.
        ModelNotFoundError: No place has the base or the teacher.
        ModelLoadError: Their files cannot be used; the base has no torch weights.
        MissingExtraError: The extra ``train`` is not installed.
        TrainingError, ExportError: No room, no permission, no memory. Make room and call again.
    """
    check_minutes(minutes_between_checkpoints)
    if teacher is None and evaluate_teacher:
        raise InvalidInputError("evaluate_teacher needs a teacher. Name one, or leave evaluate_teacher out.")
    recipe = Recipe(
        embedder=embedder,
        top_k=top_k,
        list_size=list_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_length=max_length,
        teacher_weight=teacher_weight,
        development=development,
        seed=seed,
    )
    sitting = Sitting(
        folder=expand(folder),
        base=str(base),
        out=expand(out),
        teacher=teacher if isinstance(teacher, Reranker | None) else str(teacher),
        splits=(split, test_split),
        run_file=None if run is None else expand(run),
        recipe=recipe,
        drop_leaks=drop_leaks,
        test_queries=test_queries,
        evaluate_teacher=evaluate_teacher,
        minutes=minutes_between_checkpoints,
        threads=threads,
        progress=progress,
    )
    return sitting.run(fresh=fresh)
