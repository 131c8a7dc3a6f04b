"""`load_reranker`: a model's name becomes a `Reranker`; and one that adapters share."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Never, get_args

from rerank_plugins._internal.files import expand
from rerank_plugins.calibration import Calibration
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.reranker import Reranker
from rerank_plugins.scorers.base import Scorer

if TYPE_CHECKING:
    from rerank_plugins.backends.base import EngineName, Precision

LongDocuments = Literal["truncate", "windows"]
"""What becomes of a document that is longer than the model reads at a time."""

# Not ...runtime, which writes nowhere by default: who loads a wrong file is there to read it.
_log = logging.getLogger("rerank_plugins")

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
    long_documents: LongDocuments
    max_windows: int
    max_queued_pairs: int
    score_cache: int
    score_cache_folder: str | None
    calibration: str | None
    revision: str | None
    cache_folder: str | None
    local_files_only: bool

    def __post_init__(self) -> None:
        # Here, not at the top: importing this package must not load numpy's and the engines' modules.
        from rerank_plugins.backends.auto import check_names

        if not isinstance(self.model, str) or not self.model.strip():
            raise InvalidInputError(f"model must be a folder or a model's name, got {self.model!r}.")
        check_names(self.engine, self.precision)
        _check_count("max_length", self.max_length, 1, "tokens")
        if self.threads is not None:
            _check_count("threads", self.threads, 1, "processors, or None")
        share = self.max_query_share
        if isinstance(share, bool) or not isinstance(share, float) or not 0 < share < 1:
            raise InvalidInputError(f"max_query_share must lie between 0 and 1, got {share!r}.")
        if self.long_documents not in get_args(LongDocuments):
            raise InvalidInputError(f"long_documents must be 'truncate' or 'windows', got {self.long_documents!r}.")
        _check_count("max_windows", self.max_windows, 1, "windows")
        _check_count("max_queued_pairs", self.max_queued_pairs, 1, "pairs")
        _check_count("score_cache", self.score_cache, 0, "scores, 0 for none")
        if self.score_cache_folder is not None and not self.score_cache:
            raise InvalidInputError(
                f"score_cache_folder={self.score_cache_folder!r} needs score_cache, the number of scores to keep: "
                f"score_cache=100_000 takes about 6 MB on disk."
            )
        calibration = self.calibration
        if calibration is not None and (not isinstance(calibration, str) or not calibration.strip()):
            raise InvalidInputError(
                f"calibration must be the path of a file, got {calibration!r}. "
                f"A Calibration goes into Reranker(scorer, calibration=...)."
            )

    def load(self) -> LoadedReranker:
        """Find the model and load it, whether it is loaded already or not; its calibration first, which is quicker."""
        from rerank_plugins.hub.lookup import find_model
        from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

        calibration = self.read_calibration()
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
            max_windows=self.max_windows if self.long_documents == "windows" else 1,
            max_queued_pairs=self.max_queued_pairs,
            score_cache=self.score_cache,
            score_cache_folder=self.score_cache_folder,
        )
        return LoadedReranker(scorer, self, calibration)

    def read_calibration(self) -> Calibration | None:
        """What the file holds; a warning where it belongs to another model."""
        if self.calibration is None:
            return None
        calibration = Calibration.read(self.calibration)
        if not calibration.fits(self.model):
            # No error: the same model may be in a folder of another name.
            _log.warning(
                "The calibration %s was fitted with the model %s and is used with %s. Unless these are the same model, "
                "its scores are no probabilities: fit one with `rerank-plugins calibrate`.",
                self.calibration,
                calibration.model,
                self.model,
            )
        return calibration


def _check_count(name: str, value: object, least: int, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInputError(f"{name} must be a whole number of at least {least} ({what}), got {value!r}.")


class LoadedReranker(Reranker):
    """A `Reranker` that knows how it was loaded.

    A pickle of it is its options, a few hundred bytes; reading the pickle finds and loads the model
    where it is read, once a process.
    """

    def __init__(self, scorer: Scorer, loaded_from: LoadingOptions, calibration: Calibration | None = None) -> None:
        super().__init__(scorer, calibration=calibration)
        self.loaded_from = loaded_from
        self._calibrated_by = _state_of(loaded_from.calibration)

    def __reduce__(self) -> tuple[object, ...]:
        return shared_reranker, (self.loaded_from,)

    def close(self) -> None:
        """As `Reranker.close`. Adapters that named the same model load it anew."""
        with _access:
            if _shared.get(self.loaded_from) is self:
                del _shared[self.loaded_from]
        super().close()

    def follow_calibration(self) -> LoadedReranker:
        """Itself, with what its calibration's file holds by now: one that was fitted anew must not be missed."""
        state = _state_of(self.loaded_from.calibration)
        if state is not None and state != self._calibrated_by:
            self.calibration, self._calibrated_by = self.loaded_from.read_calibration(), state
        return self

    def _model_label(self) -> str:
        return self.loaded_from.model


def _state_of(file: str | None) -> tuple[int, int, int] | None:
    """Tells a file from one that replaced it; None where there is none."""
    try:
        found = None if file is None else expand(file).stat()
    except OSError:
        return None
    return None if found is None else (found.st_ino, found.st_mtime_ns, found.st_size)


def load_reranker(  # noqa: PLR0913 - every option of loading, in one place
    model: str | Path = DEFAULT_MODEL,
    *,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    device: str | None = None,
    threads: int | None = None,
    max_length: int = 1024,
    max_query_share: float = 0.5,
    long_documents: LongDocuments = "truncate",
    max_windows: int = 16,
    max_queued_pairs: int = 10_000,
    score_cache: int = 0,
    score_cache_folder: str | Path | None = None,
    calibration: str | Path | None = None,
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
        threads: How many processors to compute on, on a CPU. None takes those of the process's count_affinity_cpus, or
            fewer where a container's quota is smaller. The torch engine sets it for the whole process.
        max_length: Most tokens of a query-document pair, special tokens included; lowered to what
            the model can read. 1024 is what bge-reranker-v2-m3's authors recommend.
        max_query_share: In (0, 1): the most of ``max_length`` that a query takes; what is over is cut.
        long_documents: ``"truncate"``: what is longer than ``max_length`` is cut, and ``truncated`` says so.
            ``"windows"``: such a document is read in overlapping windows of ``max_length``, each beside the query, and
            gets the score of its best one. It costs as much as so many documents.
        max_windows: How many windows a document has, at most: 16 of 1,024 tokens read about 12,000. What is behind
            them is not read, and ``truncated`` says so.
        max_queued_pairs: How many query-document pairs of all callers may wait for the model. A call that would exceed
            it fails at once with `OverloadedError`, unless nothing waits. What a pair takes depends on the model and
            the machine: choose what can be computed in the time that your callers are ready to wait.
        score_cache: How many scores are kept for when the same pair comes again, 0 for none; what was used longest ago
            goes first. They belong to the contents of the model's files, which are read for it, engine,
            precision, ``max_length`` and ``max_query_share``; digests are kept and no texts.
        score_cache_folder: Keep as many on disk as well, for the next start and for other processes of this machine.
            Not on a network file system.
        calibration: A file that ``rerank-plugins calibrate`` wrote for this model: scores of results are then
            probabilities of relevance. One that was fitted with a model of another name is used, with a warning in
            the log: folders get renamed, and nothing else tells models apart.
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
        long_documents=long_documents,
        max_windows=max_windows,
        max_queued_pairs=max_queued_pairs,
        score_cache=score_cache,
        score_cache_folder=None if score_cache_folder is None else str(score_cache_folder),
        calibration=str(calibration) if isinstance(calibration, Path) else calibration,
        revision=revision,
        cache_folder=None if cache_folder is None else str(cache_folder),
        local_files_only=local_files_only,
    ).load()


SHARED_RERANKERS = 8
"""How many rerankers of different options adapters share, those used last; the weights of a model are there once."""

_shared: OrderedDict[LoadingOptions, LoadedReranker] = OrderedDict()
# The first is held while a model loads, the second while the dictionary is looked at or changed.
_loading, _access = threading.Lock(), threading.Lock()


def _after_fork() -> None:
    # The thread of the parent that held one does not exist here.
    global _loading, _access
    _loading, _access = threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def loaded_already(options: LoadingOptions) -> LoadedReranker | None:
    """What `shared_reranker` gives, if it would not have to load it. Never waits."""
    with _access:
        found = _shared.get(options)
        if found is not None:
            _shared.move_to_end(options)
    return None if found is None else found.follow_calibration()


def release(options: LoadingOptions) -> None:
    """Share the reranker of ``options`` no longer: it is freed after its last call, and loaded anew if asked for."""
    with _access:
        _shared.pop(options, None)


def shared_reranker(options: LoadingOptions) -> LoadedReranker:
    """One reranker a process for equal options, for all adapters and pickles; the last `SHARED_RERANKERS` are kept."""
    found = loaded_already(options)  # a model that is loaded must not wait for another that is loading
    if found is not None:
        return found
    with _loading:
        found = loaded_already(options)
        if found is None:
            found = options.load()
            with _access:
                _shared[options] = found
                # Who uses one that goes keeps it until the call ends.
                gone = [_shared.popitem(last=False)[1] for _ in range(len(_shared) - SHARED_RERANKERS)]
            del gone  # not under the lock: its end takes others
        return found


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
