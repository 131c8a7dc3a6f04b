"""Decoder rerankers: their templates, instructions and answers, through every way in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode
from tokenizers import Tokenizer

from families_reference import reference
from family_models import INSTRUCTION, write_decoder, write_language_model
from folder_hub import link_into_cache, serving
from rerank_plugins import InvalidInputError, Pair, load_reranker, sigmoid
from rerank_plugins.langchain import RerankCompressor
from rerank_plugins.llama_index import RerankPostprocessor
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

Write = Callable[[str], Path]
LoadScorer = Callable[[Path, str], CrossEncoderScorer]

QUERY = "what is bread baked from"
DOCUMENTS = ["bread is baked from flour", "the cat sat on the mat.", "光合作用把阳光水和空气变成糖", "salt\n"]
OPTIONS = {"engine": "openvino", "precision": "fp32", "device": "cpu"}
# A language model's own, which knows no queries and documents.
CHAT = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
OTHER = "Given a question, find the passage that answers it"


@pytest.fixture
def qwen3(family: Write) -> Path:
    """A language model of Qwen3's shape with the template of Qwen3-Reranker, as sentence-transformers saves it."""
    return family("qwen3 answer")


@pytest.fixture
def fresh_qwen3(qwen3: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(qwen3, tmp_path / "model", ignore=shutil.ignore_patterns("openvino"))


@pytest.mark.parametrize("instruction", [None, OTHER])
def test_every_way_in_gives_the_scores_of_sentence_transformers(
    qwen3: Path, here: Callable[..., Any], tmp_path: Path, instruction: str | None
) -> None:
    """Plain Python, LangChain, LlamaIndex and the command line, with the model's own instruction and with another."""
    pairs = [(QUERY, document) for document in DOCUMENTS]
    logits = reference(qwen3).predict(pairs, prompt=instruction, show_progress_bar=False)
    expected = {text: pytest.approx(sigmoid(float(x)), abs=1e-4) for text, x in zip(DOCUMENTS, logits, strict=True)}
    options: dict[str, Any] = {"model": str(qwen3), "instruction": instruction, **OPTIONS}

    plain = {result.document: result.score for result in load_reranker(**options).rerank(QUERY, DOCUMENTS)}
    found = RerankCompressor(top_n=4, **options).compress_documents([Document(text) for text in DOCUMENTS], QUERY)
    langchain = {document.page_content: document.metadata["relevance_score"] for document in found}
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]
    ordered = RerankPostprocessor(top_n=4, **options).postprocess_nodes(nodes, query_str=QUERY)
    llama_index = {node.node.get_content(): node.score for node in ordered}
    (tmp_path / "documents.json").write_text(json.dumps(DOCUMENTS), encoding="utf-8")
    words = [f"--{name}={value}" for name, value in options.items() if value is not None]
    done = here("rank", QUERY, "--documents", tmp_path / "documents.json", "--json", *words)
    command = {row["document"]: row["score"] for row in map(json.loads, done.stdout.splitlines())}
    for scores in (plain, langchain, llama_index, command):
        assert scores == expected


def test_an_instruction_changes_the_scores(qwen3: Path) -> None:
    """It stands in every row; the model's own is used where none is given."""
    own, same, other = (
        load_reranker(qwen3, instruction=instruction, **OPTIONS).score([(QUERY, DOCUMENTS[0])])
        for instruction in (None, INSTRUCTION, OTHER)
    )
    assert own == pytest.approx(same, abs=1e-4)
    assert own != pytest.approx(other, abs=1e-2)


def test_an_instruction_with_characters_that_are_none(qwen3: Path) -> None:
    """A lone surrogate is read as it is in queries: as the character that stands for unreadable ones."""
    scores = [
        load_reranker(qwen3, instruction=f"Find {mark} bread", **OPTIONS).score([(QUERY, DOCUMENTS[0])])
        for mark in ("\ud800", "\ufffd")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_an_instruction_that_leaves_no_room(qwen3: Path) -> None:
    """The message says what takes the room."""
    with pytest.raises(InvalidInputError, match=r"tokens of the model's template, its instruction included: got 256"):
        load_reranker(qwen3, instruction="Find bread. " * 300, max_length=256, **OPTIONS)


@pytest.mark.parametrize("name", ["bert", "gemma"])
def test_an_instruction_for_a_model_that_takes_none_is_an_error(family: Write, name: str, tmp_path: Path) -> None:
    """An encoder, and a decoder whose template has no place for one."""
    folder = family("bert") if name == "bert" else tmp_path / "model"
    if name == "gemma":
        template = "{% for m in messages %}{{ '\nB: ' if m.role == 'document' else 'A: ' }}{{ m.content }}{% endfor %}"
        write_decoder(folder, "gemma", template=template.replace("in messages", "in messages if m.role != 'system'"))
    with pytest.raises(InvalidInputError, match=r"instruction= is for models whose template .* Leave it out"):
        load_reranker(folder, instruction=OTHER, **OPTIONS)


def test_cached_scores_are_of_one_instruction(qwen3: Path, tmp_path: Path) -> None:
    """With another one the same pair is computed anew."""
    for instruction, hits in ((None, 0), (OTHER, 0), (OTHER, 1), (None, 1)):
        folder = tmp_path / "scores"
        options = {**OPTIONS, "instruction": instruction, "score_cache": 10, "score_cache_folder": folder}
        with load_reranker(qwen3, **options) as reranker:
            reranker.score([(QUERY, DOCUMENTS[0])])
            assert reranker.stats().cache_hits == hits


@pytest.mark.parametrize("length", [112, 130])
def test_a_passage_is_cut_and_the_suffix_is_not(
    fresh_qwen3: Path, load_scorer: LoadScorer, length: int, mixed_pairs: list[Pair]
) -> None:
    """A long passage has the tokens that sentence-transformers gives it in as much room, and says that it was cut."""
    model = reference(fresh_qwen3, max_length=length)
    encoder = CrossEncoderScorer.from_folder(fresh_qwen3, max_length=length, **OPTIONS).encoder
    rows = encoder.encode(mixed_pairs)
    assert 5 < sum(row.truncated for row in rows) < 55
    whole = load_scorer(fresh_qwen3, "openvino").encoder.encode(mixed_pairs)
    for pair, row, uncut in zip(mixed_pairs, rows, whole, strict=True):
        assert row.input_ids == model.preprocess([pair])["input_ids"][0].tolist(), pair
        assert row.truncated == (len(uncut.input_ids) > length)


def test_a_long_query_leaves_room_for_the_passage(fresh_qwen3: Path) -> None:
    """The query is cut at its share, and the words between query and passage stay."""
    encoder = CrossEncoderScorer.from_folder(fresh_qwen3, max_length=160, max_query_share=0.2, **OPTIONS).encoder
    short, long = encoder.encode([("cat", "bread"), ("the cat sat on the mat " * 40, "bread")])
    assert long.truncated
    assert not short.truncated
    assert len(long.input_ids) - len(short.input_ids) == 32 - 1
    tokenizer = Tokenizer.from_file(str(fresh_qwen3 / "tokenizer.json"))
    tail = tokenizer.encode(">: bread<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n").ids
    assert long.input_ids[-len(tail) :] == short.input_ids[-len(tail) :] == tail


def test_windows_read_the_whole_of_a_long_document(fresh_qwen3: Path) -> None:
    """Each window has the template around it, and together they hold all tokens of the passage in order."""
    document = " ".join(f"{word} {number}" for number, word in enumerate(["bread", "cat", "salt", "water"] * 40))
    scorer = CrossEncoderScorer.from_folder(fresh_qwen3, max_length=160, long_documents="windows", **OPTIONS)
    (windows,) = scorer.encoder.windows([(QUERY, document)])
    (whole,) = CrossEncoderScorer.from_folder(fresh_qwen3, max_length=1024, **OPTIONS).encoder.encode(
        [(QUERY, document)]
    )
    assert len(windows) > 3
    assert not any(row.truncated for row in windows)
    before, after = windows[0].input_ids, windows[-1].input_ids
    assert whole.input_ids[: len(before) - 40] == before[:-40]
    assert whole.input_ids[-40:] == after[-40:]
    logits = scorer.engine.logits(
        *(np.array([getattr(row, name) for row in windows if len(row.input_ids) == 160]) for name in ("input_ids",)),
        np.ones((sum(len(row.input_ids) == 160 for row in windows), 160), np.int64),
        None,
    )
    assert scorer.score([(QUERY, document)])[0] >= logits.max() - 1e-3


def test_no_keys_and_values_are_kept(qwen3: Path, load_scorer: LoadScorer) -> None:
    """A reranker reads one token of answer: a cache for more would be computed in vain."""
    engine: Any = load_scorer(qwen3, "torch").engine
    ids = np.full((1, 8), 5, np.int64)
    assert engine.model.body(**engine_feed(ids)).past_key_values is None


def engine_feed(ids: Any) -> dict[str, Any]:
    """One row for torch."""
    import torch

    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.ones_like(torch.from_numpy(ids))}


def test_the_answer_is_one_row(qwen3: Path, load_scorer: LoadScorer) -> None:
    """The vocabulary's other rows are not computed: the head has one row, the difference of two."""
    engine: Any = load_scorer(qwen3, "torch").engine
    assert engine.model.rows.shape == (1, 32)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bf16_is_near_fp32(qwen3: Path, load_scorer: LoadScorer, mixed_pairs: list[Pair], engine: Any) -> None:
    """Logits stay within a twentieth of their spread."""
    from rerank_plugins.backends.cpu import has_bf16

    if engine == "openvino" and not has_bf16():
        pytest.skip("needs a processor with bf16")
    exact = np.array(load_scorer(qwen3, "torch").score(mixed_pairs))
    scorer = CrossEncoderScorer.from_folder(qwen3, engine=engine, precision="bf16", device="cpu")
    np.testing.assert_allclose(scorer.score(mixed_pairs), exact, atol=0.05 * np.ptp(exact), rtol=0)


@pytest.mark.parametrize("as_answer", [True, False], ids=["language model", "classifier"])
def test_a_known_reranker_needs_no_template_of_its_own(
    tmp_path: Path, qwen3: Path, mixed_pairs: list[Pair], *, as_answer: bool
) -> None:
    """Qwen3-Reranker and its conversions, by their names: rows are those of the template that others ship."""
    name = "Qwen3-Reranker-0.6B" if as_answer else "Qwen3-Reranker-4B-seq-cls"
    folder = tmp_path / name
    if as_answer:
        write_language_model(folder, "qwen3", template=CHAT, modules=False)
    else:
        write_decoder(folder, "qwen3", template=None)
    known = CrossEncoderScorer.from_folder(folder, **OPTIONS)
    shipped = CrossEncoderScorer.from_folder(qwen3, **OPTIONS)
    assert known.encoder.encode(mixed_pairs) == shipped.encoder.encode(mixed_pairs)


def test_a_copy_under_another_name_says_what_it_is(tmp_path: Path) -> None:
    """In a file beside its weights."""
    write_decoder(tmp_path / "mine", "qwen3", template=None)
    (tmp_path / "mine" / "rerank_plugins.json").write_text('{"template_of": "Qwen3-Reranker-0.6B"}', encoding="utf-8")
    assert len(load_reranker(tmp_path / "mine", **OPTIONS).score([(QUERY, DOCUMENTS[0])])) == 1


def test_another_known_reranker_is_converted_anew(tmp_path: Path) -> None:
    """A conversion holds the row of its answer, whose tokens belong to what the file says."""
    pair = [(QUERY, DOCUMENTS[0])]
    write_language_model(tmp_path / "mine", "qwen3", template=None, modules=False)
    said = tmp_path / "mine" / "rerank_plugins.json"
    for name in ("Qwen3-Reranker-0.6B", "zerank-2"):
        said.write_text(json.dumps({"template_of": name}), encoding="utf-8")
        ours = load_reranker(tmp_path / "mine", **OPTIONS).score(pair)
    torch_options = {**OPTIONS, "engine": "torch"}
    assert ours == pytest.approx(load_reranker(tmp_path / "mine", **torch_options).score(pair), abs=1e-3)


def test_a_published_scale_is_kept(tmp_path: Path) -> None:
    """Zerank's probability is the sigmoid of a fifth of its logit; `score` gives the logit itself."""
    write_language_model(tmp_path / "zerank-2", "qwen3", template=None, modules=False)
    reranker = load_reranker(tmp_path / "zerank-2", **OPTIONS)
    (logit,) = reranker.score([(QUERY, DOCUMENTS[0])])
    (result,) = reranker.rerank(QUERY, [DOCUMENTS[0]])
    assert abs(logit) > 0.5
    assert result.score == pytest.approx(sigmoid(logit / 5), abs=1e-6)


def test_highlights_and_deadlines_work_as_for_encoders(qwen3: Path) -> None:
    """A sentence is scored beside the query in the same template."""
    pytest.importorskip("sentencex")
    text = "Cats sleep. Bread is baked from flour. Rain falls."
    with load_reranker(qwen3, **OPTIONS) as reranker:
        (result,) = reranker.rerank(QUERY, [text], highlight=True, deadline=60)
        best = max(text.split(". "), key=lambda one: reranker.score([(QUERY, one if one.endswith(".") else one + ".")]))
    assert result.highlight is not None
    assert text[result.highlight.start : result.highlight.end].rstrip(".") == best.rstrip(".")


def test_a_template_for_chats_is_used_where_sentence_transformers_trained_with_it(
    tmp_path: Path, mixed_pairs: list[Pair]
) -> None:
    """It writes the roles query and document as any others; the module files say that pairs were given to it."""
    chat = (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content }}{% endfor %}<think>"
    )
    write_language_model(tmp_path / "model", "qwen3", template=chat)
    expected = reference(tmp_path / "model").predict(mixed_pairs, show_progress_bar=False)
    tolerance = float(1e-3 * np.ptp(expected))
    found = load_reranker(tmp_path / "model", **OPTIONS).score(mixed_pairs)
    assert found == pytest.approx(expected.tolist(), abs=tolerance)
    with serving(tmp_path / "model") as hub:  # it is asked what it is before its weights are fetched
        printed = hub.score(tmp_path, mixed_pairs[:2])
    assert printed.startswith("["), printed
    assert json.loads(printed) == pytest.approx(expected[:2].tolist(), abs=tolerance)


def test_the_template_that_sentence_transformers_names_is_used(
    fresh_qwen3: Path, qwen3: Path, mixed_pairs: list[Pair]
) -> None:
    """One of several, that is not the default."""
    own = (fresh_qwen3 / "chat_template.jinja").read_text(encoding="utf-8")
    (fresh_qwen3 / "additional_chat_templates").mkdir()
    (fresh_qwen3 / "additional_chat_templates" / "rerank.jinja").write_text(own, encoding="utf-8")
    other = own.replace("Judge whether", "Say if")
    (fresh_qwen3 / "chat_template.jinja").write_text(other, encoding="utf-8")
    path = fresh_qwen3 / "sentence_bert_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings.setdefault("processing_kwargs", {}).setdefault("chat_template", {})["chat_template"] = "rerank"
    path.write_text(json.dumps(settings), encoding="utf-8")
    expected = reference(fresh_qwen3).preprocess([mixed_pairs[0]])["input_ids"][0].tolist()
    (found,) = CrossEncoderScorer.from_folder(fresh_qwen3, **OPTIONS).encoder.encode(mixed_pairs[:1])
    assert found.input_ids == expected
    (same,) = CrossEncoderScorer.from_folder(qwen3, **OPTIONS).encoder.encode(mixed_pairs[:1])
    assert found == same


def test_what_transformers_left_in_the_cache_is_completed(
    fresh_qwen3: Path, tmp_path: Path, load_scorer: LoadScorer
) -> None:
    """It fetches no modules.json, and other tokens than yes and no may be the answer."""
    pairs = [(QUERY, document) for document in DOCUMENTS]
    path = fresh_qwen3 / "1_LogitScore" / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "false_token_id": None}), encoding="utf-8")
    expected = load_scorer(fresh_qwen3, "torch").score(pairs)
    names = ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json")
    link_into_cache(fresh_qwen3, tmp_path / "hub", *names, "1_LogitScore/config.json")
    with serving(fresh_qwen3) as hub:
        printed = hub.score(tmp_path, pairs)
    assert printed.startswith("["), printed
    assert json.loads(printed) == pytest.approx(expected, abs=1e-3)
