from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from rerank_plugins import InvalidInputError, MissingExtraError, ModelLoadError, Pair, load_reranker
from rerank_plugins.backends import EngineChoice, choose_engine, load_engine
from rerank_plugins.backends.cpu import has_bf16
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from stand_in_models import write_model

LoadScorer = Callable[[Path, str], CrossEncoderScorer]


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which torch sees neither CUDA nor MPS."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which torch sees CUDA; good for decisions, not for computing."""
    monkeypatch.setattr("rerank_plugins.backends.auto._may_have_accelerator", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)


@pytest.fixture(params=[True, False], ids=["with-bf16", "without-bf16"])
def cpu_precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A processor with bf16 and one without, and what auto means on it."""
    monkeypatch.setattr("rerank_plugins.backends.cpu.has_bf16", lambda: request.param)
    return "bf16" if request.param else "fp32"


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


def test_torch_and_openvino_give_equal_logits(load_scorer: LoadScorer, standin_folder: Path, pairs: list[Pair]) -> None:
    """In fp32 both engines give the same logits within 1e-3."""
    torch_logits = load_scorer(standin_folder, "torch").score(pairs)
    assert_logits(load_scorer(standin_folder, "openvino").score(pairs), torch_logits)


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
    """In bf16 logits stay near those of fp32: half a unit of a spread of ten, in nearly the same order."""
    scorer = CrossEncoderScorer.from_folder(bert_folder, engine=engine, precision="bf16", device="cpu")
    exact = load_scorer(bert_folder, "torch").score(pairs)
    scores = scorer.score(pairs)
    assert_logits(scores, exact, atol=0.5)
    assert np.corrcoef(scores, exact)[0, 1] > 0.99
    assert not np.allclose(scores, exact, atol=1e-3)


def test_bf16_that_comes_out_wrong_counts_as_none(fresh_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that lists bf16, of which OpenVINO's products are wrong, computes fp32, and refuses bf16."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("rerank_plugins.backends.cpu.has_bf16_instructions", lambda: True)
    monkeypatch.setattr("rerank_plugins.backends.cpu.bf16_is_right", lambda: False)
    choice = choose_engine(fresh_bert, engine="openvino")
    assert choice.precision == "fp32"
    assert "multiplies bf16 wrongly" in choice.why
    with pytest.raises(InvalidInputError, match=r"multiplies bf16 wrongly .* Use precision='fp32'"):
        choose_engine(fresh_bert, engine="openvino", precision="bf16")


def test_only_half_precision_on_cuda_pads_for_fewer_batches() -> None:
    """Elsewhere a batch costs in proportion to its padded tokens, and padding is all loss."""
    from rerank_plugins.backends.torch import choose_padding

    assert choose_padding("fp16", "cuda") == choose_padding("bf16", "cuda:1") == (0.5, 64)
    assert choose_padding("fp32", "cuda") == choose_padding("fp16", "mps") == (0.1, 1)
    assert choose_padding("bf16", "cpu") == (0.1, 16)


def test_bf16_is_refused_where_the_processor_has_none(fresh_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 on a processor that would only emulate it is an error that names fp32."""
    monkeypatch.setattr("rerank_plugins.backends.cpu.has_bf16", lambda: False)
    with pytest.raises(InvalidInputError, match="Use precision='fp32'"):
        choose_engine(fresh_bert, engine="openvino", precision="bf16")


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


@pytest.mark.usefixtures("no_accelerator")
def test_auto_takes_openvino_on_a_cpu(fresh_bert: Path, cpu_precision: str) -> None:
    """Without an accelerator auto is OpenVINO, in bf16 where the processor has it, else fp32."""
    assert choose_engine(fresh_bert)[:3] == ("openvino", cpu_precision, "cpu")


@pytest.mark.usefixtures("cuda")
def test_auto_takes_torch_in_fp16_on_cuda(fresh_bert: Path) -> None:
    """Where torch sees CUDA auto is torch in fp16, and says why."""
    assert choose_engine(fresh_bert) == EngineChoice("torch", "fp16", "cuda", "torch sees cuda")


@pytest.mark.usefixtures("cuda")
def test_auto_follows_the_device(fresh_bert: Path, cpu_precision: str) -> None:
    """An accelerator by name means torch on it; device='cpu' means OpenVINO, CUDA or not."""
    assert choose_engine(fresh_bert, device="cuda:1")[:3] == ("torch", "fp16", "cuda:1")
    assert choose_engine(fresh_bert, device="cpu")[:3] == ("openvino", cpu_precision, "cpu")


@pytest.mark.usefixtures("cuda")
def test_auto_follows_int8(fresh_bert: Path) -> None:
    """int8 means OpenVINO on the CPU, CUDA or not."""
    assert choose_engine(fresh_bert, precision="int8")[:3] == ("openvino", "int8", "cpu")


@pytest.mark.usefixtures("cuda")
def test_auto_follows_the_files(fresh_ir: Path, cpu_precision: str) -> None:
    """A folder without torch weights means OpenVINO, CUDA or not."""
    assert choose_engine(fresh_ir)[:3] == ("openvino", cpu_precision, "cpu")


def test_auto_takes_int8_where_it_is_all_there_is(int8_folder: Path) -> None:
    """A folder with the int8 file only means int8."""
    assert choose_engine(int8_folder)[:3] == ("openvino", "int8", "cpu")


@pytest.mark.usefixtures("no_accelerator")
def test_torch_on_a_cpu_is_fp32(fresh_bert: Path) -> None:
    """The reference engine computes in fp32 unless told otherwise."""
    assert choose_engine(fresh_bert, engine="torch")[:3] == ("torch", "fp32", "cpu")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"engine": "onnx"}, "engine must be one of auto, torch, openvino; got 'onnx'"),
        ({"precision": "fp8"}, "precision must be one of auto, fp32, bf16, fp16, int8; got 'fp8'"),
        ({"engine": "torch", "precision": "int8"}, "got precision='int8'. Use engine='openvino'"),
        ({"device": "cuda", "precision": "int8"}, "got precision='int8'. Use engine='openvino'"),
        ({"engine": "openvino", "precision": "fp16"}, "got precision='fp16'. Use precision='bf16'"),
        ({"engine": "openvino", "precision": "int8"}, "or make one: rerank-plugins export"),
        ({"engine": "openvino", "device": "cuda"}, "got device='cuda'. Use engine='torch'"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_the_remedy(
    fresh_bert: Path, asked: dict[str, Any], message: str
) -> None:
    """A name that does not exist, or options that do not go together, are an error that says what to use."""
    with pytest.raises(InvalidInputError) as caught:
        load_engine(fresh_bert, **asked)
    assert message in str(caught.value)


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


def test_torch_that_is_not_installed_is_named(fresh_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The torch engine without its packages is an error with the command that installs them."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rerank-plugins\[torch\]'"):
        load_engine(fresh_bert, engine="torch")


def files_under(folder: Path) -> dict[str, int]:
    """Every file in the folder and when it was written."""
    return {file.name: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_the_first_load_keeps_its_conversion(fresh_bert: Path) -> None:
    """Converting leaves the OpenVINO files and a note of their origin beside the weights, and no scratch."""
    before = files_under(fresh_bert)
    load_engine(fresh_bert, engine="openvino", precision="fp32")
    kept = {"openvino_model.xml", "openvino_model.bin", "converted_from.json"}
    assert {file.name for file in (fresh_bert / "openvino").iterdir()} == kept
    assert before.items() <= files_under(fresh_bert).items()


def test_the_second_load_does_not_convert(fresh_bert: Path) -> None:
    """A folder that was converted is read as it is: nothing is written, and the torch weights are not needed."""
    load_engine(fresh_bert, engine="openvino", precision="fp32")
    before = files_under(fresh_bert)
    load_engine(fresh_bert, engine="openvino", precision="fp32")
    assert files_under(fresh_bert) == before
    (fresh_bert / "model.safetensors").unlink()
    load_engine(fresh_bert, engine="openvino", precision="fp32")


def test_a_conversion_that_fails_leaves_nothing(fresh_bert: Path) -> None:
    """After damaged weights there is no half an OpenVINO file that the next load would read."""
    (fresh_bert / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelLoadError):
        load_engine(fresh_bert, engine="openvino", precision="fp32")
    assert not list(fresh_bert.rglob("*.xml"))
    assert not list(fresh_bert.rglob(".converting-*"))


def test_a_conversion_that_cannot_be_kept_is_used(
    fresh_bert: Path, load_scorer: LoadScorer, pairs: list[Pair], caplog: pytest.LogCaptureFixture
) -> None:
    """Where the folder cannot be written to the model works from memory, and a warning says so."""
    (fresh_bert / "openvino").write_text("a file, so that no folder can be made")
    scores = load_scorer(fresh_bert, "openvino").score(pairs)
    assert_logits(scores, load_scorer(fresh_bert, "torch").score(pairs))
    assert "cannot be kept" in caplog.text


def test_a_conversion_without_torch_is_refused(fresh_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch weights for the CPU without torch are an error with the command that installs it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"converting.*pip install 'rerank-plugins\[torch\]'"):
        load_engine(fresh_bert, engine="openvino", precision="fp32")


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


@pytest.mark.parametrize(
    ("architecture", "engine"),
    [
        ("convbert", "torch"),
        ("convbert", "openvino"),
        ("nystromformer", "torch"),
        ("nystromformer", "openvino"),
        ("fnet", "torch"),  # has no attention mask at all, without which OpenVINO's engine refuses it
        ("bert", "torch"),
    ],
)
def test_models_that_read_padding_get_none(
    bert_folder: Path, tmp_path: Path, pairs: list[Pair], engine: Any, architecture: str
) -> None:
    """Pairs of many lengths score as sentence-transformers scores each alone, whether masks are heeded or not."""
    folder = shutil.copytree(
        bert_folder, tmp_path / "model", ignore=shutil.ignore_patterns("openvino", "*.safetensors")
    )
    size = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    write_model(folder, architecture, head=3, vocab_size=size, max_position_embeddings=256)
    import torch
    from sentence_transformers import CrossEncoder

    reference = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    expected = [reference.predict([pair], activation_fn=torch.nn.Identity())[0] for pair in pairs[:30]]
    found = load_reranker(folder, engine=engine, precision="fp32", device="cpu").score(pairs[:30])
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("model", ["rerank-mini-en", "bert"])
def test_models_that_heed_their_masks_are_padded(bert_folder: Path, model: str) -> None:
    """Rows of different lengths share their batches, which is faster."""
    reranker = load_reranker(bert_folder if model == "bert" else model, engine="openvino")
    reranker.score([("a cat", "sat " * count) for count in range(20, 40)])
    assert reranker.stats().batches < 6
