"""From trained weights to the model folder: OpenVINO IR, int8 calibrated on query-passage pairs, its fidelity."""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path

import openvino
import torch
from safetensors.torch import load_file

from late_interaction import LateInteractionCrossEncoder
from minilm import minilm_folder
from rerank_plugins.backends.conversion import trace_model
from rerank_plugins.export import quantization as int8
from rerank_plugins.export.calibration_data import ComparisonQuery
from rerank_plugins.export.fidelity import compare
from rerank_plugins.hub.folder import OPENVINO_FILE, OPENVINO_INT8_FILE
from rerank_plugins.retrieval import Collection, load_embedder
from rerank_plugins.retrieval.first_stage import retrieve
from rerank_plugins.scorers import Pair
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from rerank_plugins.tokenization.pair_encoder import PairEncoder
from training_sets import SETS, training_collection

CALIBRATION_PAIRS, COMPARED_QUERIES = 300, 45
CANDIDATES = 20
SEED = 11


def write_tokenizer(out: Path) -> None:
    """MiniLM's tokenizer with this model's pair template: a ``[CLS]`` before the passage too."""
    tokenizer = json.loads((minilm_folder() / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["truncation"] = tokenizer["padding"] = None
    special = {
        name: {"id": name, "ids": [number], "tokens": [name]} for name, number in (("[CLS]", 101), ("[SEP]", 102))
    }

    def segment(sequence: str, type_id: int) -> list[dict[str, object]]:
        return [
            {"SpecialToken": {"id": "[CLS]", "type_id": type_id}},
            {"Sequence": {"id": sequence, "type_id": type_id}},
            {"SpecialToken": {"id": "[SEP]", "type_id": type_id}},
        ]

    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": segment("A", 0),
        "pair": segment("A", 0) + segment("B", 1),
        "special_tokens": special,
    }
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_config(out: Path) -> None:
    config = json.loads((minilm_folder() / "config.json").read_text(encoding="utf-8"))
    kept = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "vocab_size")
    described = {
        "architectures": ["LateInteractionCrossEncoder"],
        "model_type": "bert",
        "id2label": {"0": "relevance"},
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "type_vocab_size": 2,
    }
    described |= {name: config[name] for name in kept}
    (out / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def to_openvino(weights: Path) -> openvino.Model:
    model = LateInteractionCrossEncoder()
    model.load_state_dict(load_file(weights))
    example = {
        name: torch.ones((2, 8), dtype=torch.int64) for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    example["token_type_ids"][:, :4] = 0
    converted = trace_model(model.eval(), example)
    converted.outputs[0].get_tensor().set_names({"logits"})
    return converted


def questions(data: Path, embedder: Path) -> tuple[list[Pair], list[ComparisonQuery]]:
    """Training queries with passages of the first stage's top: pairs to calibrate on, other queries to compare on."""
    chance = random.Random(SEED)
    pairs: list[Pair] = []
    compared: list[ComparisonQuery] = []
    for name in SETS:
        collection = training_collection(data, name)
        few = chance.sample(sorted(collection.queries), (CALIBRATION_PAIRS + COMPARED_QUERIES) // len(SETS))
        asked = {query: collection.queries[query] for query in few}
        judged = {query: collection.qrels[query] for query in few}
        part = Collection(name, collection.passages, asked, judged)
        found = retrieve(part, load_embedder(str(embedder)), name="static", top_k=CANDIDATES).candidates
        apart = COMPARED_QUERIES // len(SETS)
        for query in few[:apart]:
            documents = {passage: collection.passages[passage] for passage, _ in found[query]}
            compared.append(ComparisonQuery(query, asked[query], documents, collection.qrels[query]))
        pairs += [(asked[query], collection.passages[chance.choice(found[query])[0]]) for query in few[apart:]]
    return pairs, compared


def write_int8(full: Path, out: Path, pairs: list[Pair]) -> None:
    """As `rerank_plugins.export` quantizes, and the embeddings too: 12 MB of a package's 26 instead of 23 of 37."""
    nncf = int8.import_nncf()
    scratch = out / "scratch"
    scratch.mkdir(exist_ok=True)
    quantized = int8.quantize(full / OPENVINO_FILE, PairEncoder.from_folder(out, 512), pairs, scratch, progress=True)
    compressed = nncf.compress_weights(
        quantized,
        mode=nncf.CompressWeightsMode.INT8_SYM,
        ignored_scope=nncf.IgnoredScope(patterns=[".*head.*"], types=["MatMul"], validate=False),
    )
    openvino.save_model(compressed, out / OPENVINO_INT8_FILE, compress_to_fp16=True)
    shutil.rmtree(scratch)


def logits(folder: Path, precision: str, compared: list[ComparisonQuery]) -> list[list[float]]:
    scorer = CrossEncoderScorer.from_folder(folder, engine="openvino", precision=precision, device="cpu")
    return [scorer.score(question.pairs) for question in compared]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="model.safetensors of train_reranker.py")
    parser.add_argument("--embedder", type=Path, required=True)
    parser.add_argument("--full", type=Path, required=True, help="folder for the fp32 model, to compare with")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    for folder in (args.full, args.out):
        (folder / "openvino").mkdir(parents=True, exist_ok=True)
        write_tokenizer(folder)
        write_config(folder)
    openvino.save_model(to_openvino(args.weights), args.full / OPENVINO_FILE, compress_to_fp16=False)
    pairs, compared = questions(args.data, args.embedder)
    write_int8(args.full, args.out, pairs)
    report = compare(compared, logits(args.full, "fp32", compared), logits(args.out, "int8", compared), "int8")
    (args.full / "fidelity.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    short = {name: report[name] for name in ("kendall_tau", "top_5_overlap", "ndcg_at_10", "below_floor")}
    print(f"{args.out.name}: {size / 1e6:.1f} MB, int8 beside fp32: {short}", flush=True)
    if report["below_floor"]:
        raise SystemExit("int8 is below the floor of fidelity: look at its report before it is shipped.")


if __name__ == "__main__":
    main()
