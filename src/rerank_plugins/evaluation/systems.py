"""The rerankers of an evaluation: loaded, named, and what their scores depend on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rerank_plugins.backends.fingerprint import fingerprint_model
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.hub.lookup import find_model
from rerank_plugins.loading import LoadedReranker
from rerank_plugins.reranker import Reranker
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer


@dataclass(frozen=True, slots=True)
class Contender:
    """One reranker that is compared."""

    label: str
    reranker: Reranker
    engine: str
    precision: str
    device: str

    def identity(self) -> str | None:
        """Names what its scores depend on beside the pairs; None where nobody can know.

        Reads all weights once a process.
        """
        scorer = self.reranker.scorer
        if not isinstance(self.reranker, LoadedReranker) or not isinstance(scorer, CrossEncoderScorer):
            return None
        options = self.reranker.loaded_from
        folder = find_model(
            options.model,
            revision=options.revision,
            cache_folder=options.cache_folder,
            local_files_only=options.local_files_only,
        )
        # All options, so that one that comes later cannot be forgotten here.
        return json.dumps([fingerprint_model(folder, scorer.engine), scorer.engine.device, asdict(options)])


@contextmanager
def contenders(
    models: Sequence[str | Path | Reranker], load: Callable[[str | Path], Reranker]
) -> Iterator[list[Contender]]:
    """All of them, ready; what was loaded here is closed afterwards.

    All are loaded before the first computes, so that the name of the last, if it is wrong, costs no work.

    Raises:
        InvalidInputError: None is given, or one twice.
    """
    if isinstance(models, (str, Path, Reranker)) or not models:
        raise InvalidInputError(f"models must be a list of at least one model's name or Reranker, got {models!r}.")
    given = [model if isinstance(model, Reranker) else str(model) for model in models]
    for position, model in enumerate(given):
        if model in given[:position]:
            raise InvalidInputError(f"The model {label_of(model)} is given twice. Give each once.")
        if isinstance(model, LoadedReranker) and model.loaded_from.score_cache:
            raise InvalidInputError(
                f"{label_of(model)} has a score_cache, and a score that is known takes no time. Load it without one; "
                f"what an evaluation computes is kept in its work_folder (--out)."
            )
    with ExitStack() as opened:
        found: list[Contender] = []
        for model in given:
            reranker = model if isinstance(model, Reranker) else opened.enter_context(load(model))
            label, taken = label_of(model), [other.label for other in found]
            number = 2
            while label in taken:
                label, number = f"{label_of(model)} ({number})", number + 1
            found.append(Contender(label, reranker, *_computed_by(reranker)))
        yield found


def label_of(model: str | Path | Reranker) -> str:
    """What a model is called in results."""
    if not isinstance(model, Reranker):
        return str(model)
    return str(model.loaded_from.model) if isinstance(model, LoadedReranker) else type(model.scorer).__name__


def _computed_by(reranker: Reranker) -> tuple[str, str, str]:
    """Engine, precision and device."""
    if isinstance(reranker.scorer, CrossEncoderScorer):
        engine = reranker.scorer.engine
        return engine.name, engine.precision, engine.device
    return type(reranker.scorer).__name__, "unknown", "unknown"
