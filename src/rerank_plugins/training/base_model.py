"""The model that is trained, and the device and precision that it is trained in."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from sentence_transformers import CrossEncoder

from rerank_plugins.backends.auto import find_accelerator
from rerank_plugins.backends.cpu import count_usable_cpus, describe_processor, has_bf16_instructions
from rerank_plugins.backends.torch_model import load_classifier
from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.config import list_custom_classes, read_config, read_max_input_length
from rerank_plugins.hub.folder import TORCH_FILES, has_torch_weights
from rerank_plugins.hub.head import check_reranker, is_reranker
from rerank_plugins.hub.lookup import find_model

# A tokenizer's files are copied as they are: writing them anew changes the model_max_length in them.
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
class BaseModel:
    """A model to train."""

    name: str
    """The name that the user gave."""
    folder: Path
    new_head: bool
    """Whether the folder has no ranking head, so that the model got a new one of random weights."""
    encoder: Any
    """sentence-transformers' `CrossEncoder`."""

    def save(self, folder: Path) -> None:
        """Write the model as it is now into ``folder``: configuration, tokenizer, safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _TOKENIZER_FILES:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)
        self.encoder.model.save_pretrained(folder)


@dataclass(frozen=True, slots=True)
class Hardware:
    """The device of a training and its autocast precision; weights are in fp32 everywhere."""

    device: str
    autocast: str | None
    """``"bf16"`` or ``"fp16"``; None for fp32."""

    @property
    def description(self) -> str:
        """The name of the processor, and the precision."""
        name = torch.cuda.get_device_name() if self.device == "cuda" else describe_processor(torch.get_num_threads())
        return f"{name}, {self.autocast or 'fp32'}"

    @property
    def dtype(self) -> torch.dtype | None:
        """The type of ``autocast``."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16, None: None}[self.autocast]


def choose_hardware() -> Hardware:
    """The fastest device and precision of this machine."""
    device = find_accelerator() or "cpu"
    if device == "cuda":
        return Hardware(device, "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16")
    return Hardware(device, "bf16" if device == "cpu" and has_bf16_instructions() else None)


def set_threads(threads: int | None) -> None:
    """Let torch compute on ``threads`` processors; None: no more than a container's quota."""
    torch.set_num_threads(min(torch.get_num_threads(), count_usable_cpus()) if threads is None else threads)


def find_base_folder(name: str | Path) -> Path:
    """The folder of the model ``name``, if it can be trained.

    Raises:
        ModelNotFoundError: The model was not found.
        ModelLoadError: It has no torch weights, several labels, or is no encoder.
    """
    folder = find_model(name)
    classes = list_custom_classes(folder)
    if classes:
        raise ModelLoadError(
            f"{name} takes {', '.join(classes)} from custom code (auto_map in its config.json), which is never run "
            f"here. Give a base whose class transformers has itself, such as cross-encoder/ms-marco-MiniLM-L6-v2."
        )
    if not has_torch_weights(folder):
        raise ModelLoadError(
            f"{name} has no torch weights to train ({TORCH_FILES[0]}): {folder} holds weights for "
            f"computing only. Give a cross-encoder with safetensors, such as cross-encoder/ms-marco-MiniLM-L6-v2, or "
            f"a plain encoder, such as sentence-transformers/all-MiniLM-L6-v2, which gets a new ranking head."
        )
    architectures = read_config(folder).get("architectures") or [""]
    if str(architectures[0]).endswith("ForCausalLM"):
        raise ModelLoadError(
            f"{name} is a {architectures[0]}, a decoder. Expected an encoder that a ranking head can be put on: BERT, "
            f"XLM-R, ModernBERT and the like."
        )
    if is_reranker(folder):
        check_reranker(folder, takes_label=False)
    return folder


def load_base_model(name: str, folder: Path, *, max_length: int, seed: int) -> BaseModel:
    """The model in ``folder``, in fp32 on the CPU; where it has no head, ``seed`` initializes a new one.

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
        # Damaged weights raise SafetensorError, OSError, RuntimeError, ValueError or KeyError, by the damage.
        raise ModelLoadError(
            f"{folder} cannot be loaded ({type(exc).__name__}: {exc}). Expected an encoder that transformers knows. "
            f"If a file is damaged, delete it and download the model again."
        ) from exc
    return BaseModel(name, folder, bool(weights.missing_head), encoder)


@contextmanager
def quiet() -> Iterator[None]:
    """Turn off progress bars and logs of transformers, sentence-transformers and datasets."""
    with ExitStack() as restore:
        if transformers.utils.logging.is_progress_bar_enabled():
            restore.callback(transformers.utils.logging.enable_progress_bar)
            transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if not datasets.are_progress_bars_disabled():
            restore.callback(datasets.enable_progress_bars)
            datasets.disable_progress_bars()
        for name in ("sentence_transformers", "transformers", "accelerate"):
            logger = logging.getLogger(name)
            restore.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield
