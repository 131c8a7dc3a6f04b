"""The systems of an evaluation: rerankers with their labels, and the key of their scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_plugins._internal.loading_options import REMOTE_OPTIONS
from rerank_plugins.backends.load import fingerprint_model
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.hub.lookup import find_model
from rerank_plugins.loading import LoadedReranker, load_reranker
from rerank_plugins.reranker import Reranker
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from rerank_plugins.scorers.remote import RemoteScorer, is_remote


@dataclass(frozen=True, slots=True)
class System:
    """One reranker that is evaluated."""

    label: str
    reranker: Reranker
    engine: str
    precision: str
    device: str

    def identity(self) -> str | None:
        """A key of everything that the scores of a pair depend on; None for a scorer that has no such key.

        The first call in a process reads all weights.
        """
        scorer = self.reranker.scorer
        if not isinstance(self.reranker, LoadedReranker):
            return None
        options = self.reranker.loaded_from
        if isinstance(scorer, RemoteScorer):
            # What was paid for is not asked for again. That the server has another model since cannot be seen.
            return json.dumps([scorer.identity, options.without_key()])
        if not isinstance(scorer, CrossEncoderScorer):
            return None
        folder = find_model(
            options.model,
            revision=options.revision,
            cache_folder=options.cache_folder,
            local_files_only=options.local_files_only,
        )
        # All options, so that one that is added later cannot be forgotten here.
        return json.dumps([fingerprint_model(folder, scorer.engine), scorer.engine.device, options.without_key()])


@contextmanager
def load_systems(models: Sequence[str | Path | Reranker], **loading: Any) -> Iterator[list[System]]:
    """Load all models that are given by name, with the options ``loading``, and close these at the end.

    All are loaded before the first one computes, so that a wrong name or option costs no work. Where models of servers
    stand beside others, each gets the options that it has: a server's has no precision, a folder's no key.
    """
    if isinstance(models, (str, Path, Reranker)) or not models:
        raise InvalidInputError(f"models must be a list of at least one model's name or Reranker, got {models!r}.")
    entries = [model if isinstance(model, Reranker) else str(model) for model in models]
    for position, model in enumerate(entries):
        if model in entries[:position]:
            raise InvalidInputError(f"The model {label_of(model)} is given twice. Give each once.")
    # ``threads`` also says in the results how many a Reranker computes on.
    if loading.keys() - {"threads"} and all(isinstance(model, Reranker) for model in entries):
        raise InvalidInputError(
            f"Got {', '.join(loading)} for models that are loaded already. Give these options to load_reranker, or "
            f"name the models."
        )
    with ExitStack() as stack:
        systems = []
        labels = [label_of(model) for model in entries]
        for position, model in enumerate(entries):
            label, number = labels[position], 1 + labels[:position].count(labels[position])
            reranker = (
                model
                if isinstance(model, Reranker)
                else stack.enter_context(load_reranker(model, **_options_for(model, entries, loading)))
            )
            if isinstance(reranker, LoadedReranker) and reranker.loaded_from.score_cache:
                raise InvalidInputError(
                    f"{label} has a score_cache, and a cached score takes no time. Load it without one; an evaluation "
                    f"keeps its scores in work_folder (--work-folder)."
                )
            unique = label if number == 1 else f"{label} ({number})"
            systems.append(System(unique, reranker, *_engine_of(reranker)))
        yield systems


def _options_for(model: str, models: Sequence[str | Reranker], loading: dict[str, Any]) -> dict[str, Any]:
    """Of the options those that the model has, if it stands beside models of the other kind; else all of them."""
    if len({is_remote(other) for other in models if isinstance(other, str)}) == 1:
        return loading  # where no model has an option, it is an error
    remote = is_remote(model)
    return {name: loading[name] for name in loading if (name in REMOTE_OPTIONS if remote else name != "api_key")}


def label_of(model: str | Path | Reranker) -> str:
    """The name of a model in results."""
    if not isinstance(model, Reranker):
        return str(model)
    return str(model.loaded_from.model) if isinstance(model, LoadedReranker) else type(model.scorer).__name__


def _engine_of(reranker: Reranker) -> tuple[str, str, str]:
    """Engine, precision and device."""
    if isinstance(reranker.scorer, CrossEncoderScorer):
        engine = reranker.scorer.engine
        return engine.name, engine.precision, engine.device
    if isinstance(reranker.scorer, RemoteScorer):
        return reranker.scorer.dialect.name, "as the server computes", "unknown"
    return type(reranker.scorer).__name__, "unknown", "unknown"
