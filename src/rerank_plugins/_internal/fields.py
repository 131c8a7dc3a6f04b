"""The fields that every adapter has: which model, how it is loaded, how much is kept; and a check of what it is given.

Needs pydantic, which comes with both frameworks; so only the adapters import this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from rerank_plugins._internal.aio import on_thread
from rerank_plugins._internal.deadline import OnDeadline, check_deadline
from rerank_plugins.backends.base import EngineName, Precision
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.loading import (
    DEFAULT_MODEL,
    LoadedReranker,
    LoadingOptions,
    LongDocuments,
    loaded_already,
    refuse_unknown,
    release,
    shared_reranker,
)
from rerank_plugins.rerank_call import OnError
from rerank_plugins.reranker import Reranker
from rerank_plugins.results import check_score_threshold, check_top_n
from rerank_plugins.scorers.base import Scorer


def check_each(items: Sequence[Any], wanted: type, expected: str, remedy: str) -> None:
    """Refuse ``items`` where not all are of the type ``wanted``.

    ``expected`` begins the message ("documents must be Documents"), ``remedy`` ends it.

    Raises:
        InvalidInputError: Says what the first wrong one is, where, and how many there are.
    """
    wrong = [position for position, item in enumerate(items) if not isinstance(item, wanted)]
    if wrong:
        raise InvalidInputError(
            f"{expected}, got {type(items[wrong[0]]).__name__} at position {wrong[0]} "
            f"(counted from 0), {len(wrong)} of {len(items)} in all. {remedy}"
        )


def _as_top_n(value: Any) -> int | None:
    check_top_n(value)
    return value if value is None or isinstance(value, int) else int(value)


def _as_score_threshold(value: Any) -> float | None:
    check_score_threshold(value)
    return None if value is None else float(value)


def _as_reranker(value: Any) -> Reranker | None:
    if isinstance(value, str | Path):
        raise InvalidInputError(f"reranker must be a Reranker or a scorer, got {value!r}. Name a model with model=.")
    return value if value is None or isinstance(value, Reranker) else Reranker(value)


def _as_path(value: Any, info: ValidationInfo) -> str:
    if not isinstance(value, str | Path):
        others = {"model": "a folder's path or a model's name", "calibration": "a file's path"}
        wanted = others.get(str(info.field_name), "a folder's path")
        raise InvalidInputError(f"{info.field_name} must be a string or a Path, got {value!r}. Give {wanted}.")
    return str(value)  # a string serializes


def _as_deadline(value: Any) -> float | None:
    check_deadline(value, "partial")
    return None if value is None else float(value)


_COUNT = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}
_SHARE = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]}
TopN = Annotated[int | None, PlainValidator(_as_top_n), WithJsonSchema(_COUNT)]
ScoreThreshold = Annotated[float | None, PlainValidator(_as_score_threshold), WithJsonSchema(_SHARE)]
_SECONDS = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}
Seconds = Annotated[float | None, PlainValidator(_as_deadline), WithJsonSchema(_SECONDS)]
_Path = Annotated[str | Path, PlainValidator(_as_path), WithJsonSchema({"type": "string"})]


class ModelFields(BaseModel):
    """Which reranker to use. Everything is checked when it is set; the model loads at the first use."""

    model: _Path = DEFAULT_MODEL
    """A folder, ``"rerank-mini-en"``, or a name on the Hugging Face hub."""
    reranker: Annotated[Reranker | Scorer | None, PlainValidator(_as_reranker)] = Field(default=None, exclude=True)
    """To use instead of loading ``model``: a `Reranker`, or anything with ``score(pairs) -> list[float]``,
    LangChain's cross-encoders included. Scores without a ``scale`` are taken for logits; where they are
    probabilities give ``Reranker(scorer, scale="probability")``."""
    engine: EngineName = "auto"
    """As in `load_reranker`, like those below."""
    precision: Precision = "auto"
    device: str | None = None
    threads: Annotated[int, Field(strict=True)] | None = None
    max_length: int = Field(default=1024, strict=True)
    max_query_share: float = 0.5
    long_documents: LongDocuments = "truncate"
    max_windows: int = Field(default=16, strict=True)
    max_queued_pairs: int = Field(default=10_000, strict=True)
    score_cache: int = Field(default=0, strict=True)
    score_cache_folder: _Path | None = None
    calibration: _Path | None = None
    revision: str | None = None
    cache_folder: _Path | None = None
    local_files_only: bool = Field(default=False, strict=True)

    # Every adapter says this again: of several parents pydantic takes the last one's, the framework's.
    # Errors do not repeat what was given: a key for a service would end in a log.
    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", validate_assignment=True, hide_input_in_errors=True
    )

    def __setattr__(self, name: str, value: Any) -> None:
        fields, given = self.__dict__.copy(), self.__pydantic_fields_set__.copy()
        try:
            super().__setattr__(name, value)
        except ValueError:
            # pydantic lets a value stay that a validator of the whole model has just refused.
            self.__dict__, self.__pydantic_fields_set__ = fields, given
            raise

    @model_validator(mode="before")
    @classmethod
    def _name_the_right_field(cls, fields: Any) -> Any:
        if isinstance(fields, dict):
            names = {*cls.model_fields, *(field.alias for field in cls.model_fields.values())}
            refuse_unknown({name: value for name, value in fields.items() if name not in names}, cls.__name__)
        return fields

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        options = self._options()
        if self.reranker is not None and options != _DEFAULTS:
            named = [name for name in OPTIONS if getattr(options, name) != getattr(_DEFAULTS, name)]
            raise ValueError(
                f"got reranker and, beside it, {' and '.join(named)}: these say how a model is loaded, and the "
                f"reranker is loaded already. Give load_reranker(...) these options, or leave reranker out."
            )
        return self

    def _check_fields(self) -> None:
        """For every call: ``model_copy(update=...)`` and ``model_construct`` check nothing.

        Raises:
            InvalidInputError: A field has a value that its class would not take.
        """
        own = type(self)
        # Beside fields there may be what a subclass has cached. Options of a model that is not loaded do no harm.
        unused = OPTIONS if self.reranker is not None else ()
        held = {
            name: value
            for name, value in self.__dict__.items()
            if name not in unused and (name in own.model_fields or not hasattr(own, name))
        }
        try:
            own.model_validate(held)
        except ValidationError as exc:
            told = (error.get("ctx", {}).get("error") or f"{error['loc'][0]}: {error['msg']}" for error in exc.errors())
            raise InvalidInputError(
                f"{own.__name__}: {'; '.join(map(str, told))} This was not noticed before, because "
                f"model_copy(update=...) and model_construct check nothing."
            ) from exc

    # LlamaIndex's name for it; of two serializers of different names pydantic would take either.
    @model_serializer(mode="wrap")
    def custom_model_dump(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """The fields; of a reranker from `load_reranker`, its options.

        A scorer of somebody's own cannot be written: ``reranker`` says so, in words that no adapter takes.
        """
        return self._written(handler(self), info)

    def _written(self, data: dict[str, Any], info: SerializationInfo) -> dict[str, Any]:
        options = self._loaded_from()
        if options is None:
            return {**data, "reranker": f"{self._model_label()}, which cannot be written down"}
        # Also where defaults and unset fields are left out: what a reranker was loaded from is neither.
        whole = self.reranker is not None and info.include is None
        wanted = {*data, *(name for name in OPTIONS if whole and getattr(options, name) != getattr(_DEFAULTS, name))}
        left_out = set(info.exclude or ())
        return {**data, **{name: value for name, value in asdict(options).items() if name in wanted - left_out}}

    def __getstate__(self) -> dict[Any, Any]:
        # pydantic's own, not the next class's: LlamaIndex's takes what it cannot pickle out of the object itself,
        # and what is read again would use the default model.
        state = BaseModel.__getstate__(self)
        given, fields = self._given(), dict(self.__dict__)
        if isinstance(given, LoadedReranker):
            # Its options; reading them loads nothing yet.
            fields |= {"reranker": None, **asdict(given.loaded_from)}
        return {**state, "__dict__": fields}

    def _options(self) -> LoadingOptions:
        return LoadingOptions(**{name: getattr(self, name) for name in OPTIONS})

    def _reranker(self) -> Reranker:
        """The reranker to use; this is where the model loads."""
        return self._given() or shared_reranker(self._options())

    async def _areranker(self) -> Reranker:
        """`_reranker`, on a thread if the model has to load."""
        ready = self._given() or loaded_already(self._options())
        return ready if ready is not None else await on_thread(self._reranker)

    def close(self) -> None:
        """Let go of the model, which is freed after its last call, unless something else uses it.

        A later call loads it anew. A ``reranker`` that was given is left as it is.
        """
        if self._given() is None:
            release(self._options())

    def _given(self) -> Reranker | None:
        # Not yet a Reranker after model_copy(update=...), which validates nothing.
        return _as_reranker(self.reranker)

    def _loaded_from(self) -> LoadingOptions | None:
        """What the reranker is or will be loaded from; None for a scorer of somebody's own."""
        given = self._given()
        if given is None:
            return self._options()
        return given.loaded_from if isinstance(given, LoadedReranker) else None

    def _model_label(self) -> str:
        """The model as traces name it."""
        options = self._loaded_from()
        return type(self._reranker().scorer).__name__ if options is None else options.model


class CallFields(ModelFields):
    """How long a call may take, and what it does when something is amiss; as in `Reranker.rerank`."""

    deadline: Seconds = None
    """Seconds from the call, without the loading of the model; None for no deadline."""
    on_deadline: OnDeadline = "partial"
    """``"partial"``: what has no score at the deadline follows the others in its order, its score None."""
    on_error: OnError = "raise"
    """``"keep_order"``: a failure of the model, or an overload, is answered in retrieval order, the scores None. A
    model that cannot be loaded is an error all the same."""

    def _how(self) -> dict[str, Any]:
        return {"deadline": self.deadline, "on_deadline": self.on_deadline, "on_error": self.on_error}


OPTIONS = tuple(LoadingOptions.__dataclass_fields__)
_DEFAULTS = LoadingOptions(**{name: ModelFields.model_fields[name].default for name in OPTIONS})
