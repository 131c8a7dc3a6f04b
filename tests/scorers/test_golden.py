"""Published scores, on machines that have the weights (marker `hub`): `rerank-plugins verify`, at every precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rerank_plugins import ModelNotFoundError, load_reranker
from rerank_plugins.backends.auto import find_accelerator
from rerank_plugins.backends.cpu import has_bf16
from rerank_plugins.evaluation.verification import PUBLISHED, explain, repository_of, verify

pytestmark = pytest.mark.hub
NAME = "bge-reranker-v2-m3"


def check(name: str, model: Path | None = None, **options: Any) -> None:
    try:
        reranker = load_reranker(model or repository_of(name), **options)
    except ModelNotFoundError:
        if name == NAME:
            raise
        pytest.skip(f"{repository_of(name)} is not here; the marker promises BAAI/{NAME} only")
    with reranker:
        found = verify(reranker, name)
    assert found.ok, explain(found, name)


@pytest.mark.parametrize("engine", ["openvino", "torch"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_fp32_computes_what_was_published(name: str, engine: str) -> None:
    """Both engines give every published score of every model, each within its own precision's tolerance."""
    check(name, engine=engine, precision="fp32", device="cpu")


def test_bf16_computes_what_was_published() -> None:
    """On a processor that has it."""
    if not has_bf16():
        pytest.skip("this processor has no bf16")
    check(NAME, engine="openvino", precision="bf16")


def test_fp16_computes_what_was_published() -> None:
    """On an accelerator, where the published fp16 logits come from as well."""
    if find_accelerator() is None:
        pytest.skip("there is no accelerator")
    check(NAME, engine="torch", precision="fp16")


def test_an_int8_export_computes_what_was_published(tmp_path: Path) -> None:
    """Within what is granted to int8; the folder has a name of its own."""
    from rerank_plugins.export import export_model

    export_model(f"BAAI/{NAME}", "int8", output_folder=tmp_path / "exported")
    check(NAME, tmp_path / "exported", precision="int8")
