"""The model that is trained: found, loaded in fp32, with a ranking head; and written as a model folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_plugins.errors import MissingExtraError, ModelLoadError
from rerank_plugins.hub import folder as model_folder
from rerank_plugins.hub.config import (
    check_cross_encoder,
    is_cross_encoder,
    list_custom_classes,
    read_config,
    read_max_input_length,
)
from rerank_plugins.hub.lookup import find_model

try:
    import datasets
    import torch
    import transformers
    from sentence_transformers import CrossEncoder

    from rerank_plugins.backends.torch import load_classifier
except ImportError as exc:
    raise MissingExtraError("train", "Training", str(exc.name)) from exc

# A tokenizer's files, copied as they are: writing them anew changes how long a text they say the model reads.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
)


@dataclass(frozen=True, slots=True)
class Base:
    """A model to train."""

    name: str
    """As it was asked for."""
    folder: Path
    new_head: bool
    """Its folder has no ranking head: it got a new one, of random weights."""
    encoder: Any
    """sentence-transformers' `CrossEncoder`."""

    def save(self, folder: Path) -> None:
        """Write the model as it is now into ``folder``: configuration, tokenizer, safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _TOKENIZER_FILES:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)
        self.encoder.model.save_pretrained(folder)


def trainable_folder(name: str | Path) -> Path:
    """The folder of ``name``, if it can be trained.

    Raises:
        ModelNotFoundError: No place has it.
        ModelLoadError: It has no torch weights, several labels, or is no encoder.
    """
    folder = find_model(name)
    classes = list_custom_classes(folder)
    if classes:
        raise ModelLoadError(
            f"{name} takes {', '.join(classes)} from custom code (auto_map in its config.json), which is never run "
            f"here. Give a base whose class transformers has itself, such as cross-encoder/ms-marco-MiniLM-L6-v2."
        )
    if not model_folder.has_torch_weights(folder):
        raise ModelLoadError(
            f"{name} has no torch weights to train ({model_folder.TORCH_FILES[0]}): {folder} holds weights for "
            f"computing only. Give a cross-encoder with safetensors, such as cross-encoder/ms-marco-MiniLM-L6-v2, or "
            f"a plain encoder, such as sentence-transformers/all-MiniLM-L6-v2, which gets a new ranking head."
        )
    architectures = read_config(folder).get("architectures") or [""]
    if str(architectures[0]).endswith("ForCausalLM"):
        raise ModelLoadError(
            f"{name} is a {architectures[0]}, which writes text. Expected an encoder that a ranking head can be put "
            f"on: BERT, XLM-R, ModernBERT and the like."
        )
    if is_cross_encoder(folder):
        check_cross_encoder(folder)
    return folder


def load_base(name: str | Path, folder: Path, *, max_length: int, seed: int) -> Base:
    """The model in ``folder``, in fp32 on the CPU; ``seed`` draws a new head where it has none.

    Raises:
        ModelLoadError: Its files cannot be used.
    """
    longest = read_max_input_length(folder)
    with quiet():
        weights = load_classifier(folder, torch.float32)[1]
    weights.check(folder, new_head=True)
    transformers.set_seed(seed)
    try:
        with quiet():
            encoder = CrossEncoder(
                str(folder),
                device="cpu",
                local_files_only=True,
                num_labels=1,
                max_length=max_length if longest is None else min(max_length, longest),
                model_kwargs={"dtype": torch.float32},
            )
    except Exception as exc:
        # Damaged weights surface as SafetensorError, OSError, RuntimeError, ValueError or KeyError, by the damage.
        raise ModelLoadError(
            f"{folder} cannot be loaded ({type(exc).__name__}: {exc}). Expected an encoder that transformers knows. "
            f"If a file is damaged, delete it and download the model again."
        ) from exc
    return Base(str(name), folder, bool(weights.missing_head), encoder)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars and the reports of transformers, sentence-transformers and datasets."""
    loggers = [logging.getLogger(name) for name in ("sentence_transformers", "transformers", "accelerate")]
    levels = [logger.level for logger in loggers]
    bars = transformers.utils.logging.is_progress_bar_enabled()
    dataset_bars = datasets.are_progress_bars_disabled()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        if not dataset_bars:
            datasets.enable_progress_bars()
