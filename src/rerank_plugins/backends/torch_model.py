"""Loads a model of transformers with its ranking head, and checks that all of its weights are the model's own."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from rerank_plugins._internal.loading_options import Precision
from rerank_plugins.backends.torch_heads import LastTokenScore, ModuleChain, score_by_answer
from rerank_plugins.errors import InvalidInputError, ModelLoadError
from rerank_plugins.hub.config import is_decoder, read_config
from rerank_plugins.hub.folder import TORCH_FILES, has_torch_weights
from rerank_plugins.hub.head import find_answer_tokens, read_head

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Weights of numbered layers and embeddings must all be used. Poolers and heads of other tasks may be unused.
_MUST_BE_USED = re.compile(r"(^|\.)(layers?|h|blocks?)\.\d+\.|(^|\.)embeddings\.")
# Buffers that older files hold and newer models compute themselves.
_NOT_LEARNED = re.compile(r"(^|\.)(position_ids|token_type_ids|inv_freq|masked_bias|attn\.bias|attention\.bias)$")


class WeightsReport(NamedTuple):
    """How the weights in a folder fit the model that its config names."""

    architecture: str
    missing: list[str]
    """Weights that the folder lacks, so that transformers initialized them at random, beside those of the head."""
    missing_head: list[str]
    """The missing weights of the ranking head, including its pooler's."""
    unused: list[str]
    """Weights of layers and embeddings in the folder that the model does not use."""

    def check(self, folder: Path, *, new_head: bool = False) -> None:
        """Raise `ModelLoadError` unless they fit; with ``new_head`` the ranking head may be missing."""
        if self.missing or self.unused:
            raise ModelLoadError(
                f"The weights in {folder} are not those of a {self.architecture}, which its config.json names: "
                f"{_format_names(self.missing)} missing, {_format_names(self.unused)} not used by it. Random or wrong "
                f"numbers would rank. If the download is incomplete, download the model again; if the model needs "
                f"code of its own, use its ONNX or OpenVINO file: code from model folders is never run."
            )
        if self.missing_head and not new_head:
            raise ModelLoadError(
                f"The weights in {folder} have no ranking head ({', '.join(self.missing_head)} missing): random "
                f"numbers would rank. Expected a trained cross-encoder; this looks like a plain encoder or an embedder."
            )


def load_torch_model(folder: Path, precision: Precision, device: str) -> Any:
    """The model in ``folder`` in evaluation mode, from local files only; its output has one logit a label."""
    if not has_torch_weights(folder):
        raise ModelLoadError(
            f"The torch engine needs {TORCH_FILES[0]}, which {folder} has not. Use engine='openvino' or 'auto'."
        )
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as exc:  # AssertionError: built without that device
        raise InvalidInputError(
            f"torch cannot use device={device!r} here ({exc}). Use device='cpu', or None for the best there is."
        ) from exc
    return _load_with_head(folder, DTYPES[precision]).to(device)


def takes_token_types(model: Any) -> bool:
    """Whether the model has an input for token types, and more than one type."""
    accepted = "token_type_ids" in inspect.signature(model.forward).parameters
    return accepted and getattr(model.config, "type_vocab_size", 0) > 1


def load_classifier(folder: Path, dtype: Any) -> tuple[Any, WeightsReport]:
    """The sequence classifier in ``folder`` on the CPU in evaluation mode, and how its weights fit."""
    architectures = read_config(folder).get("architectures") or [""]
    # As in sentence-transformers: transformers itself would give two labels to a model that names none.
    labels = {} if "SequenceClassification" in str(architectures[0]) else {"num_labels": 1}
    return _load(AutoModelForSequenceClassification, folder, dtype, **labels)


def _load_with_head(folder: Path, dtype: Any) -> Any:
    head = read_head(folder)
    if head.kind == "modules":
        body, weights = _load(AutoModel, folder, dtype)
        # The modules read the states of all tokens, and no pooler.
        weights._replace(missing_head=[]).check(folder)
        return ModuleChain(body, head.modules, folder).to(dtype).eval()
    if head.kind == "answer":
        language_model, weights = _load(AutoModelForCausalLM, folder, dtype)
        weights.check(folder)
        return score_by_answer(language_model, *find_answer_tokens(folder, head), folder).eval()
    model, weights = load_classifier(folder, dtype)
    weights.check(folder)
    if is_decoder(read_config(folder)) and model.config.get_text_config().pad_token_id is None:
        # transformers finds the last token by the padding id; without one it scores no batches.
        return LastTokenScore(model.base_model, model.score.weight, model.config).eval()
    return model


def _load(kind: Any, folder: Path, dtype: Any, **options: Any) -> tuple[Any, WeightsReport]:
    try:
        model, info = kind.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    except Exception as exc:
        # Damaged weights surface as SafetensorError, OSError, RuntimeError, ValueError or KeyError.
        raise ModelLoadError(
            f"{folder} cannot be loaded ({type(exc).__name__}: {exc}). "
            f"If a file is damaged, delete it and download the model again."
        ) from exc
    model.config.use_cache = False  # decoders would keep keys and values for a next token
    unused = [name for name in info["unexpected_keys"] if _MUST_BE_USED.search(name) and not _NOT_LEARNED.search(name)]
    missing, body = sorted(info["missing_keys"]), "" if kind is AutoModel else f"{model.base_model_prefix}."
    head = [name for name in missing if not name.startswith(body) or f".{name}".startswith(f".{body}pooler.")]
    report = WeightsReport(type(model).__name__, [name for name in missing if name not in head], head, sorted(unused))
    return model.eval(), report


def _format_names(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} weights ({', '.join(names[:3])}{more})" if names else "none"
