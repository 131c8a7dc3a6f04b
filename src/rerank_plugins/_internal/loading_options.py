"""The options of loading a model: the one place where each has its name, type, default, range and description."""

# Without `from __future__ import annotations`: the annotations are read at run time, and the class bears the public
# module's name, where they could not be evaluated.

import dataclasses
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rerank_plugins._internal.options import AtLeast, Between, check_options
from rerank_plugins._internal.secret import Secret, as_secret
from rerank_plugins.errors import InvalidInputError

EngineName = Literal["auto", "torch", "openvino"]
"""What computes the model."""

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
"""The number format that the model is computed in."""

LongDocuments = Literal["truncate", "windows"]
"""What becomes of a document that is longer than the model's input."""

DEFAULT_MODEL = "BAAI/bge-reranker-v2-m3"

MAX_QUERY_SHARE = 0.5

MAX_QUEUED_PAIRS = 10_000
"""How many pairs may wait for a model: 200 calls of 50 documents."""


@dataclass(slots=True, unsafe_hash=True)
class LoadingOptions:
    """How a model is found and loaded. Immutable and hashable: equal options share one model in the adapters.

    Raises:
        InvalidInputError: An option outside its range. Nothing is looked for or loaded yet.
    """

    model: Annotated[
        str | Path,
        'A folder, a bundled model (``"rerank-mini-en"``), a name on the Hugging Face hub, or a server\'s: '
        '``"tei:http://host:8080"``, ``"vllm:URL#MODEL"``, ``"cohere:MODEL"`` and others, see docs/servers.md.',
    ] = DEFAULT_MODEL
    _: KW_ONLY
    engine: Annotated[
        EngineName, '``"auto"``, ``"torch"`` or ``"openvino"``. Auto: torch on CUDA or MPS, else OpenVINO.'
    ] = "auto"
    precision: Annotated[
        Precision,
        '``"auto"``, ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``. Auto: fp16 on CUDA and MPS; on CPUs int8 if '
        "`export_model` made it, it passed, and the processor multiplies it exactly (VNNI, AMX), or if that is the "
        "only file; else bf16 where the processor has it; else fp32.",
    ] = "auto"
    device: Annotated[str | None, '``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; None takes the best there is.'] = (
        None
    )
    threads: Annotated[
        int | None,
        AtLeast(1, "processors, or None"),
        "How many processors to compute on, on a CPU. None takes those of the process's affinity, or fewer where a "
        "container's quota is smaller. The torch engine sets it for the whole process.",
    ] = None
    max_length: Annotated[
        int,
        AtLeast(1, "tokens"),
        "Most tokens of a query-document pair, special tokens included; lowered to what the model can read. 1024 is "
        "what the authors of bge-reranker-v2-m3 recommend.",
    ] = 1024
    max_query_share: Annotated[
        float,
        Between(0, 1),
        "Largest share of ``max_length``, above 0 and below 1, that a query may take; a longer query is cut.",
    ] = MAX_QUERY_SHARE
    long_documents: Annotated[
        LongDocuments,
        '``"truncate"``: what is longer than ``max_length`` is cut, and ``truncated`` says so. ``"windows"``: such a '
        "document is read in overlapping windows of ``max_length``, each beside the query, and gets the score of its "
        "best window. Each window costs as much as one document.",
    ] = "truncate"
    max_windows: Annotated[
        int,
        AtLeast(1, "windows"),
        'With ``long_documents="windows"``: most windows of a document. 16 of 1,024 tokens read about 12,000. The rest '
        "is not read, and ``truncated`` says so.",
    ] = 16
    instruction: Annotated[
        str | None,
        "What relevant means, in a sentence, for models whose template has a place for it, such as Qwen3-Reranker. "
        "None takes the model's own; other models refuse it.",
    ] = None
    label: Annotated[
        int | None,
        AtLeast(0, "the number of a label, or None"),
        "For a classifier with several labels: the number of the one that means relevant, from 0. Its score is its "
        "log-odds against the others, so that the sigmoid is its probability.",
    ] = None
    max_queued_pairs: Annotated[
        int,
        AtLeast(1, "pairs"),
        "How many query-document pairs of all callers may wait for the model. A call that would exceed it fails at "
        "once with `OverloadedError`, unless nothing waits. Choose what the machine can compute in the time that your "
        "callers are ready to wait.",
    ] = MAX_QUEUED_PAIRS
    score_cache: Annotated[
        int,
        AtLeast(0, "scores, 0 for none"),
        "How many scores to cache for when the same pair comes again, 0 for none; the least recently used is dropped "
        "first. A score is reused only with the same model files, which are read for it, engine, precision, "
        "``max_length`` and ``max_query_share``. Only hashes of the texts are stored.",
    ] = 0
    score_cache_folder: Annotated[
        str | Path | None,
        "Cache as many scores on disk as well, for the next start and for other processes of this machine. Not on a "
        "network file system.",
    ] = None
    calibration: Annotated[
        str | Path | None,
        "A file that ``rerank-plugins calibrate`` wrote for this model: scores of results are then probabilities of "
        "relevance. If the model's name differs from the one it was fitted with, it is still used, and a warning is "
        "logged.",
    ] = None
    revision: Annotated[
        str | None,
        "Branch, tag or commit on the hub. With one, only the Hugging Face cache and the hub are asked.",
    ] = None
    cache_folder: Annotated[str | Path | None, "Folder for models of the hub, instead of the Hugging Face cache."] = (
        None
    )
    local_files_only: Annotated[bool, "Never ask the hub."] = False
    api_key: Annotated[
        Secret | str | None,
        "The key of a server. None takes the service's usual environment variable, which no list of processes shows. "
        "It is in no repr, pickle, dump or log; who reads a pickle or a dump needs the variable.",
    ] = None

    def __post_init__(self) -> None:
        if hasattr(self.device, "type") and hasattr(self.device, "index"):  # a torch.device
            object.__setattr__(self, "device", str(self.device))
        object.__setattr__(self, "api_key", as_secret(self.api_key))
        check_options(self)
        if self.score_cache_folder is not None and not self.score_cache:
            raise InvalidInputError(
                f"score_cache_folder={self.score_cache_folder!r} needs score_cache, the number of scores to cache: "
                f"score_cache=100_000 takes about 6 MB on disk."
            )

    @property
    def windows(self) -> int:
        """Most windows of a document: 1 where long documents are truncated."""
        return self.max_windows if self.long_documents == "windows" else 1

    def without_key(self) -> dict[str, Any]:
        """The options by name, without the key: for what is written down."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "api_key"}

    def __getstate__(self) -> dict[str, Any]:
        return self.without_key()

    def __setstate__(self, state: dict[str, Any] | list[Any]) -> None:
        # Until 0.1 a pickle held the values without their names.
        named = dict(zip(_FIELDS_OF_0_1, state, strict=True)) if isinstance(state, list) else state
        self.__init__(**without_removed(named))  # type: ignore[misc]

    if not TYPE_CHECKING:  # type checkers would take it for a licence to set anything

        def __setattr__(self, name: str, value: object) -> None:
            if hasattr(self, name):
                raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
            object.__setattr__(self, name, value)

        def __delattr__(self, name: str) -> None:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


REMOTE_OPTIONS = (
    *("model", "instruction", "max_queued_pairs", "score_cache"),
    *("score_cache_folder", "calibration", "api_key"),
)
"""The options that a server's model has; the others say how a model is found and computed here."""


def check_remote(options: LoadingOptions) -> None:
    """Raise `InvalidInputError` for options that have no effect on a server's model."""
    unused = [
        field.name
        for field in dataclasses.fields(options)
        if field.name not in REMOTE_OPTIONS and getattr(options, field.name) != field.default
    ]
    if unused:
        raise InvalidInputError(
            f"Got {', '.join(unused)} for {options.model}, which a server computes as it was started. Leave "
            f"{'it' if len(unused) == 1 else 'them'} out; a server's model takes {', '.join(REMOTE_OPTIONS[1:])}."
        )


SOURCE_OPTIONS = ("revision", "cache_folder", "local_files_only")
"""The options that say where a model is found, for what only reads its files."""

_FIELDS_OF_0_1 = (
    *("model", "engine", "precision", "device", "threads", "max_length", "max_query_share", "token_cache"),
    *("long_documents", "max_windows", "max_queued_pairs", "score_cache", "score_cache_folder", "calibration"),
    *("revision", "cache_folder", "local_files_only"),
)
_REMOVED = ("token_cache",)


def without_removed(options: dict[str, Any]) -> dict[str, Any]:
    """The options without those that earlier releases had, which pickles and dumps of theirs still name."""
    return {name: value for name, value in options.items() if name not in _REMOVED}


HINTS = {
    "use_fp16": "Use precision='fp16' (on an accelerator; on CPUs precision='auto').",
    "batch_size": "Batches are formed by tokens; there is nothing to set.",
    "top_k": "It is called top_n. Give top_n to rerank(), or to an adapter.",
    "top_n": "Give top_n to rerank().",
    "model_name": "It is called model.",
    "model_kwargs": "Use engine, precision, device and max_length.",
    "threshold": "It is called score_threshold.",
    "trust_remote_code": "Code from model folders is never run.",
    "cache_dir": "Use cache_folder.",
    "token": "The hub's client reads HF_TOKEN, or what `hf auth login` keeps: leave it out.",
    "use_auth_token": "The hub's client reads HF_TOKEN, or what `hf auth login` keeps: leave it out.",
    "similarity_cutoff": "It is called score_threshold.",
    "llm": "A cross-encoder scores, not an LLM: name one with model.",
    "dtype": "Use precision.",
    "torch_dtype": "Use precision.",
    "token_cache": "It was removed: tokenizing takes about a hundredth of a call.",
}
"""What to use instead of options that do not exist, by the names that users of other rerankers know."""
