"""From trained weights to the model folder: pruned vocabulary, OpenVINO IR, int8, its fidelity."""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path

import numpy as np
import openvino
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from base import BLOCK, PackedTable, read_packed, weights_file
from lists import read_gzip
from model import FFN, HEADS, HIDDEN, LAYERS, MultilingualCrossEncoder
from prepare import load_tokenizer
from rerank_plugins.backends.conversion import trace_model
from rerank_plugins.export import quantization as int8
from rerank_plugins.hub.folder import OPENVINO_FILE, OPENVINO_INT8_FILE
from rerank_plugins.scorers import Pair
from rerank_plugins.tokenization.pair_encoder import PairEncoder
from texts import PREFIXES
from vocabulary import choose_tokens, pair_template, prune

SEED = 11
CALIBRATION_PAIRS = 300
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# The sets that pairs to calibrate on are drawn from: sentences, paragraphs and FAQ, mostly Chinese and English.
CALIBRATION_SETS = ("cmrc2018-sent", "nq-qed-sent", "drcd-sent", "mlqa-par", "faq-docs", "tydiqa-par", "xquad-sent")


class PackedEmbedding(nn.Module):
    """An embedding of 4-bit weights that unpacks the rows it looks up: exactly the base's own."""

    def __init__(self, table: PackedTable) -> None:
        super().__init__()
        self.register_buffer("packed", torch.from_numpy(table.packed))
        self.register_buffer("scales", torch.from_numpy(table.scales))

    def forward(self, ids: Tensor) -> Tensor:
        """[batch, length] to float32 [batch, length, hidden]."""
        batch, length = ids.shape
        packed = functional.embedding(ids, self.packed).view(batch, length, HIDDEN // BLOCK, BLOCK // 2).float()
        scales = functional.embedding(ids, self.scales).float().unsqueeze(-1)
        high = torch.floor(packed / 16.0)
        values = torch.cat([packed - 16.0 * high, high], dim=-1) - 8.0
        return (values * scales).view(batch, length, HIDDEN)


def write_tokenizer(out: Path, source: Path) -> list[int]:
    """XLM-R's tokenizer with this model's vocabulary and pair template; returns the ids that were kept."""
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    pieces = [piece for piece, _ in tokenizer["model"]["vocab"]]
    kept = choose_tokens(load_tokenizer(source), pieces, PREFIXES)
    pruned = prune(tokenizer, kept)
    pruned["truncation"] = pruned["padding"] = pruned["post_processor"] = None
    plain = Tokenizer.from_str(json.dumps(pruned))
    prefixes = {prefix: plain.encode(prefix, add_special_tokens=False).ids for prefix in PREFIXES}
    pruned["post_processor"] = pair_template(prefixes)
    (out / "tokenizer.json").write_text(json.dumps(pruned, ensure_ascii=False), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "model_input_names": list(INPUTS),
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return kept


def write_config(out: Path, vocabulary: int) -> None:
    config = {
        "architectures": ["MultilingualCrossEncoder"],
        "model_type": "bert",
        "id2label": {"0": "relevance"},
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "intermediate_size": FFN,
        "max_position_embeddings": 512,
        "pad_token_id": 1,
        "type_vocab_size": 2,
        "vocab_size": vocabulary,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def to_openvino(weights: Path, kept: list[int]) -> openvino.Model:
    model = MultilingualCrossEncoder(1)
    state = load_file(weights)
    del state["words.weight"], model.words
    model.load_state_dict(state)
    table = read_packed(weights_file(), "emb.word", HIDDEN)
    chosen = np.array(kept)
    model.words = PackedEmbedding(PackedTable(table.packed[chosen], table.scales[chosen]))
    example = {name: torch.ones((2, 16), dtype=torch.int64) for name in INPUTS}
    example["token_type_ids"][:, :8] = 0
    converted = trace_model(model.eval(), example)
    converted.outputs[0].get_tensor().set_names({"logits"})
    return converted


def calibration_pairs(data: Path) -> list[Pair]:
    chance = random.Random(SEED)
    pairs: list[Pair] = []
    for name in CALIBRATION_SETS:
        records = list(read_gzip(data / "train" / name / "pairs.jsonl.gz"))
        few = chance.sample(records, CALIBRATION_PAIRS // len(CALIBRATION_SETS))
        pairs += [(r["query"], chance.choice([*r["positives"], *r["negatives"]])) for r in few]
    return pairs


def write_int8(full: Path, out: Path, pairs: list[Pair]) -> None:
    """As `rerank_plugins.export` quantizes; the embeddings stay in 4 bits."""
    scratch = out / "scratch"
    scratch.mkdir(exist_ok=True)
    encoder = PairEncoder.from_folder(out, 512)
    quantized = int8.quantize(full / OPENVINO_FILE, encoder, pairs, scratch, progress=True)
    openvino.save_model(quantized, out / OPENVINO_INT8_FILE, compress_to_fp16=True)
    shutil.rmtree(scratch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of XLM-R's tokenizer.json")
    parser.add_argument("--weights", type=Path, required=True, help="model.safetensors of train.py")
    parser.add_argument("--full", type=Path, required=True, help="folder for the fp32 model, to compare with")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    for folder in (args.full, args.out):
        (folder / "openvino").mkdir(parents=True, exist_ok=True)
        kept = write_tokenizer(folder, args.tokenizer)
        write_config(folder, len(kept))
    openvino.save_model(to_openvino(args.weights, kept), args.full / OPENVINO_FILE, compress_to_fp16=False)
    write_int8(args.full, args.out, calibration_pairs(args.data))
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"{args.out.name}: {size / 1e6:.1f} MB, {len(kept)} tokens", flush=True)


if __name__ == "__main__":
    main()
