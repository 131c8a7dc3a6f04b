"""docs/servers.md: its code runs against a stand-in, and its table is that of the code."""

from __future__ import annotations

import re
from typing import Any

import pytest

import rerank_plugins
from doc_pages import DOCS
from rerank_plugins.scorers.remote import DIALECTS
from rerank_servers import rerank_server

PAGE = (DOCS / "servers.md").read_text(encoding="utf-8")


def test_the_pages_code_ranks() -> None:
    """Both blocks, with the addresses of stand-ins in place of the page's."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
    documents = ["Apples are a healthy fruit.", "The iPhone 15 Pro has a frame of titanium."]
    names: dict[str, Any] = {"documents": documents}
    with rerank_server("tei") as tei, rerank_server("llamacpp") as llamacpp:
        # The stand-in's requests name a model, as its original's may.
        code = code.replace("http://localhost:8080", tei.url).replace("llamacpp:http://localhost:8081", llamacpp.model)
        exec(compile(code, "servers.md", "exec"), names)  # noqa: S102 - running it is the test
        assert [result.index for result in names["results"]] == [1, 0]
        assert names["qwen"].rerank("q", ["x" * 130])[0].score == pytest.approx(0.3)
        names["reranker"].close()
        names["qwen"].close()


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_a_dialects_row_has_its_path_its_limit_and_its_keys(dialect: Any) -> None:
    """What is declared is what is documented."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith("|") and f"`{dialect.name}:" in line]
    assert f"POST {dialect.path}`" in row
    assert ("probabilities" if dialect.scale == "probability" else "logits") in row
    limit = "no limit" if dialect.max_documents is None else f"{dialect.max_documents:,}"
    assert limit in row
    assert all(f"`{variable}`" in row for variable in dialect.key_variables)


def test_every_error_of_a_server_is_on_the_page() -> None:
    """The whole tree."""
    names = [name for name in rerank_plugins.__all__ if name.startswith("Remote")]
    assert len(names) == 6
    assert [name for name in names if f"`{name}`" not in PAGE] == []
