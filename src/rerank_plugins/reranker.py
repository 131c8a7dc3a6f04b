"""`Reranker`: a query and documents in, the same documents out, best first. And how to get one."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Never

from rerank_plugins.errors import InvalidInputError, ScoringError
from rerank_plugins.ranking import RankedResult, check_score_threshold, check_top_n, rank, sigmoid
from rerank_plugins.scorer import DetailedScorer, Scale, Scorer

if TYPE_CHECKING:
    from rerank_plugins.engines import EngineName, Precision

DEFAULT_MODEL = "BAAI/bge-reranker-v2-m3"


class Reranker:
    """Reranks documents with any scorer. Safe to share between threads if its scorer is."""

    def __init__(self, scorer: Scorer, *, scale: Scale | None = None) -> None:
        """Hold a scorer.

        Args:
            scorer: Any object with ``score(pairs) -> list[float]``, LangChain cross-encoders included.
            scale: What its numbers are: ``"logit"`` (a sigmoid is applied) or ``"probability"``
                (used as they are). None takes ``scorer.scale``, or ``"logit"`` where it has none.
        """
        if not callable(getattr(scorer, "score", None)):
            raise InvalidInputError(
                f"scorer must have a method score(pairs) -> list[float], got {type(scorer).__name__}. "
                f"For a model's name use load_reranker(name)."
            )
        chosen = scale or getattr(scorer, "scale", None) or "logit"
        if chosen not in ("logit", "probability"):
            raise InvalidInputError(f"scale must be 'logit' or 'probability', got {chosen!r}.")
        self.scorer = scorer
        self.scale: Scale = chosen

    def __deepcopy__(self, memo: dict[int, object]) -> Reranker:
        """Itself: a reranker never changes, and its model is not to be copied."""
        return self

    def rerank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_n: int | None = None,
        score_threshold: float | None = None,
    ) -> list[RankedResult]:
        """Order documents by relevance to the query.

        Args:
            query: Not blank.
            documents: Any iterable of strings; it is read once and never changed.
            top_n: How many to return; None returns all, 0 none.
            score_threshold: In [0, 1]; only scores at or above it are returned, at most ``top_n``.

        Returns:
            Results with scores in [0, 1], best first; equal scores keep their input order. A blank
            document has nothing to match: it gets 0.0, without the model, and comes last.

        Raises:
            InvalidInputError: A blank query, a string for documents, a document that is no string,
                a wrong ``top_n`` or ``score_threshold``.
            ScoringError: The scorer gave a wrong number of scores, or one that is not finite.
        """
        check_top_n(top_n)
        check_score_threshold(score_threshold)
        _check_query(query)
        texts = _checked_documents(documents)
        if top_n == 0:
            return []
        filled = [position for position, text in enumerate(texts) if text.strip()]
        blank = [position for position, text in enumerate(texts) if not text.strip()]
        raw, truncated = self._score(query, texts, filled) if filled else ([], [])
        scores = [sigmoid(score) for score in raw] if self.scale == "logit" else raw
        # Blank documents stand behind the others, so that even at equal scores they come last.
        positions = filled + blank
        order = rank(
            scores + [0.0] * len(blank),
            top_n=top_n,
            score_threshold=score_threshold,
            order_by=raw + [-math.inf] * len(blank),  # logits differ where their sigmoids are both 1.0
        )
        scores, truncated = scores + [0.0] * len(blank), truncated + [False] * len(blank)
        return [RankedResult(positions[i], scores[i], texts[positions[i]], truncated[i]) for i in order]

    async def arerank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_n: int | None = None,
        score_threshold: float | None = None,
    ) -> list[RankedResult]:
        """`rerank` on a worker thread, so that the event loop stays free."""
        texts = _checked_documents(documents)
        return await asyncio.to_thread(self.rerank, query, texts, top_n=top_n, score_threshold=score_threshold)

    def _score(self, query: str, texts: list[str], positions: list[int]) -> tuple[list[float], list[bool | None]]:
        pairs = [(query, texts[position]) for position in positions]
        truncated: list[bool | None] = [None] * len(pairs)
        try:
            # A copy: what a scorer does to its argument must not change what is ranked.
            if isinstance(self.scorer, DetailedScorer):
                detailed = list(self.scorer.score_detailed(list(pairs)))
                raw = [float(scored.score) for scored in detailed]
                truncated = [bool(scored.truncated) for scored in detailed]
            else:
                raw = [float(score) for score in self.scorer.score(list(pairs))]
        except (TypeError, ValueError, AttributeError) as exc:
            raise ScoringError(
                f"{type(self.scorer).__name__} gave no list of numbers for {len(pairs)} pairs "
                f"({type(exc).__name__}: {exc}), expected one number a pair. Nothing was ranked."
            ) from exc
        if len(raw) != len(pairs):
            raise ScoringError(
                f"{type(self.scorer).__name__} gave {len(raw)} scores for {len(pairs)} pairs, "
                f"expected one a pair. Nothing was ranked."
            )
        self._check_scores(raw, positions)
        return raw, truncated

    def _check_scores(self, raw: list[float], positions: list[int]) -> None:
        bad = [p for p, score in zip(positions, raw, strict=True) if not math.isfinite(score)]
        if bad:
            raise ScoringError(
                f"{type(self.scorer).__name__} gave NaN or infinite scores for documents {_listed(bad)} "
                f"(counted from 0), expected finite numbers. Nothing was ranked; "
                f"where a model computes in fp16, try precision='bf16' or 'fp32'."
            )
        if self.scale == "probability":
            off = [p for p, score in zip(positions, raw, strict=True) if not 0.0 <= score <= 1.0]
            if off:
                raise ScoringError(
                    f"{type(self.scorer).__name__} says its scores are probabilities, but those of documents "
                    f"{_listed(off)} (counted from 0) lie outside [0, 1]. "
                    f"If they are logits, use Reranker(scorer, scale='logit')."
                )


def load_reranker(
    model: str | Path = DEFAULT_MODEL,
    *,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    device: str | None = None,
    max_length: int = 1024,
    max_query_share: float = 0.5,
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
            MPS; on CPUs bf16 where the processor has it, else fp32; int8 if that is the only file.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; None takes the best there is.
        max_length: Most tokens of a query-document pair, special tokens included; lowered to what
            the model can read. 1024 is what bge-reranker-v2-m3's authors recommend.
        max_query_share: In (0, 1): the most of ``max_length`` that a query takes; what is over is cut.
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
    # Here, not at the top: importing this package must load neither an engine nor the hub's client.
    from rerank_plugins.cross_encoder import CrossEncoderScorer
    from rerank_plugins.engines import check_names
    from rerank_plugins.hub import find_model

    _refuse_unknown(unknown)
    check_names(engine, precision)
    if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
        raise InvalidInputError(f"max_length must be a positive number of tokens, got {max_length!r}.")
    if isinstance(max_query_share, bool) or not isinstance(max_query_share, float) or not 0 < max_query_share < 1:
        raise InvalidInputError(f"max_query_share must lie between 0 and 1, got {max_query_share!r}.")
    folder = find_model(model, revision=revision, cache_folder=cache_folder, local_files_only=local_files_only)
    scorer = CrossEncoderScorer.from_folder(
        folder,
        engine=engine,
        precision=precision,
        device=device,
        max_length=max_length,
        max_query_share=max_query_share,
    )
    return Reranker(scorer)


_shared: dict[tuple[object, ...], Reranker] = {}
_shared_lock = threading.Lock()


def shared_reranker(model: str | Path = DEFAULT_MODEL) -> Reranker:
    """`load_reranker`, but one reranker a process for equal arguments, however many adapters ask."""
    key = (str(model),)
    with _shared_lock:
        if key not in _shared:
            _shared[key] = load_reranker(model)
        return _shared[key]


def _refuse_unknown(options: Mapping[str, object]) -> None:
    hints = {
        "use_fp16": "Use precision='fp16' (on an accelerator; on CPUs precision='auto').",
        "batch_size": "Batches are formed by tokens; there is nothing to set.",
        "top_k": "Give top_n to rerank().",
        "top_n": "Give top_n to rerank().",
        "trust_remote_code": "Code from model folders is never run.",
        "cache_dir": "Use cache_folder.",
        "dtype": "Use precision.",
        "torch_dtype": "Use precision.",
    }
    for name, value in options.items():
        hint = hints.get(name, "See help(rerank_plugins.load_reranker) for the options there are.")
        raise InvalidInputError(f"load_reranker has no option {name!r} (got {name}={value!r}). {hint}")


def _check_query(query: str) -> None:
    if not isinstance(query, str):
        raise InvalidInputError(f"query must be a string, got {type(query).__name__}.")
    if not query.strip():
        raise InvalidInputError("query is blank. Documents can only be ranked for a question: give its text.")


def _checked_documents(documents: Iterable[str]) -> list[str]:
    if isinstance(documents, str | bytes):
        raise InvalidInputError(
            f"documents must be an iterable of strings, got one {type(documents).__name__}. "
            f"For a single document give a list: [document]."
        )
    try:
        given = iter(documents)
    except TypeError:
        raise InvalidInputError(f"documents must be an iterable of strings, got {type(documents).__name__}.") from None
    texts = list(given)
    wrong = [position for position, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        kinds = ", ".join(sorted({type(texts[position]).__name__ for position in wrong}))
        raise InvalidInputError(
            f"documents must be strings, got {kinds} at position {_listed(wrong)} (counted from 0) of {len(texts)}. "
            f"Nothing was ranked and nothing was changed: leave these out, or give their text."
        )
    return texts


def _listed(positions: list[int], most: int = 10) -> str:
    shown = ", ".join(str(position) for position in positions[:most])
    return f"{shown} and {len(positions) - most} more" if len(positions) > most else shown
