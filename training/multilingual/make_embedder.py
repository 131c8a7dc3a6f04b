"""Static token vectors for Chinese and English from the same base: embed-static-zh-en, a model2vec folder.

A token's first vector is the base's of the token alone, reduced to 256 dimensions and weighted by how rare the token
is. Then the vectors are trained on the queries and answers of the training lists, Chinese, English and across: a query
is to be nearer to its own answer than to the other answers of its batch.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from lists import read_pair_sets
from model import MultilingualCrossEncoder, find_segments, pool_states
from pools import read_paragraph_queries
from prepare import load_base, load_tokenizer
from texts import BEGIN, END, PASSAGE_TOKENS, Texts
from vocabulary import choose_tokens, prune

LANGUAGES = ("zh", "en")
WORDS = 60_000  # the commonest of each language
DIMENSIONS = 256
RARITY = 1e-4  # a token of probability p is weighted by RARITY / (RARITY + p)
BATCH, STEPS, RATE, SCALE = 512, 1200, 3e-3, 20.0
SEED = 7
LEFT_OUT = ("howtocook", "intents", "jcommonsenseqa", "nli-ko-ja")  # sets that teach a first stage little


@torch.inference_mode()
def token_vectors(model: MultilingualCrossEncoder, kept: list[int]) -> np.ndarray:
    """float32 [tokens, 384]: the base's mean state of ``<s> token </s>``."""
    parts = []
    for rows in torch.tensor(kept).split(1024):
        ids = torch.stack([torch.full_like(rows, BEGIN), rows, torch.full_like(rows, END)], dim=1)
        mask = torch.ones_like(ids)
        found = find_segments(mask, torch.zeros_like(mask))
        parts.append(pool_states(model.states(ids, found, torch.bfloat16), found.query))
    return torch.cat(parts).numpy()


def initial_vectors(vectors: np.ndarray, log_probabilities: np.ndarray) -> np.ndarray:
    """Reduced by a principal component analysis, and weighted by rarity."""
    centred = vectors - vectors.mean(0)
    _, directions = np.linalg.eigh(np.cov(centred.T))
    reduced = centred @ directions[:, ::-1][:, :DIMENSIONS]
    weights = RARITY / (RARITY + np.exp(log_probabilities))
    return (reduced * weights[:, None]).astype(np.float32)


def training_pairs(data: Path, tokenizer: Tokenizer) -> tuple[Texts, list[tuple[int, int]]]:
    """Numbers of queries and of texts that answer them."""
    texts = Texts()
    lists = read_pair_sets(data, texts)
    known = {"zh", "en", "zh-Hans", "zh-Hant", "zh>en", "en>zh"}
    pairs = [
        (entry.query, entry.positives[0])
        for name, part in lists.training.items()
        if name not in LEFT_OUT
        for entry in part
        if entry.language in known
    ]
    queries, _ = read_paragraph_queries(data, texts)
    wanted = ("xquad-en", "xquad-zh", "zh>en", "en>zh")
    pairs += [
        (query.text, query.relevant[0])
        for query in queries
        if query.relevant and (not query.set.startswith("xquad") or query.language in wanted)
    ]
    texts.tokenize(tokenizer)
    return texts, pairs


class StaticVectors(nn.Module):
    """The mean of the vectors of a text's tokens, of length 1."""

    def __init__(self, vectors: np.ndarray) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag.from_pretrained(torch.from_numpy(vectors), freeze=False, mode="mean")

    def forward(self, rows: list[np.ndarray]) -> Tensor:
        starts = torch.from_numpy(np.cumsum([0, *map(len, rows[:-1])]))
        return functional.normalize(self.table(torch.from_numpy(np.concatenate(rows)).long(), starts), dim=-1)


def train(model: StaticVectors, texts: Texts, pairs: list[tuple[int, int]]) -> None:
    chance = random.Random(SEED)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    pairs = [pair for pair in pairs if all(len(texts.ids(number, 1)) for number in pair)]
    for step in range(STEPS):
        batch = list({answer: query for query, answer in chance.sample(pairs, BATCH)}.items())
        queries = model([texts.ids(query, PASSAGE_TOKENS) for _, query in batch])
        answers = model([texts.ids(answer, PASSAGE_TOKENS) for answer, _ in batch])
        cosines = SCALE * queries @ answers.T
        place = torch.arange(len(batch))
        loss = (functional.cross_entropy(cosines, place) + functional.cross_entropy(cosines.T, place)) / 2
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0 or step == STEPS - 1:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


def write(out: Path, vectors: np.ndarray, tokenizer: dict) -> None:
    out.mkdir(parents=True, exist_ok=True)
    steps = np.abs(vectors).max() / 127.0
    save_file({"embeddings": np.rint(vectors / steps).astype(np.int8)}, out / "model.safetensors")
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    config = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "tokenizer_name": "intfloat/multilingual-e5-small",
        "apply_pca": DIMENSIONS,
        "hidden_dim": DIMENSIONS,
        "seq_length": 1_000_000,
        "normalize": True,
        "pooling": "mean",
        "max_length": 512,
        "embedding_dtype": "int8",
    }
    (out / "config.json").write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
    modules = [
        {"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    (out / "modules.json").write_text(json.dumps(modules, indent=4) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of XLM-R's tokenizer.json")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(SEED)
    source = json.loads((args.tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    pieces = [piece for piece, _ in source["model"]["vocab"]]
    scripts = {"whole": frozenset({"CJK", "IDEOGRAPHIC"}), "letters": frozenset({"LATIN"})}
    kept = choose_tokens(load_tokenizer(args.tokenizer), pieces, languages=LANGUAGES, words=WORDS, **scripts)
    pruned = prune(source, kept)
    pruned["truncation"] = pruned["padding"] = pruned["post_processor"] = None
    tokenizer = Tokenizer.from_str(json.dumps(pruned))
    scores = np.array([score for _, score in pruned["model"]["vocab"]])
    vectors = initial_vectors(token_vectors(load_base().eval(), kept), scores)
    model = StaticVectors(vectors / np.linalg.norm(vectors, axis=1).mean())
    texts, pairs = training_pairs(args.data, tokenizer)
    train(model, texts, pairs)
    write(args.out, model.table.weight.detach().numpy(), pruned)
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"{args.out.name}: {size / 1e6:.1f} MB, {len(kept)} tokens, {len(pairs)} pairs", flush=True)


if __name__ == "__main__":
    main()
