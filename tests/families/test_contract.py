"""The contract of every family: rows and logits are those of sentence-transformers, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from families_reference import reference
from family_models import DECODERS, ENCODERS
from rerank_plugins import Pair
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

Write = Callable[[str], Path]
LoadScorer = Callable[[Path, str], CrossEncoderScorer]

# One of each kind: token types; a sliding window; the real template of Qwen3-Reranker, for a classifier and for a
# language model; logits that are bent.
QUICK = ("electra", "modernbert", "qwen3", "qwen3 answer", "gemma2 answer")
ALL = (*ENCODERS, *DECODERS, *(f"{name} answer" for name in DECODERS))
FAMILIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ALL]


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_sentence_transformers(
    name: str, family: Write, load_scorer: LoadScorer, mixed_pairs: list[Pair]
) -> None:
    """In batches of mixed lengths and alone, on both engines, within a thousandth of the logits' spread."""
    expected = reference(family(name)).predict(mixed_pairs, show_progress_bar=False)
    tolerance = 1e-3 * np.ptp(expected)
    assert np.ptp(expected) > 3
    for engine in ("torch", "openvino"):
        scorer = load_scorer(family(name), engine)
        np.testing.assert_allclose(scorer.score(mixed_pairs), expected, atol=tolerance, rtol=0)
        for pair, one in list(zip(mixed_pairs, expected, strict=True))[::12]:
            np.testing.assert_allclose(scorer.score([pair]), [one], atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_are_those_of_sentence_transformers(
    name: str, family: Write, load_scorer: LoadScorer, mixed_pairs: list[Pair]
) -> None:
    """Token by token, where template and texts meet too; and token type ids only where its tokenizer gives them."""
    model: Any = reference(family(name))
    encoder = load_scorer(family(name), "torch").encoder
    for pair, row in zip(mixed_pairs, encoder.encode(mixed_pairs), strict=True):
        expected = model.preprocess([pair])
        assert row.input_ids == expected["input_ids"][0].tolist(), pair
        types = expected["token_type_ids"][0].tolist() if "token_type_ids" in expected else [0] * len(row.input_ids)
        assert row.token_type_ids == types


def test_an_earlier_conversion_that_gives_nan_is_made_again(tmp_path: Path, mixed_pairs: list[Pair]) -> None:
    """Where a batch's padding is longer than a sliding window, releases until 0.2.0 had NaN for ModernBERT."""
    import openvino

    from family_models import write_encoder
    from rerank_plugins.backends import conversion

    write_encoder(tmp_path, "modernbert")
    options: dict[str, Any] = {"engine": "openvino", "precision": "fp32"}
    expected = CrossEncoderScorer.from_folder(tmp_path, **options).score(mixed_pairs)
    graph = tmp_path / "openvino" / "openvino_model.xml"
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr(conversion, "keep_masked_rows_finite", lambda _: None)
        model = conversion.convert(tmp_path)
    openvino.save_model(model, graph, compress_to_fp16=False)
    assert CrossEncoderScorer.from_folder(tmp_path, **options).score(mixed_pairs) == pytest.approx(expected, abs=1e-3)
