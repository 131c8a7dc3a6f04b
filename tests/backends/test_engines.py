"""What engines compute, and which model files they refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rerank_plugins import InvalidInputError, ModelLoadError, Pair
from rerank_plugins.backends import load_engine
from rerank_plugins.backends.cpu import has_bf16
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

LoadScorer = Callable[[Path, str], CrossEncoderScorer]


@pytest.fixture
def int8_folder(fresh_ir: Path) -> Path:
    """A folder whose only weights bear the int8 file's name; inside they are fp32."""
    for suffix in (".xml", ".bin"):
        file = fresh_ir / "openvino" / f"openvino_model{suffix}"
        file.rename(file.with_name(f"openvino_model_qint8_quantized{suffix}"))
    return fresh_ir


def assert_logits(scores: list[float], expected: Any, *, atol: float = 1e-3) -> None:
    """Equal within the tolerance, and far enough apart for that to say something."""
    assert np.ptp(expected) > 3
    np.testing.assert_allclose(scores, expected, atol=atol, rtol=0)


def test_logits_are_those_of_sentence_transformers(
    load_scorer: LoadScorer, standin_folder: Path, pairs: list[Pair]
) -> None:
    """Both engines give what CrossEncoder.predict gives without an activation, within 1e-3."""
    import torch
    from sentence_transformers import CrossEncoder

    reference = CrossEncoder(str(standin_folder), device="cpu", local_files_only=True)
    expected = reference.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    for engine in ("torch", "openvino"):
        assert_logits(load_scorer(standin_folder, engine).score(pairs), expected)


def test_onnx_gives_the_logits_of_torch(
    load_scorer: LoadScorer, bert_folder: Path, onnx_folder: Path, pairs: list[Pair]
) -> None:
    """A folder with nothing but an ONNX file is computed by OpenVINO, with torch's logits."""
    scorer = load_scorer(onnx_folder, "auto")
    assert scorer.engine.name == "openvino"
    assert_logits(scorer.score(pairs), load_scorer(bert_folder, "torch").score(pairs))


@pytest.mark.parametrize("engine", ["torch", pytest.param("openvino", marks=pytest.mark.skipif(
    not has_bf16(), reason="needs a processor with bf16"
))])  # fmt: skip
def test_bf16_is_near_fp32(load_scorer: LoadScorer, bert_folder: Path, pairs: list[Pair], engine: Any) -> None:
    """In bf16 logits stay within a tenth of the spread of those of fp32, in nearly the same order."""
    scorer = CrossEncoderScorer.from_folder(bert_folder, engine=engine, precision="bf16", device="cpu")
    exact = load_scorer(bert_folder, "torch").score(pairs)
    scores = scorer.score(pairs)
    assert_logits(scores, exact, atol=0.1 * np.ptp(exact))
    assert np.corrcoef(scores, exact)[0, 1] > 0.99
    assert not np.allclose(scores, exact, atol=1e-3)


def test_only_half_precision_on_cuda_pads_for_fewer_batches() -> None:
    """Elsewhere a batch costs in proportion to its padded tokens, and padding is all loss."""
    from rerank_plugins.backends.torch import choose_padding

    assert choose_padding("fp16", "cuda") == choose_padding("bf16", "cuda:1") == (0.5, 64)
    assert choose_padding("fp32", "cuda") == choose_padding("fp16", "mps") == (0.1, 1)
    assert choose_padding("bf16", "cpu") == (0.1, 16)


def test_int8_reads_the_quantized_file(
    load_scorer: LoadScorer, bert_folder: Path, int8_folder: Path, pairs: list[Pair]
) -> None:
    """A folder with the int8 file only is loaded from it without being told to."""
    scorer = CrossEncoderScorer.from_folder(int8_folder)
    assert (scorer.engine.name, scorer.engine.precision) == ("openvino", "int8")
    assert_logits(scorer.score(pairs), load_scorer(bert_folder, "torch").score(pairs))


def test_engines_give_one_float32_a_row(load_scorer: LoadScorer, standin_folder: Path) -> None:
    """Logits are a float32 vector, and token type ids may be left out."""
    ids = np.full((3, 7), 5, dtype=np.int64)
    for name in ("torch", "openvino"):
        logits = load_scorer(standin_folder, name).engine.logits(ids, np.ones_like(ids), None)
        assert (logits.dtype, logits.shape) == (np.float32, (3,))


def test_a_device_that_is_not_there_is_refused(fresh_bert: Path) -> None:
    """A device that torch cannot use is an error that names it."""
    with pytest.raises(InvalidInputError, match="device='nonsense'"):
        load_engine(fresh_bert, device="nonsense")


def test_fp32_from_an_int8_folder_is_refused(int8_folder: Path) -> None:
    """A precision that a folder has no file for is an error that names int8."""
    with pytest.raises(InvalidInputError, match="Use precision='int8' or 'auto'"):
        load_engine(int8_folder, precision="fp32")


def test_torch_without_torch_weights_is_refused(fresh_ir: Path) -> None:
    """The torch engine on OpenVINO's files is an error that names the other engine."""
    with pytest.raises(ModelLoadError, match="Use engine='openvino' or 'auto'"):
        load_engine(fresh_ir, engine="torch")


def test_an_ir_with_other_inputs_is_refused(fresh_ir: Path) -> None:
    """An OpenVINO file that takes no token ids is an error that lists what it takes."""
    import openvino
    from openvino import opset13 as ops

    pixels = ops.parameter([-1, 3], np.float32, name="pixels")
    pixels.output(0).get_tensor().set_names({"pixels"})
    shutil.rmtree(fresh_ir / "openvino")
    openvino.save_model(openvino.Model([ops.relu(pixels)], [pixels]), fresh_ir / "openvino" / "openvino_model.xml")
    with pytest.raises(ModelLoadError, match=r"takes the inputs \['pixels'\], expected input_ids"):
        load_engine(fresh_ir, precision="fp32")
