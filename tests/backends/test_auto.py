"""How every "auto" is settled, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from rerank_plugins import InvalidInputError, MissingExtraError
from rerank_plugins.backends import EngineChoice, choose_engine, load_engine


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


def test_bf16_is_refused_where_the_processor_has_none(fresh_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 on a processor that would only emulate it is an error that names fp32."""
    monkeypatch.setattr("rerank_plugins.backends.cpu.has_bf16", lambda: False)
    with pytest.raises(InvalidInputError, match="Use precision='fp32'"):
        choose_engine(fresh_bert, engine="openvino", precision="bf16")


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


def test_torch_that_is_not_installed_is_named(fresh_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The torch engine without its packages is an error with the command that installs them."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rerank-plugins\[torch\]'"):
        load_engine(fresh_bert, engine="torch")
