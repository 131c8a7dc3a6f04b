"""`load_reranker`: a model's name becomes a `Reranker`; and one that adapters share."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Never

from rerank_plugins.errors import InvalidInputError
from rerank_plugins.reranker import Reranker
from rerank_plugins.scorer import Scorer

if TYPE_CHECKING:
    from rerank_plugins.engines import EngineName, Precision

DEFAULT_MODEL = "BAAI/bge-reranker-v2-m3"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadingOptions:
    """What `load_reranker` was asked for. Equal options share one model in the adapters of a process.

    Raises:
        InvalidInputError: An option outside its range. Nothing is looked for or loaded yet.
    """

    model: str
    engine: EngineName
    precision: Precision
    device: str | None
    threads: int | None
    max_length: int
    max_query_share: float
    token_cache: int
    max_queued_pairs: int
    score_cache: int
    score_cache_folder: str | None
    revision: str | None
    cache_folder: str | None
    local_files_only: bool

    def __post_init__(self) -> None:
        # Here, not at the top: importing this package must not load numpy's and the engines' modules.
        from rerank_plugins.engines import check_names

        if not isinstance(self.model, str) or not self.model.strip():
            raise InvalidInputError(f"model must be a folder or a model's name, got {self.model!r}.")
        check_names(self.engine, self.precision)
        if isinstance(self.max_length, bool) or not isinstance(self.max_length, int) or self.max_length < 1:
            raise InvalidInputError(f"max_length must be a positive number of tokens, got {self.max_length!r}.")
        threads = self.threads
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise InvalidInputError(f"threads must be a whole number of at least 1, or None, got {threads!r}.")
        share = self.max_query_share
        if isinstance(share, bool) or not isinstance(share, float) or not 0 < share < 1:
            raise InvalidInputError(f"max_query_share must lie between 0 and 1, got {share!r}.")
        kept = self.token_cache
        if isinstance(kept, bool) or not isinstance(kept, int) or kept < 0:
            raise InvalidInputError(f"token_cache must be a number of passages, 0 for none, got {kept!r}.")
        queued = self.max_queued_pairs
        if isinstance(queued, bool) or not isinstance(queued, int) or queued < 1:
            raise InvalidInputError(f"max_queued_pairs must be a whole number of at least 1, got {queued!r}.")
        scores = self.score_cache
        if isinstance(scores, bool) or not isinstance(scores, int) or scores < 0:
            raise InvalidInputError(f"score_cache must be a number of scores, 0 for none, got {scores!r}.")
        if self.score_cache_folder is not None and not scores:
            raise InvalidInputError(
                f"score_cache_folder={self.score_cache_folder!r} needs score_cache, the number of scores to keep: "
                f"score_cache=100_000 takes about 6 MB on disk."
            )

    def load(self) -> LoadedReranker:
        """Find the model and load it, whether it is loaded already or not."""
        from rerank_plugins.cross_encoder import CrossEncoderScorer
        from rerank_plugins.hub import find_model

        folder = find_model(
            self.model,
            revision=self.revision,
            cache_folder=self.cache_folder,
            local_files_only=self.local_files_only,
        )
        scorer = CrossEncoderScorer.from_folder(
            folder,
            engine=self.engine,
            precision=self.precision,
            device=self.device,
            threads=self.threads,
            max_length=self.max_length,
            max_query_share=self.max_query_share,
            token_cache=self.token_cache,
            max_queued_pairs=self.max_queued_pairs,
            score_cache=self.score_cache,
            score_cache_folder=self.score_cache_folder,
        )
        return LoadedReranker(scorer, self)


class LoadedReranker(Reranker):
    """A `Reranker` that knows how it was loaded.

    A pickle of it is its options, a few hundred bytes; reading the pickle finds and loads the model
    where it is read, once a process.
    """

    def __init__(self, scorer: Scorer, loaded_from: LoadingOptions) -> None:
        super().__init__(scorer)
        self.loaded_from = loaded_from

    def __reduce__(self) -> tuple[object, ...]:
        return shared_reranker, (self.loaded_from,)

    def close(self) -> None:
        """As `Reranker.close`. Adapters that named the same model load it anew."""
        with _loading:
            if _shared.get(self.loaded_from) is self:
                del _shared[self.loaded_from]
        super().close()

    def _model_label(self) -> str:
        return self.loaded_from.model


def load_reranker(  # noqa: PLR0913 - every option of loading, in one place
    model: str | Path = DEFAULT_MODEL,
    *,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    device: str | None = None,
    threads: int | None = None,
    max_length: int = 1024,
    max_query_share: float = 0.5,
    token_cache: int = 0,
    max_queued_pairs: int = 10_000,
    score_cache: int = 0,
    score_cache_folder: str | Path | None = None,
    revision: str | None = None,
    cache_folder: str | Path | None = None,
    local_files_only: bool = False,
    **unknown: Never,
) -> Reranker:
    """Find a cross-encoder, load it, and return a `Reranker` over it.

    Args:
        model: A folder, a model in the box (``"rerank-mini-en"``), or a name on the Hugging Face hub.
        engine: ``"auto"``, ``"torch"`` or ``"openvino"``. Auto: torch on CUDA or MPS, else OpenVINO.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``. Auto: fp16 on CUDA and
            MPS; on CPUs int8 if `export_model` made it, it passed, and the processor multiplies it exactly (VNNI,
            AMX), or if that is the only file; else bf16 where the processor has it; else fp32.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; None takes the best there is.
        threads: How many processors to compute on, on a CPU. None takes those of the process's affinity, or
            fewer where a container's quota is smaller. The torch engine sets it for the whole process.
        max_length: Most tokens of a query-document pair, special tokens included; lowered to what
            the model can read. 1024 is what bge-reranker-v2-m3's authors recommend.
        max_query_share: In (0, 1): the most of ``max_length`` that a query takes; what is over is cut.
        token_cache: How many passages' token ids are kept for when the same text comes again, four bytes a token; what
            was used longest ago goes first. On CPUs tokenizing is little beside the model: see docs/performance.md.
        max_queued_pairs: How many query-document pairs of all callers may wait for the model. A call that would exceed
            it fails at once with `OverloadedError`, unless nothing waits. What a pair takes depends on the model and
            the machine: choose what can be computed in the time that your callers are ready to wait.
        score_cache: How many scores are kept for when the same pair comes again, 0 for none; what was used longest ago
            goes first. They belong to the contents of the model's files, which are read for it, engine,
            precision, ``max_length`` and ``max_query_share``; digests are kept and no texts.
        score_cache_folder: Keep as many on disk as well, for the next start and for other processes of this machine.
            Not on a network file system.
        revision: Branch, tag or commit on the hub. With one, only the Hugging Face cache and the hub are asked.
        cache_folder: Where hub models are kept, instead of the Hugging Face cache.
        local_files_only: Never ask the hub.
        **unknown: Refused, with a word on what to use instead.

    Raises:
        InvalidInputError: An option that does not exist or does not fit the others.
        ModelNotFoundError: No place has the model.
        ModelLoadError: The model's files cannot be used.
        MissingExtraError: The model or the engine needs an extra that is not installed.
    """
    refuse_unknown(unknown, "load_reranker")
    return LoadingOptions(
        model=str(model) if isinstance(model, Path) else model,
        engine=engine,
        precision=precision,
        device=device,
        threads=threads,
        max_length=max_length,
        max_query_share=max_query_share,
        token_cache=token_cache,
        max_queued_pairs=max_queued_pairs,
        score_cache=score_cache,
        score_cache_folder=None if score_cache_folder is None else str(score_cache_folder),
        revision=revision,
        cache_folder=None if cache_folder is None else str(cache_folder),
        local_files_only=local_files_only,
    ).load()


_shared: dict[LoadingOptions, LoadedReranker] = {}
_loading = threading.Lock()


def _after_fork() -> None:
    # The thread of the parent that was loading does not exist here.
    global _loading  # noqa: PLW0603 - a lock that nobody holds
    _loading = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def loaded_already(options: LoadingOptions) -> LoadedReranker | None:
    """What `shared_reranker` gives, if it would not have to load it. Never waits."""
    return _shared.get(options)


def shared_reranker(options: LoadingOptions) -> LoadedReranker:
    """One reranker a process for equal options, however many adapters and pickles ask."""
    found = loaded_already(options)  # a model that is loaded must not wait for another that is loading
    if found is not None:
        return found
    with _loading:
        if options not in _shared:
            _shared[options] = options.load()
        return _shared[options]


def refuse_unknown(options: Mapping[str, object], taker: str) -> None:
    """Raise `InvalidInputError` for the first option, with what ``taker`` has instead of it."""
    hints = {
        "use_fp16": "Use precision='fp16' (on an accelerator; on CPUs precision='auto').",
        "batch_size": "Batches are formed by tokens; there is nothing to set.",
        "top_k": "It is called top_n. Give top_n to rerank(), or to an adapter.",
        "top_n": "Give top_n to rerank().",
        "model_name": "It is called model.",
        "model_kwargs": "Use engine, precision, device and max_length.",
        "threshold": "It is called score_threshold.",
        "trust_remote_code": "Code from model folders is never run.",
        "cache_dir": "Use cache_folder.",
        "api_key": "Models run here, and none needs a key: leave it out.",
        "token": "The hub's client reads HF_TOKEN, or what `hf auth login` keeps: leave it out.",
        "use_auth_token": "The hub's client reads HF_TOKEN, or what `hf auth login` keeps: leave it out.",
        "similarity_cutoff": "It is called score_threshold.",
        "llm": "A cross-encoder scores, not an LLM: name one with model.",
        "dtype": "Use precision.",
        "torch_dtype": "Use precision.",
    }
    for name, value in options.items():
        hint = hints.get(name, f"See help({taker}) for the options there are.")
        secret = any(word in name.lower() for word in ("key", "token", "secret", "password"))
        got = "" if secret else f" (got {name}={value!r})"
        raise InvalidInputError(f"{taker} has no option {name!r}{got}. {hint}")
