"""Faults that a reading of the first version found, and that must not come back."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rerank_plugins import InvalidInputError, ModelLoadError, Pair, Reranker, ScoringError, load_reranker
from rerank_plugins.backends import choose_engine
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from stand_in_models import write_model


class Given:
    """Gives the numbers it holds."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)

    def score(self, pairs: list[Pair], /) -> list[float]:
        """The numbers, and the argument emptied, which must harm nobody."""
        pairs.clear()
        return self.scores


def test_logits_whose_sigmoids_are_both_one_keep_their_order() -> None:
    """Logits of 50, 80 and 100 are all 1.0 as probabilities, and still the highest comes first."""
    results = Reranker(Given(50.0, 80.0, 100.0, 40.0)).rerank("q", list("abcd"))
    assert [result.index for result in results] == [2, 1, 0, 3]
    assert results[0].score == 1.0


def test_numpy_numbers_are_taken_for_top_n_and_threshold() -> None:
    """An np.int64 and an np.float32 are numbers like others."""
    reranker = Reranker(Given(1.0, 2.0, -3.0))
    assert len(reranker.rerank("q", list("abc"), top_n=np.int64(2))) == 2  # type: ignore[arg-type]
    assert len(reranker.rerank("q", list("abc"), score_threshold=np.float32(0.5))) == 2  # type: ignore[arg-type]


def test_an_error_inside_a_generator_of_documents_is_the_callers_own() -> None:
    """A TypeError raised by the user's generator is not taken for a wrong argument."""

    def documents() -> Iterator[str]:
        yield "fine"
        raise TypeError("in the generator")

    with pytest.raises(TypeError, match="in the generator") as caught:
        Reranker(Given(1.0)).rerank("q", documents())
    assert not isinstance(caught.value, InvalidInputError)


def test_a_copy_of_a_reranker_shares_its_model() -> None:
    """deepcopy, which frameworks do to their parts, does not copy weights."""
    reranker = load_reranker("rerank-mini-en")
    assert copy.deepcopy(reranker) is reranker


@pytest.mark.parametrize("device", ["CPU", "cpu:0"])
def test_spellings_of_the_cpu_are_the_cpu(bert_folder: Path, device: str) -> None:
    """Another spelling of cpu chooses the same engine."""
    assert choose_engine(bert_folder, device=device)[:3] == choose_engine(bert_folder, device="cpu")[:3]


def test_the_most_a_query_takes_can_be_given(bert_folder: Path) -> None:
    """max_query_share bounds the query, and a share that is none is refused."""
    reranker = load_reranker(bert_folder, engine="openvino", precision="fp32", max_length=100, max_query_share=0.1)
    assert reranker.scorer.encoder.max_query_tokens == 10  # type: ignore[attr-defined]
    with pytest.raises(InvalidInputError, match="max_query_share"):
        load_reranker(bert_folder, max_query_share=1.5)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_models_whose_positions_begin_behind_the_padding_are_not_overrun(tmp_path: Path, engine: Any) -> None:
    """An MPNet cross-encoder cuts a long passage where its positions end."""
    box = Path(__file__).parents[1] / "models" / "rerank-mini-en"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(box / name, tmp_path / name)
    write_model(tmp_path, "mpnet", vocab_size=30_522, num_hidden_layers=1, max_position_embeddings=66)
    reranker = load_reranker(tmp_path, engine=engine, precision="fp32", device="cpu")
    (result,) = reranker.rerank("what", ["word " * 500])
    assert reranker.scorer.max_length == 64  # type: ignore[attr-defined]
    assert result.truncated is True


@pytest.mark.slow
def test_a_conversion_of_other_weights_is_made_again(fresh_bert: Path) -> None:
    """Where the weights beside a conversion have changed, the scores are those of the new ones."""
    from safetensors.torch import load_file, save_file

    pairs = [("cat", "the cat sat on the mat")]
    before = load_reranker(fresh_bert, engine="openvino", precision="fp32").scorer.score(pairs)[0]
    file = fresh_bert / "model.safetensors"
    weights = load_file(file)
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = -weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    os.utime(file, ns=(1, 1))
    after = load_reranker(fresh_bert, engine="openvino", precision="fp32").scorer.score(pairs)[0]
    assert abs(before) > 0.01
    assert after == pytest.approx(-before, abs=1e-4)


def test_a_copied_folder_keeps_its_conversion(fresh_bert: Path) -> None:
    """The same weights under another file time are not converted again."""
    load_reranker(fresh_bert, engine="openvino", precision="fp32")
    made = (fresh_bert / "openvino" / "openvino_model.bin").stat().st_mtime_ns
    os.utime(fresh_bert / "model.safetensors", ns=(1, 1))
    load_reranker(fresh_bert, engine="openvino", precision="fp32")
    assert (fresh_bert / "openvino" / "openvino_model.bin").stat().st_mtime_ns == made


def test_int8_is_used_where_the_other_weights_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch, a folder with torch weights and an int8 file runs on the int8 file."""
    box = Path(__file__).parents[1] / "models" / "rerank-mini-en"
    folder = shutil.copytree(box, tmp_path / "both")
    (folder / "model.safetensors").touch()
    monkeypatch.setattr("rerank_plugins.backends.auto.torch_installed", lambda: False)
    assert choose_engine(folder).precision == "int8"


def test_the_embedder_in_the_box_is_refused_as_a_reranker() -> None:
    """An embedder's name says that it is none, rather than ranking with random numbers."""
    with pytest.raises(ModelLoadError, match="expected a sequence classifier"):
        load_reranker("embed-static-en")


def test_a_model_that_cannot_read_so_much_is_an_error_of_ours(
    bert_folder: Path, load_scorer: Callable[[Path, str], CrossEncoderScorer]
) -> None:
    """Rows longer than the positions give a ScoringError that speaks of max_length, on both engines."""
    for engine in ("torch", "openvino"):
        ids = np.ones((1, 300), dtype=np.int64)
        with pytest.raises(ScoringError, match="max_length"):
            load_scorer(bert_folder, engine).engine.logits(ids, ids, ids * 0)
