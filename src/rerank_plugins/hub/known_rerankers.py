"""Rerankers that ship less than it takes to run them: their templates, answer tokens and scales, as published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from rerank_plugins.hub.config import read_json

TEMPLATE_FILE = "rerank_plugins.json"
"""Says which of the known rerankers a folder of another name holds: ``{"template_of": "Qwen3-Reranker-0.6B"}``."""

_EXAMPLES = (
    "Qwen3-Reranker-0.6B (qwen3), mxbai-rerank-base-v2 (qwen2), bge-reranker-v2-gemma (gemma), zerank-2 (qwen3), or "
    "another of their sizes"
)

_QWEN_SYSTEM = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"


class KnownReranker(NamedTuple):
    """What is published of a reranker, and not in its files."""

    name: re.Pattern[str]
    """The last part of the names of its repositories."""
    model_type: str
    """In its ``config.json``: another model of that name is another model."""
    prefix: str
    """The text before the query; ``{instruction}`` stands for the instruction, if it takes one."""
    middle: str
    """The text between query and document."""
    suffix: str
    """The text after the document."""
    yes: str
    """The token whose logit says that the document is relevant, of a language model."""
    no: str | None = None
    """The token whose logit is subtracted; None for none."""
    instruction: str | None = None
    """The instruction where none is given; None if there is a text without one, `bare_prefix`."""
    bare_prefix: str | None = None
    """The text before the query where no instruction is given."""
    strips: bool = False
    """Whether white space around the texts is taken away."""
    temperature: float = 1.0
    """What the logit is divided by before its sigmoid is the published probability."""

    @property
    def takes_instruction(self) -> bool:
        """Whether the text has a place for an instruction."""
        return "{instruction}" in self.prefix

    def write_prefix(self, instruction: str | None) -> str:
        """The text before the query."""
        instruction = self.instruction if instruction is None else instruction
        if instruction is None:
            return self.prefix if self.bare_prefix is None else self.bare_prefix
        return self.prefix.replace("{instruction}", instruction)


KNOWN_RERANKERS = (
    KnownReranker(
        re.compile(r"qwen3-reranker-(0\.6|4|8)b(-seq-cls)?(-converted)?", re.IGNORECASE),
        "qwen3",
        prefix=(
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
            'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
            "<Instruct>: {instruction}\n<Query>: "
        ),
        middle="\n<Document>: ",
        suffix="<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        yes="yes",
        no="no",
        instruction="Given a web search query, retrieve relevant passages that answer the query",
    ),
    KnownReranker(
        re.compile(r"mxbai-rerank-(base|large)-v2(-seq(-cls)?)?", re.IGNORECASE),
        "qwen2",
        prefix=_QWEN_SYSTEM + "<|im_start|>user\ninstruction: {instruction}\nquery: ",
        bare_prefix=_QWEN_SYSTEM + "<|im_start|>user\nquery: ",
        middle="\ndocument: ",
        suffix=(
            "\nYou are a search relevance expert who evaluates how well documents match search queries. For each "
            "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
            "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:<|im_end|>\n<|im_start|>assistant\n"
        ),
        yes="1",
        no="0",
    ),
    KnownReranker(
        re.compile(r"bge-reranker-v2-gemma", re.IGNORECASE),
        "gemma",
        prefix="<bos>A: ",
        middle="\nB: ",
        suffix=(
            "\nGiven a query A and a passage B, determine whether the passage contains an answer to the query by "
            "providing a prediction of either 'Yes' or 'No'."
        ),
        yes="Yes",
    ),
    KnownReranker(
        re.compile(r"zerank-(1|1-small|2)(-reranker)?(-seq)?", re.IGNORECASE),
        "qwen3",
        prefix="<|im_start|>system\n",
        middle="<|im_end|>\n<|im_start|>user\n",
        suffix="<|im_end|>\n<|im_start|>assistant\n",
        yes="Yes",
        strips=True,
        temperature=5.0,
    ),
)


def explain_template_of(folder: Path) -> str | None:
    """What is wrong with the model that `TEMPLATE_FILE` names, if it is none that is known; None without the file."""
    named = (read_json(folder / TEMPLATE_FILE) or {}).get("template_of")
    if named is None or find_known_reranker(folder) is not None:
        return None
    model_type = (read_json(folder / "config.json") or {}).get("model_type")
    return (
        f"{folder / TEMPLATE_FILE} names {named!r} as template_of. Expected the name of a known reranker of the model "
        f"type that config.json gives, {model_type!r}: {_EXAMPLES}. Correct the name, or write the template that the "
        f"model was trained with to {folder / 'chat_template.jinja'}, as docs/models.md shows."
    )


def find_known_reranker(folder: Path) -> KnownReranker | None:
    """The entry for the model in ``folder``, by its name and model type; None if it is no known reranker."""
    named = (read_json(folder / TEMPLATE_FILE) or {}).get("template_of")
    name = read_model_name(folder) if named is None else str(named).rsplit("/", maxsplit=1)[-1]
    model_type = (read_json(folder / "config.json") or {}).get("model_type")
    matching = (known for known in KNOWN_RERANKERS if known.name.fullmatch(name))
    return next((known for known in matching if known.model_type == model_type), None)


def read_model_name(folder: Path) -> str:
    """The last part of a model's name: the folder's, or the repository's in a Hugging Face cache."""
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.rsplit("--", maxsplit=1)[-1]
    return folder.resolve().name
