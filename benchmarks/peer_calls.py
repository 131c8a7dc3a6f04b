"""Every peer as one call: 50 texts in, their order out, best first. As its users run it: its own defaults.

`peers.py` runs each in a process of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from stand_ins import QUERY

Order = list[int]
Call = Callable[[list[str]], Order]
Peer = Callable[[Path, str], Call]
"""Loads the model of a folder on a device of torch's, which engines for CPUs do not look at."""


def order(scores: Sequence[float]) -> Order:
    """Positions by falling score."""
    return [int(position) for position in np.argsort(-np.asarray(scores), kind="stable")]


def sentence_transformers(dtype: str) -> Peer:
    def build(folder: Path, device: str) -> Call:
        from sentence_transformers import CrossEncoder

        model = CrossEncoder(str(folder), device=device, model_kwargs={"dtype": dtype})
        return lambda texts: order(model.predict([(QUERY, text) for text in texts], show_progress_bar=False))

    return build


def langchain(folder: Path, device: str) -> Call:
    from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
    from langchain_community.cross_encoders import HuggingFaceCrossEncoder

    model = HuggingFaceCrossEncoder(model_name=str(folder), model_kwargs={"device": device})
    return _compressor(CrossEncoderReranker(model=model, top_n=50))


def _compressor(compressor: Any) -> Call:
    from langchain_core.documents import Document

    def call(texts: list[str]) -> Order:
        documents = [Document(text, metadata={"at": at}) for at, text in enumerate(texts)]
        return [document.metadata["at"] for document in compressor.compress_documents(documents, QUERY)]

    return call


def llama_index(folder: Path, device: str) -> Call:
    from llama_index.postprocessor.sbert_rerank import SentenceTransformerRerank

    return _postprocessor(SentenceTransformerRerank(model=str(folder), top_n=50, device=device))


def _postprocessor(postprocessor: Any) -> Call:
    from llama_index.core.schema import NodeWithScore, TextNode

    def call(texts: list[str]) -> Order:
        nodes = [NodeWithScore(node=TextNode(text=text, id_=str(at))) for at, text in enumerate(texts)]
        return [int(found.node.node_id) for found in postprocessor.postprocess_nodes(nodes, query_str=QUERY)]

    return call


def flag_embedding(folder: Path, device: str) -> Call:
    from FlagEmbedding import FlagReranker

    model = FlagReranker(str(folder), use_fp16=device != "cpu", devices=[device])
    return lambda texts: order(model.compute_score([(QUERY, text) for text in texts]))


def rerankers(folder: Path, device: str) -> Call:
    from rerankers import Reranker

    model = Reranker(str(folder), model_type="cross-encoder", device=device, verbose=0)
    return lambda texts: [int(found.doc_id) for found in model.rank(QUERY, texts).results]


def fastembed(folder: Path, _device: str) -> Call:
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    TextCrossEncoder.add_custom_model("peers/stand-in", ModelSource(url="file:///nowhere"), "model.onnx")
    model = TextCrossEncoder("peers/stand-in", specific_model_path=str(folder / "onnx-peers"), threads=_processors())
    return lambda texts: order(list(model.rerank(QUERY, texts)))


def onnx_runtime(file: str) -> Peer:
    """Batches of 16 of similar length, which is what its users write around it."""

    def build(folder: Path, _device: str) -> Call:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _processors()
        path = folder / "onnx-peers" / file
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        inputs = {port.name for port in session.get_inputs()}
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_padding(pad_id=_pad(folder))
        tokenizer.enable_truncation(512)

        def call(texts: list[str]) -> Order:
            scores = np.empty(len(texts))
            by_length = sorted(range(len(texts)), key=lambda at: len(texts[at]))
            for start in range(0, len(texts), 16):
                batch = by_length[start : start + 16]
                rows = tokenizer.encode_batch([(QUERY, texts[at]) for at in batch])
                feed = {
                    "input_ids": np.array([row.ids for row in rows], dtype=np.int64),
                    "attention_mask": np.array([row.attention_mask for row in rows], dtype=np.int64),
                    "token_type_ids": np.array([row.type_ids for row in rows], dtype=np.int64),
                }
                scores[batch] = session.run(None, {name: feed[name] for name in inputs})[0][:, 0]
            return order(scores)

        return call

    return build


def _processors() -> int:
    # ONNX Runtime alone counts the machine's, wherever the process is bound to.
    return len(os.sched_getaffinity(0))


def _pad(folder: Path) -> int:
    from rerank_plugins.hub.config import find_pad_token_id

    return find_pad_token_id(folder)


def ours(engine: Literal["torch", "openvino"], precision: Any) -> Peer:
    """Plain `Reranker`."""

    def build(folder: Path, device: str) -> Call:
        from rerank_plugins import load_reranker

        reranker = load_reranker(folder, engine=engine, precision=precision, device=device)
        return lambda texts: [result.index for result in reranker.rerank(QUERY, texts)]

    return build


def our_compressor(precision: Any) -> Peer:
    def build(folder: Path, device: str) -> Call:
        from rerank_plugins.langchain import RerankCompressor

        return _compressor(RerankCompressor(model=str(folder), precision=precision, device=device, top_n=None))

    return build


def our_postprocessor(precision: Any) -> Peer:
    def build(folder: Path, device: str) -> Call:
        from rerank_plugins.llama_index import RerankPostprocessor

        return _postprocessor(RerankPostprocessor(model=str(folder), precision=precision, device=device, top_n=None))

    return build


def beside_bare(folder: Path, precision: Any, texts: list[str]) -> dict[str, Any]:
    """Seconds of our call and of OpenVINO alone on the very batches it made, alternating; and what they held.

    Both have met the texts before: neither waits for kernels that the other has paid for.
    """
    from rerank_plugins import load_reranker
    from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

    scorer = load_reranker(folder, engine="openvino", precision=precision).scorer
    assert isinstance(scorer, CrossEncoderScorer)
    engine: Any = scorer.engine
    compute, batches = engine.logits, []

    def recorded(*arrays: Any) -> Any:
        batches.append(arrays)
        return compute(*arrays)

    pairs = [(QUERY, text) for text in texts]
    engine.logits = recorded
    scorer.score(pairs)
    engine.logits = compute
    names = ("input_ids", "attention_mask", "token_type_ids")
    feeds = [{name: a for name, a in zip(names, arrays, strict=True) if name in engine.inputs} for arrays in batches]
    shapes = [feed["input_ids"].shape for feed in feeds]
    results: dict[str, Any] = {
        "ours": [],
        "bare": [],
        "padded_tokens": sum(rows * width for rows, width in shapes),
        "squares": sum(rows * width * width for rows, width in shapes),
        "tokens": sum(int(feed["attention_mask"].sum()) for feed in feeds),
    }
    for _ in range(7):
        start = time.perf_counter()
        scorer.score(pairs)
        middle = time.perf_counter()
        for feed in feeds:
            engine._request.infer(feed)  # noqa: SLF001 - nothing but OpenVINO
        results["ours"].append(middle - start)
        results["bare"].append(time.perf_counter() - middle)
    return results


_STOCK: dict[str, Peer] = {
    "sentence-transformers, fp32": sentence_transformers("float32"),
    "sentence-transformers, bf16": sentence_transformers("bfloat16"),
    "LangChain CrossEncoderReranker": langchain,
    "LlamaIndex SentenceTransformerRerank": llama_index,
}
PEERS: dict[str, dict[str, Peer]] = {
    "cpu": {
        **_STOCK,
        "FlagEmbedding FlagReranker, fp32": flag_embedding,
        "rerankers": rerankers,
        "fastembed TextCrossEncoder": fastembed,
        "ONNX Runtime, fp32": onnx_runtime("model.onnx"),
        "ONNX Runtime, int8 dynamic": onnx_runtime("model_int8.onnx"),
        "ours, torch fp32": ours("torch", "fp32"),
        "ours, torch bf16": ours("torch", "bf16"),
        "ours, fp32": ours("openvino", "fp32"),
        "ours, bf16": ours("openvino", "bf16"),
        "ours, int8": ours("openvino", "int8"),
        "ours, int8, in LangChain": our_compressor("int8"),
        "ours, int8, in LlamaIndex": our_postprocessor("int8"),
    },
    "cuda": {
        **_STOCK,
        "sentence-transformers, fp16": sentence_transformers("float16"),
        "FlagEmbedding FlagReranker, fp16": flag_embedding,
        "rerankers": rerankers,
        "ours, fp32": ours("torch", "fp32"),
        "ours, bf16": ours("torch", "bf16"),
        "ours, fp16": ours("torch", "fp16"),
        "ours, fp16, in LangChain": our_compressor("fp16"),
        "ours, fp16, in LlamaIndex": our_postprocessor("fp16"),
    },
}
"""By device. The first is what the others are compared with."""
