"""The scoring graph of rerank-mini-multilingual and its vocabulary, from `training/multilingual`; random weights."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

TRAINING = Path(__file__).parents[2] / "training" / "multilingual"
VOCABULARY = 50
QUERIES = ([5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [15])
PASSAGES = ([20, 21], [22, 23, 24, 25, 26, 27, 28, 29, 30, 31], [32, 33, 34, 35])


@pytest.fixture(scope="module", autouse=True)
def training_on_the_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TRAINING)
        yield


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    from model import MultilingualCrossEncoder

    torch.manual_seed(1)
    made = MultilingualCrossEncoder(VOCABULARY)
    for parameter in (*made.head.evidence.parameters(), *made.head.importance.parameters()):
        torch.nn.init.normal_(parameter)
    return made.eval()


def inputs(pairs: list[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
    """Rows as the bundled tokenizer makes them: four tokens before a query, three before a passage, ``</s>`` after."""
    rows = [([0, 40, 41, 42, *query, 2], [0, 43, 42, *passage, 2]) for query, passage in pairs]
    longest = max(len(query) + len(passage) for query, passage in rows)
    made = {name: torch.zeros(len(rows), longest, dtype=torch.int64) for name in INPUTS}
    made["input_ids"].fill_(1)
    for number, (query, passage) in enumerate(rows):
        length = len(query) + len(passage)
        made["input_ids"][number, :length] = torch.tensor(query + passage)
        made["attention_mask"][number, :length] = 1
        made["token_type_ids"][number, len(query) : length] = 1
    return made


INPUTS = ("input_ids", "attention_mask", "token_type_ids")
PAIRS = list(zip(QUERIES, PASSAGES, strict=True))


@torch.inference_mode()
def test_a_pair_scores_the_same_alone_and_in_a_batch(model: torch.nn.Module) -> None:
    """Padding changes no logit by more than 1e-4."""
    together = model(**inputs(PAIRS))
    alone = torch.cat([model(**inputs([pair])) for pair in PAIRS])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert len({round(float(logit), 3) for logit in together}) == len(PAIRS)


@torch.inference_mode()
def test_a_query_reads_its_passage_in_the_upper_layers_only(model: torch.nn.Module) -> None:
    """With closed segments the query's states are those beside any passage; open ones differ."""
    from model import find_segments

    def query_states(passage: list[int]) -> Tensor:
        given = inputs([(QUERIES[0], passage)])
        found = find_segments(given["attention_mask"], given["token_type_ids"])
        return model.states(given["input_ids"], found)[0, : 5 + len(QUERIES[0])]

    assert not torch.allclose(query_states(PASSAGES[0]), query_states(PASSAGES[1]), atol=1e-3)
    model.train()
    model.across.fill_(-1e4)
    try:
        torch.testing.assert_close(query_states(PASSAGES[0]), query_states(PASSAGES[1]), atol=1e-4, rtol=0)
    finally:
        model.across.zero_()
        model.eval()


def write_four_bit_file(path: Path, values: np.ndarray) -> None:
    """Write a table of whole numbers from -8 to 7, times a half, as the package of the base stores one."""
    blocks = (values + 8).astype(np.uint8).reshape(-1, 32)
    packed = blocks[:, :16] | (blocks[:, 16:] << 4)
    scales = np.full((len(blocks), 1), 0.5, dtype="<f2").view(np.uint8)
    raw = np.concatenate([scales, packed], axis=1).tobytes()
    header = b"E5S1" + struct.pack("<I7ifi", 1, 384, 12, 12, 1536, len(values), 512, 2, 1e-12, 32)
    tokenizer = (
        struct.pack("<5iQ", 1, 0, 2, 1, 3, 2) + struct.pack("<2If", 0, 2, 0.0) + b"ab" + struct.pack("<iI", 0, 0)
    )
    name = b"emb.word"
    entry = struct.pack("<iH", 1, len(name)) + name
    offset = len(header) + len(tokenizer) + len(entry) + struct.calcsize("<BIQQ")
    path.write_bytes(header + tokenizer + entry + struct.pack("<BIQQ", 1, values.size, offset, len(raw)) + raw)


def test_embeddings_are_looked_up_as_the_base_has_them(tmp_path: Path) -> None:
    """The 4-bit table gives exactly the floats that the file's numbers and scales mean."""
    from base import read_packed, read_weights
    from export import PackedEmbedding

    values = np.random.default_rng(3).integers(-8, 8, (6, 384))
    write_four_bit_file(tmp_path / "base.bin", values)
    _, weights = read_weights(tmp_path / "base.bin")
    np.testing.assert_array_equal(weights["emb.word"].reshape(6, 384), values * 0.5)
    embedding = PackedEmbedding(read_packed(tmp_path / "base.bin", "emb.word", 384))
    ids = torch.tensor([[5, 0], [2, 2]])
    np.testing.assert_array_equal(embedding(ids).numpy(), values[ids.numpy()] * 0.5)


@pytest.mark.slow
@torch.inference_mode()
def test_openvino_computes_what_torch_does(model: torch.nn.Module) -> None:
    """The converted graph takes any batch and length, and gives the same logits within 1e-3."""
    import openvino

    from rerank_plugins.backends.conversion import trace_model

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    converted = openvino.compile_model(trace_model(model, inputs(PAIRS[:1] * 2)), "CPU", exact)
    for part in (PAIRS, PAIRS[1:2], PAIRS[::-1]):
        given = inputs(part)
        found = converted({name: value.numpy() for name, value in given.items()})[0]
        np.testing.assert_allclose(found, model(**given).numpy(), atol=1e-3)


def test_a_smaller_vocabulary_reads_what_it_kept_as_before() -> None:
    """A text whose tokens are all kept has the same tokens; a token that is not kept falls into its pieces."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers

    from vocabulary import prune

    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("▁ab", -3.0), ("▁", -2.0), ("a", -4.0), ("b", -4.1), ("▁abc", -2.5), ("c", -4.2)]
    full = Tokenizer(models.Unigram(pieces, unk_id=3))
    full.pre_tokenizer = pre_tokenizers.Metaspace()
    smaller = Tokenizer.from_str(json.dumps(prune(json.loads(full.to_str()), [0, 1, 2, 3, 4, 5, 6, 7, 9])))
    assert full.encode("ab").tokens == smaller.encode("ab").tokens == ["▁ab"]
    assert full.encode("abc").tokens == ["▁abc"]
    assert smaller.encode("abc").tokens == ["▁ab", "c"]
