"""The pydantic fields of the adapters: which model, how it is loaded, how long a call may take.

Only the adapters import this module, because pydantic comes with the frameworks and not with this package.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    WithJsonSchema,
    create_model,
    model_serializer,
    model_validator,
)

from rerank_plugins._internal.aio import on_thread
from rerank_plugins._internal.deadline import OnDeadline, check_deadline, deadline_from_now
from rerank_plugins._internal.loading_options import HINTS, LoadingOptions, without_removed
from rerank_plugins._internal.options import Option, options_of, refuse_unknown
from rerank_plugins._internal.secret import Secret, as_secret
from rerank_plugins._internal.validation import check_score_threshold, check_top_n
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.loading import LoadedReranker, loaded_already, release, shared_reranker
from rerank_plugins.reranker import OnError, Reranker
from rerank_plugins.results import RankedResult, Ranking
from rerank_plugins.scorers.base import Scorer


def check_each(items: Sequence[Any], wanted: type, expected: str, remedy: str) -> None:
    """Raise `InvalidInputError` unless all items are ``wanted``; the message begins with ``expected``."""
    wrong = [position for position, item in enumerate(items) if not isinstance(item, wanted)]
    if wrong:
        raise InvalidInputError(
            f"{expected}, got {type(items[wrong[0]]).__name__} at position {wrong[0]} "
            f"(counted from 0), {len(wrong)} of {len(items)} in all. {remedy}"
        )


def _as_reranker(value: Any) -> Reranker | None:
    if isinstance(value, str | Path):
        raise InvalidInputError(f"reranker must be a Reranker or a scorer, got {value!r}. Name a model with model=.")
    return value if value is None or isinstance(value, Reranker) else Reranker(value)


_KEY = {"anyOf": [{"type": "string", "format": "password", "writeOnly": True}, {"type": "null"}]}
_COUNT = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}
_SHARE = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]}
_SECONDS = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}
TopN = Annotated[int | None, PlainValidator(check_top_n), WithJsonSchema(_COUNT)]
ScoreThreshold = Annotated[float | None, PlainValidator(check_score_threshold), WithJsonSchema(_SHARE)]
Seconds = Annotated[float | None, PlainValidator(check_deadline), WithJsonSchema(_SECONDS)]


def _field(option: Option) -> tuple[Any, Any]:
    """An option of `load_reranker` as pydantic declares fields."""
    kind: Any = option.type
    if Secret in option.kinds:
        kind = Annotated[Secret | None, PlainValidator(as_secret), WithJsonSchema(_KEY)]
        return kind, Field(default=None, exclude=True, description=option.help.replace("``", ""))
    if option.is_path:

        def as_text(value: Any) -> str | None:
            text = str(value) if isinstance(value, Path) else value  # a string serializes
            option.check(text)
            return text

        schema = {"type": "string"}
        schemas = {"anyOf": [schema, {"type": "null"}]} if NoneType in option.kinds else schema
        kind = Annotated[kind, PlainValidator(as_text), WithJsonSchema(schemas)]
    # Not so for numbers with a fraction: 1 is taken for 1.0.
    strict = True if {int, bool} & set(option.kinds) else None
    return kind, Field(option.default, strict=strict, description=option.help.replace("``", ""))


OPTIONS = options_of(LoadingOptions)

if TYPE_CHECKING:

    class _LoadingFields(LoadingOptions, BaseModel):
        """The options as fields, with their names and types."""
else:
    _LoadingFields = create_model("_LoadingFields", **{name: _field(option) for name, option in OPTIONS.items()})


# Every adapter names it: of several parents pydantic takes the last one's, the framework's. Errors do not repeat what
# was given: a key for a service would end in a log.
MODEL_CONFIG = ConfigDict(
    arbitrary_types_allowed=True, extra="forbid", validate_assignment=True, hide_input_in_errors=True
)


# Asked for several times a call. Typed, because 1 and True are equal and only one is a number of tokens.
@functools.lru_cache(maxsize=64, typed=True)
def _make_options(*values: Any) -> LoadingOptions:
    return LoadingOptions(**dict(zip(OPTIONS, values, strict=True)))


class ModelFields(_LoadingFields):
    """Which reranker to use: the options of `load_reranker`, or a ``reranker``; the model loads at the first use."""

    reranker: Annotated[Reranker | Scorer | None, PlainValidator(_as_reranker)] = Field(default=None, exclude=True)
    """To use instead of loading ``model``: a `Reranker`, or anything with ``score(pairs) -> list[float]``,
    LangChain's cross-encoders included. Scores without a ``scale`` are taken for logits; where they are
    probabilities give ``Reranker(scorer, scale="probability")``."""

    model_config = MODEL_CONFIG

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
    def _refuse_unknown_fields(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        fields = without_removed(fields)
        names = [*cls.model_fields, *(field.alias for field in cls.model_fields.values() if field.alias)]
        refuse_unknown(fields, names, cls.__name__, HINTS)
        return fields

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        named = [name for name, option in OPTIONS.items() if getattr(self, name) != option.default]
        if named:
            self._options()  # checks them; defaults need no check
        if named and self.reranker is not None:
            raise ValueError(
                f"got reranker and, beside it, {' and '.join(named)}: these say how a model is loaded, and the "
                f"reranker is loaded already. Give load_reranker(...) these options, or leave reranker out."
            )
        return self

    def _check_fields(self) -> None:
        """Check all fields, at every call: ``model_copy(update=...)`` and ``model_construct`` check nothing."""
        own = type(self)
        # A subclass may have cached values beside its fields. Loading options have no effect beside a reranker.
        unused = OPTIONS if self.reranker is not None else ()
        values = {
            name: value
            for name, value in self.__dict__.items()
            if name not in unused and (name in own.model_fields or not hasattr(own, name))
        }
        try:
            own.model_validate(values)
        except ValidationError as exc:
            errors = ((error.get("ctx", {}).get("error"), error) for error in exc.errors())
            said = (str(cause or f"{error['loc'][0]}: {error['msg']}") for cause, error in errors)
            raise InvalidInputError(
                f"{own.__name__}: {'; '.join(said)} This was not noticed before, because "
                f"model_copy(update=...) and model_construct check nothing."
            ) from exc

    # LlamaIndex's name for it; of two serializers of different names pydantic would take either.
    @model_serializer(mode="wrap")
    def custom_model_dump(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """The fields. A reranker from `load_reranker` is written as its loading options.

        In a custom scorer's place stands a text that no adapter accepts, so that reading it fails.
        """
        return self._add_loading_options(handler(self), info)

    def _add_loading_options(self, data: dict[str, Any], info: SerializationInfo) -> dict[str, Any]:
        options = self._loading_options()
        if options is None:
            return {**data, "reranker": f"{self._model_label()}, which cannot be written down"}
        # exclude_defaults and exclude_unset must not drop the options of a loaded reranker.
        whole = self.reranker is not None and info.include is None
        wanted = {*data, *(OPTIONS if whole else ())} - set(info.exclude or ())
        return {**data, **{name: value for name, value in options.without_key().items() if name in wanted}}

    def __getstate__(self) -> dict[Any, Any]:
        # pydantic's method, not LlamaIndex's: that one removes from the object what it cannot pickle, and the unpickled
        # adapter would use the default model.
        state = BaseModel.__getstate__(self)
        given, fields = self._own_reranker(), {**self.__dict__, "api_key": None}
        if isinstance(given, LoadedReranker):
            # Its options: unpickling loads nothing.
            fields |= {"reranker": None, **given.loaded_from.without_key()}
        return {**state, "__dict__": fields}

    def __setstate__(self, state: Any) -> None:
        # Pickles of earlier releases may have options that were removed, and lack those that came later.
        defaults = {name: option.default for name, option in OPTIONS.items()}
        super().__setstate__({**state, "__dict__": defaults | without_removed(state["__dict__"])})

    def _options(self) -> LoadingOptions:
        values = [getattr(self, name) for name in OPTIONS]
        try:
            return _make_options(*values)
        except TypeError:  # model_copy(update=...) may set a value that has no hash
            return LoadingOptions(**dict(zip(OPTIONS, values, strict=True)))

    def _reranker(self) -> Reranker:
        """The reranker to use; this is where the model loads."""
        return self._own_reranker() or shared_reranker(self._options())

    def close(self) -> None:
        """Stop sharing the model, which a later call loads again; a ``reranker`` that was given stays open."""
        if self._own_reranker() is None:
            release(self._options())

    def _own_reranker(self) -> Reranker | None:
        return _as_reranker(self.reranker)  # after model_copy(update=...), which validates nothing, it may be a scorer

    def _loading_options(self) -> LoadingOptions | None:
        """The options that the reranker was or will be loaded with; None for a custom scorer."""
        given = self._own_reranker()
        if given is None:
            return self._options()
        return given.loaded_from if isinstance(given, LoadedReranker) else None

    def _model_label(self) -> str:
        options = self._loading_options()
        return type(self._reranker().scorer).__name__ if options is None else str(options.model)


class CallFields(ModelFields):
    """How long a call may take and what happens when it fails, as in `Reranker.rerank`."""

    deadline: Seconds = None
    """Seconds from the call, not counting the loading of the model; None for no deadline."""
    on_deadline: OnDeadline = "partial"
    """``"partial"``: documents without a score at the deadline follow the others in their input order, with the score
    None. ``"raise"``: `DeadlineExceededError`."""
    on_error: OnError = "raise"
    """``"keep_order"``: where the model fails or the queue is full, all documents are returned in their input order,
    with the score None. A model that cannot be loaded is an error all the same."""

    async def _rank(
        self,
        query: str,
        texts: list[str],
        highlight_text: Callable[[RankedResult], str] | None,
        top_n: int | None,
        score_threshold: float | None,
        *,
        blocking: bool,
    ) -> Ranking:
        """Load the model if it is not loaded, and rank; the deadline begins after the loading."""
        reranker = self._own_reranker() or loaded_already(self._options())
        if reranker is None:
            reranker = self._reranker() if blocking else await on_thread(self._reranker)
        own, how = type(reranker), (self.deadline, self.on_deadline, self.on_error)
        if own.rerank is not Reranker.rerank or own.arerank is not Reranker.arerank:  # a subclass's own way to rank
            until = deadline_from_now(self.deadline, self.on_deadline)
            options: dict[str, Any] = dict(zip(("deadline", "on_deadline", "on_error"), how, strict=True))
            options |= {"top_n": top_n, "score_threshold": score_threshold}
            results = reranker.rerank(query, texts, **options) if blocking else None
            results = await reranker.arerank(query, texts, **options) if results is None else results
            if highlight_text is not None:  # of the adapter's text, which may be another than the one that was ranked
                results = await reranker.highlight_all(query, results, highlight_text, until, blocking=blocking)
            return Ranking(results, results)
        return await reranker.rank_all(query, texts, highlight_text, top_n, score_threshold, *how, blocking=blocking)
