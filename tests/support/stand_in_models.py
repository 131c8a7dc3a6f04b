"""Stand-in models with random weights, made anew in every run, and the texts that they score.

They have the architecture and the tokenizer of real cross-encoders and nothing of what those have
learned: good for the equality of numbers, silent about relevance. Their weights are drawn wide, so
that logits spread over several units and an absolute tolerance of 1e-3 means something.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

QUERIES = ("how do plants make food", "what is bread baked from", "植物如何制造食物", "cat")
PASSAGES = (
    "photosynthesis turns sunlight water and air into sugar",
    "the cat sat on the mat and slept in the sun",
    "bread is baked from flour water yeast and a little salt",
    "光合作用把阳光水和空气变成糖",
    "面包是用面粉烤成的",
)

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.3,
}


def write_model(folder: Path, architecture: str, *, head: float = 1.0, **config: Any) -> None:
    """Weights and config.json: 2 layers of 32 and one label, where ``config`` does not say otherwise.

    The same weights in every run; those of the last layer are multiplied by ``head``.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(0)
    torch.set_num_threads(1)  # stand-ins are too small for more to pay
    shape = {**SHAPE, "num_labels": 1, **config}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(architecture, **shape))
    linear = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    (last,) = (layer for layer in linear if layer.out_features == model.config.num_labels)
    last.weight.data.mul_(head)
    model.save_pretrained(folder)


def write_bert(folder: Path, **config: Any) -> None:
    """A BERT cross-encoder with its tokenizer; 256 positions."""
    tokenizer = _bert_tokenizer()
    tokenizer.save_pretrained(folder)
    write_model(folder, "bert", head=3, vocab_size=len(tokenizer), max_position_embeddings=256, **config)


def bert_vocabulary() -> dict[str, int]:
    """The words and characters above, as pieces of WordPiece."""
    text = " ".join((*QUERIES, *PASSAGES))
    characters = sorted({*text, *"abcdefghijklmnopqrstuvwxyz0123456789.,?!'-"} - {" "})
    words = sorted({word for word in text.split() if word.isascii()})
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*specials, *characters, *(f"##{character}" for character in characters), *words]
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def _bert_tokenizer() -> PreTrainedTokenizerFast:
    """BERT's own pipeline over a vocabulary of the words and characters above."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = bert_vocabulary()
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="[CLS]",  # noqa: S106 - no password
        sep_token="[SEP]",  # noqa: S106 - no password
        pad_token="[PAD]",  # noqa: S106 - no password
        unk_token="[UNK]",  # noqa: S106 - no password
        mask_token="[MASK]",  # noqa: S106 - no password
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
