"""Settings of every run, and fixtures of the small models that `stand_in_models` writes."""

from __future__ import annotations

import functools
import io
import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from rerank_plugins import Pair
from stand_in_models import PASSAGES, QUERIES, write_bert, write_model

if TYPE_CHECKING:
    from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

# No deadline, because other jobs slow the machine down; derandomized, so that a commit always gets the same examples.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

SHARED_MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"

Here = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def cache_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Put conversions and locks into a temporary folder instead of the user's cache."""
    with pytest.MonkeyPatch.context() as environment:
        folder = tmp_path_factory.mktemp("cache")
        environment.setenv("RERANK_PLUGINS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def pairs() -> list[Pair]:
    """300 English and Chinese pairs of 1 to 60 words; no stand-in model truncates them."""
    draw = random.Random(0)
    words = " ".join(PASSAGES).split()
    return [(draw.choice(QUERIES), " ".join(draw.choices(words, k=draw.randint(1, 60)))) for _ in range(300)]


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT cross-encoder: 2 layers of 32, 256 positions, torch weights; loading may add OpenVINO files."""
    folder = tmp_path_factory.mktemp("bert")
    write_bert(folder)
    return folder


@pytest.fixture(scope="session")
def xlmr_tokenizer_folder() -> Path:
    """The tokenizer of bge-reranker-v2-m3, from ../shared."""
    folder = SHARED_MODELS / "xlm-roberta-tokenizer"
    if not folder.is_dir():
        pytest.skip("needs ../shared/models/xlm-roberta-tokenizer, which is not here")
    return folder


@pytest.fixture(scope="session")
def xlmr_folder(tmp_path_factory: pytest.TempPathFactory, xlmr_tokenizer_folder: Path) -> Path:
    """An XLM-R cross-encoder: 2 layers of 64, 514 positions (512 of them used), bge-reranker-v2-m3's tokenizer."""
    folder = tmp_path_factory.mktemp("xlmr")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(xlmr_tokenizer_folder / name, folder / name)
    write_model(
        folder,
        "xlm-roberta",
        head=2,
        vocab_size=250_002,
        hidden_size=64,
        num_attention_heads=1,
        intermediate_size=256,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        initializer_range=0.2,
    )
    return folder


@pytest.fixture(scope="session", params=["bert", pytest.param("xlmr", marks=pytest.mark.data)])
def standin_folder(request: pytest.FixtureRequest) -> Path:
    """Each of the two stand-ins in turn."""
    folder: Path = request.getfixturevalue(f"{request.param}_folder")
    return folder


@pytest.fixture
def fresh_bert(bert_folder: Path, tmp_path: Path) -> Path:
    """A copy of the BERT stand-in that a test may change; torch weights only."""
    return shutil.copytree(bert_folder, tmp_path / "model", ignore=shutil.ignore_patterns("openvino"))


@pytest.fixture
def fresh_ir(bert_openvino: CrossEncoderScorer, bert_folder: Path, tmp_path: Path) -> Path:
    """A copy of the BERT stand-in that a test may change; OpenVINO files only."""
    del bert_openvino  # loading it has written them
    return shutil.copytree(bert_folder, tmp_path / "ir", ignore=shutil.ignore_patterns("*.safetensors"))


@pytest.fixture
def onnx_folder(bert_onnx_folder: Path, tmp_path: Path) -> Path:
    """The BERT stand-in as an ONNX file only, which a test may damage."""
    return shutil.copytree(bert_onnx_folder, tmp_path / "onnx_model")


@pytest.fixture(scope="session")
def bert_onnx_folder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The BERT stand-in as an ONNX file only, exported by torch."""
    import torch
    from transformers import AutoModelForSequenceClassification

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModelForSequenceClassification.from_pretrained(bert_folder).eval()

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits

    names = ["input_ids", "attention_mask", "token_type_ids"]
    folder = tmp_path_factory.mktemp("bert-onnx") / "model"
    shutil.copytree(bert_folder, folder, ignore=shutil.ignore_patterns("openvino", "*.safetensors"))
    (folder / "onnx").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates this exporter
        torch.onnx.export(
            Logits(),
            tuple(torch.ones((2, 8), dtype=torch.int64) for _ in names),
            folder / "onnx" / "model.onnx",
            input_names=names,
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
            dynamo=False,
        )
    return folder


@pytest.fixture(scope="session")
def load_scorer() -> Callable[[Path, str], CrossEncoderScorer]:
    """``load_scorer(folder, engine)`` loads in fp32 on the CPU, once per session."""
    from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

    @functools.cache
    def load(folder: Path, engine: Any) -> CrossEncoderScorer:
        return CrossEncoderScorer.from_folder(folder, engine=engine, precision="fp32", device="cpu")

    return load


@pytest.fixture(scope="session")
def bert_openvino(load_scorer: Callable[[Path, str], CrossEncoderScorer], bert_folder: Path) -> CrossEncoderScorer:
    """The cheapest scorer with a real model and engine."""
    return load_scorer(bert_folder, "openvino")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Run `rerank-plugins` in this process, which need not import everything again; 80 columns."""
    from rerank_plugins.cli import main

    def run_here(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["rerank-plugins", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), *capsys.readouterr())

    return run_here
