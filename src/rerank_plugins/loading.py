"""`load_reranker`: a model's name becomes a `Reranker`; and one that adapters share."""

from __future__ import annotations

import logging

from cachetools import LRUCache

from rerank_plugins._internal.fork import make_lock
from rerank_plugins._internal.loading_options import DEFAULT_MODEL, HINTS, LoadingOptions, LongDocuments
from rerank_plugins._internal.options import takes_options
from rerank_plugins.calibration import Calibration
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.reranker import Reranker
from rerank_plugins.scorers.base import Scorer

__all__ = [
    "DEFAULT_MODEL",
    "SHARED_RERANKERS",
    "LoadedReranker",
    "LoadingOptions",
    "LongDocuments",
    "load_reranker",
    "shared_reranker",
]

# Not ...runtime, which writes nowhere by default: who loads a wrong file is there to read it.
_log = logging.getLogger("rerank_plugins")

LoadingOptions.__module__ = __name__  # pickles name this module


class LoadedReranker(Reranker):
    """A `Reranker` that knows how it was loaded.

    A pickle of it is its options; the model is found and loaded where the pickle is read, once a process.
    """

    def __init__(self, scorer: Scorer, loaded_from: LoadingOptions, calibration: Calibration | None = None) -> None:
        super().__init__(scorer, calibration=calibration)
        self.loaded_from = loaded_from

    def __reduce__(self) -> tuple[object, ...]:
        return shared_reranker, (self.loaded_from,)

    def close(self) -> None:
        """As `Reranker.close`. Adapters that named the same model load it anew."""
        with _access:
            if _shared.get(self.loaded_from) is self:
                del _shared[self.loaded_from]
        super().close()

    def _model_label(self) -> str:
        return str(self.loaded_from.model)


@takes_options(LoadingOptions, hints=HINTS)
def load_reranker(options: LoadingOptions) -> Reranker:
    """Find a cross-encoder, load it, and return a `Reranker` over it.

    {options}

    Raises:
        InvalidInputError: An option that does not exist, is out of its range or does not fit the others.
        ModelNotFoundError: No place has the model.
        ModelLoadError: The model's files cannot be used. A server is first asked by the first call.
        MissingExtraError: The model or the engine needs an extra that is not installed.
    """
    return _load(options)


def _load(options: LoadingOptions) -> LoadedReranker:
    """Load the model, whether it is loaded already or not; its calibration first, which is quicker."""
    calibration = None if options.calibration is None else Calibration.read(options.calibration)
    if calibration is not None and not calibration.fits(str(options.model)):
        # No error: the same model may be in a folder of another name.
        _log.warning(
            "The calibration %s was fitted with the model %s and is used with %s. Unless these are the same model, "
            "its scores are no probabilities: fit one with `rerank-plugins calibrate`.",
            options.calibration,
            calibration.model,
            options.model,
        )
    return LoadedReranker(_load_scorer(options), options, calibration)


def _load_scorer(options: LoadingOptions) -> Scorer:
    """The scorer of a server's model, or of one that is computed here."""
    from rerank_plugins.scorers.remote import RemoteScorer, is_remote

    if is_remote(options.model):
        return RemoteScorer.from_options(options)
    from rerank_plugins.hub.lookup import find_model
    from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

    if options.api_key is not None:
        raise InvalidInputError(
            f"Got api_key for {options.model}, which is computed here and needs none. Leave it out, or name a server: "
            f"'tei:http://host:8080', 'cohere:MODEL'."
        )
    folder = find_model(
        options.model,
        revision=options.revision,
        cache_folder=options.cache_folder,
        local_files_only=options.local_files_only,
    )
    return CrossEncoderScorer.from_options(folder, options)


SHARED_RERANKERS = 8
"""How many rerankers of different options adapters share, those used last; the weights of a model are there once."""

_shared: LRUCache[LoadingOptions, LoadedReranker] = LRUCache(SHARED_RERANKERS)
# The first is held while a model loads, the second while the dictionary is looked at or changed.
_loading, _access = make_lock(), make_lock()


def loaded_already(options: LoadingOptions) -> LoadedReranker | None:
    """What `shared_reranker` gives, if it would not have to load it. Never waits."""
    with _access:
        return _shared.get(options)


def release(options: LoadingOptions) -> None:
    """Share the reranker of ``options`` no longer: it is freed after its last call."""
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
            found = _load(options)
            with _access:
                before = list(_shared.values())
                _shared[options] = found
            del before  # one that goes is freed here: not under the lock, because its end takes others
        return found
