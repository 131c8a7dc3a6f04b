"""`RankingHead`: how the model in a folder becomes one score a pair, or why it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rerank_plugins.errors import InvalidInputError, ModelLoadError
from rerank_plugins.hub.config import is_decoder, read_config
from rerank_plugins.hub.folder import has_torch_weights
from rerank_plugins.hub.known_rerankers import find_known_reranker, read_model_name
from rerank_plugins.hub.modules import Module, read_modules
from rerank_plugins.hub.pair_text import read_pair_text

HeadKind = Literal["classifier", "answer", "modules"]

_ADVICE = "Use a cross-encoder trained for ranking, such as BAAI/bge-reranker-v2-m3."

_LISTWISE = (
    "reads all documents of a query at once (listwise), and a score here is of one pair. Use "
    "jina-reranker-v2-base-multilingual, or Qwen/Qwen3-Reranker-0.6B."
)
_LAYERWISE = (
    "scores at several layers by code of its own (layerwise). Use BAAI/bge-reranker-v2-gemma, or "
    "BAAI/bge-reranker-v2-m3."
)
_MULTIMODAL = (
    "reads images too (multimodal), and only texts are read here. Use a reranker of texts: Qwen/Qwen3-Reranker-0.6B, "
    "or BAAI/bge-reranker-v2-m3."
)

# Parts of the class names of models of other kinds, and why they cannot be run.
_OTHER_KINDS = {
    "JinaForRanking": _LISTWISE,
    "LayerWiseMiniCPM": _LAYERWISE,
    "CostWiseGemma": _LAYERWISE,
    "ForConditionalGeneration": _MULTIMODAL,
    "VLFor": _MULTIMODAL,
    "JinaVL": _MULTIMODAL,
}


@dataclass(frozen=True, slots=True)
class RankingHead:
    """How one score a pair is read from a model."""

    kind: HeadKind
    """``"classifier"``: a sequence classifier's logit. ``"answer"``: a language model's logit of one token, less that
    of another. ``"modules"``: modules of sentence-transformers behind an encoder."""
    labels: tuple[str, ...] = ("relevance",)
    """The names of the logits that it gives."""
    yes: int | str | None = None
    """The token of an answer that means relevant: its id, or itself."""
    no: int | str | None = None
    """The token whose logit is subtracted; None for none."""
    modules: tuple[Module, ...] = ()
    """The modules behind the transformer."""


def read_head(folder: Path) -> RankingHead:
    """How the model in ``folder`` scores; `ModelLoadError` if it is no reranker, or none that can be run here."""
    check_description(folder, str(folder))
    config = read_config(folder)
    return _read_module_head(folder) or _read_answer_head(folder, config) or _read_classifier(folder, config)


def check_reranker(folder: Path, label: int | None = None, *, takes_label: bool = True) -> None:
    """Raise unless the model in ``folder`` gives one score a pair, or ``label`` says which of several to take.

    ``takes_label`` says whether the caller has such an option: only then the message speaks of it.

    Raises:
        ModelLoadError: The model is no reranker, none that can be run here, or gives several scores.
        InvalidInputError: There is no such label, or the model has but one.
    """
    head = read_head(folder)
    if label is not None:
        if len(head.labels) == 1:
            raise InvalidInputError(
                f"label={label} is for classifiers with several labels; {folder} has one. Leave it out."
            )
        if not label < len(head.labels):
            raise InvalidInputError(
                f"label must be from 0 to {len(head.labels) - 1}, the labels of {folder}; got {label}."
            )
    elif len(head.labels) > 1:
        names = ", ".join(f"{number} ({name})" for number, name in enumerate(head.labels))
        way = f"If one of them means relevant, say which with label=: {names}. " if takes_label else ""
        raise ModelLoadError(
            f"{folder} gives {len(head.labels)} labels a pair, expected 1: a reranker gives one score. {way}{_ADVICE}"
        )


def check_description(folder: Path, name: str) -> None:
    """Raise `ModelLoadError` if config.json and its like say that the model ``name`` cannot be run here."""
    config = read_config(folder)
    reason = _explain_other_kind(config)
    if reason is not None:
        raise ModelLoadError(f"{name} cannot be run: {reason}")
    read_pair_text(folder)


def _explain_other_kind(config: dict[str, Any]) -> str | None:
    """Why a model with this configuration is of a kind that cannot be run here; None if it is not."""
    names = " ".join(map(str, config.get("architectures") or []))
    reasons = (reason for part, reason in _OTHER_KINDS.items() if part in names)
    reason = next(reasons, _MULTIMODAL if isinstance(config.get("vision_config"), dict) else None)
    return None if reason is None else f"{names or config.get('model_type')} {reason}"


def describe_family(folder: Path) -> str:
    """What kind of reranker the model in ``folder`` is, in a few words: as ``encoder (bert)``."""
    kind = describe_architecture(folder)
    head = read_head(folder)
    notes = {"answer": ", by its answer", "modules": ", with modules", "classifier": ""}[head.kind]
    labels = f", {len(head.labels)} labels" if len(head.labels) > 1 else ""
    return f"{kind}{notes}{labels}"


def describe_architecture(folder: Path) -> str:
    """What ``config.json`` alone says of the model, in a few words: as ``decoder (qwen3)``."""
    config = read_config(folder)
    return f"{'decoder' if is_decoder(config) else 'encoder'} ({config.get('model_type') or 'unnamed'})"


def is_of_other_kind(folder: Path) -> bool:
    """Whether the model is a reranker by its name, of a kind that cannot be run here, such as a listwise one."""
    return "rerank" in read_model_name(folder).lower() and _explain_other_kind(read_config(folder)) is not None


def is_reranker(folder: Path) -> bool:
    """Whether the files name a reranker, or nothing at all that could be told from one."""
    config = read_config(folder)
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        return config.get("model_type") != "model2vec"
    if any(kind in str(name) for name in architectures for kind in ("SequenceClassification", "CrossEncoder")):
        return True
    return bool(_read_module_head(folder) or _read_answer_head(folder, config))


def is_without_answer(folder: Path) -> bool:
    """Whether no file here says with which tokens a language model answers, so that yes and no would be taken."""
    try:
        head = read_head(folder)
    except ModelLoadError:
        return False  # loading it says so
    return head.kind == "answer" and not isinstance(head.yes, int) and find_known_reranker(folder) is None


def _read_module_head(folder: Path) -> RankingHead | None:
    chain = read_modules(folder)
    if chain and (chain[0].kind != "Transformer" or chain[0].path):
        place = f"the folder {chain[0].path!r}" if chain[0].path else "the model's folder"
        raise ModelLoadError(
            f"{folder / 'modules.json'} begins with {chain[0].kind} in {place}, expected sentence-transformers' "
            f"Transformer in the model's folder: code from elsewhere is never run. {_ADVICE}"
        )
    behind = tuple(module for module in chain[1:] if module.kind != "Dropout")
    if not behind:
        return None
    if [module.kind for module in behind] == ["LogitScore"]:
        settings = behind[0].config
        yes, no = settings.get("true_token_id"), settings.get("false_token_id")
        if not isinstance(yes, int) or not isinstance(no, int | None):
            raise ModelLoadError(
                f"{folder / behind[0].path / 'config.json'} gives true_token_id={yes!r} and false_token_id={no!r}, "
                f"expected the ids of tokens. Download the model again."
            )
        return RankingHead("answer", yes=yes, no=no)
    width = behind[-1].config.get("out_features", 1)
    labels = tuple(map(str, range(width))) if isinstance(width, int) and width > 1 else ("relevance",)
    return RankingHead("modules", labels, modules=behind)


def _read_answer_head(folder: Path, config: dict[str, Any]) -> RankingHead | None:
    if not any(str(name).endswith("ForCausalLM") for name in config.get("architectures") or []):
        return None
    known = find_known_reranker(folder)
    if known is not None:
        return RankingHead("answer", yes=known.yes, no=known.no)
    try:
        read_pair_text(folder)
    except ModelLoadError:
        return None  # a language model that ranks nothing
    return RankingHead("answer", yes="yes", no="no")  # as in sentence-transformers


def _read_classifier(folder: Path, config: dict[str, Any]) -> RankingHead:
    architectures = config.get("architectures") or []
    if not is_reranker(folder):
        raise ModelLoadError(
            f"{folder} is a {architectures or config.get('model_type')}, expected a sequence classifier. "
            f"An embedder or a plain encoder has no ranking head. {_ADVICE}"
        )
    try:
        names = [str(name) for _, name in sorted((int(number), name) for number, name in _read_names(config).items())]
        count = len(names) or int(config.get("num_labels", _count_unnamed_labels(folder, config)))
    except (TypeError, ValueError, AttributeError) as exc:
        raise ModelLoadError(
            f"{folder / 'config.json'} has unreadable labels ({exc}). Download the model again."
        ) from exc
    return RankingHead("classifier", tuple(names) or tuple(map(str, range(max(1, count)))))


def _count_unnamed_labels(folder: Path, config: dict[str, Any]) -> int:
    """How many labels a classifier has whose configuration names none: transformers leaves out its default, two."""
    by_transformers = "transformers_version" in config or has_torch_weights(folder)
    architecture = str((config.get("architectures") or [""])[0])
    return 2 if by_transformers and "SequenceClassification" in architecture else 1


def _read_names(config: dict[str, Any]) -> dict[str, Any]:
    return dict(config.get("id2label") or {})


def find_answer_tokens(folder: Path, head: RankingHead) -> tuple[int, int | None]:
    """The ids of the tokens of an answer; `ModelLoadError` if the tokenizer has no such token."""
    if isinstance(head.yes, int):
        return head.yes, head.no if isinstance(head.no, int) else None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as exc:  # tokenizers raises a bare Exception
        raise ModelLoadError(f"{folder / 'tokenizer.json'} cannot be read ({exc}). Download the model again.") from exc
    yes, no = (None if token is None else tokenizer.token_to_id(str(token)) for token in (head.yes, head.no))
    absent = [token for token, number in ((head.yes, yes), (head.no, no)) if token is not None and number is None]
    if yes is None or absent:
        raise ModelLoadError(
            f"The tokenizer of {folder} has no token {' and none '.join(map(repr, absent))}, with which the model "
            f"would answer. If it is a reranker that answers with other tokens, save it with sentence-transformers (a "
            f"CrossEncoder with LogitScore), which writes down which they are; else use another model."
        )
    return yes, no
