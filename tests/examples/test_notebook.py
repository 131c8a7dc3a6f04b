"""notebooks/rag_reranking.ipynb: its stored outputs, and its execution."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "rag_reranking.ipynb"


def outputs(notebook: Any, cell: int) -> str:
    """Return the text of a cell's outputs."""
    shown = []
    for output in notebook.cells[cell].get("outputs", []):
        assert output.output_type != "error", output
        shown.append(output.get("text", ""))
        shown += [str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(shown)


def position(notebook: Any, needle: str) -> int:
    """Return the number of the code cell that contains ``needle``."""
    (found,) = (n for n, cell in enumerate(notebook.cells) if cell.cell_type == "code" and needle in cell.source)
    return found


def check(notebook: Any) -> None:
    """Assert that every cell ran without a warning, both pipelines answer, and the table and three plots are there."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert all(output.get("name") != "stderr" for output in cell.outputs), cell.outputs
    table = outputs(notebook, position(notebook, "def marked(result)"))
    assert re.search(r"<td[^>]*>1</td>.*?<mark>[^<]*titanium[^<]*</mark>", table, flags=re.DOTALL)
    assert "titanium" in outputs(notebook, position(notebook, "RerankRetriever("))
    assert "titanium" in outputs(notebook, position(notebook, "RerankPostprocessor("))
    plots = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(plots) == 3


def check_that_it_helps(notebook: Any) -> None:
    """Assert that nDCG@10 rises in the table, and that the verdict says so."""
    measured = outputs(notebook, position(notebook, "evaluate(folder"))
    before, after = (float(found) for found in re.findall(r"<td[^>]*>(0\.\d+) \(", measured)[::3])
    assert before < after
    assert "Reranking helps" in measured


def test_the_stored_outputs_are_complete() -> None:
    """The notebook in the repository has the outputs of a whole run, and no path of a machine."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    check(notebook)
    check_that_it_helps(notebook)
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)


def execute(source: str, folder: Path) -> Any:
    """Execute the notebook in a new kernel, in ``folder``."""
    copy = folder / "rag.ipynb"
    copy.write_text(source, encoding="utf-8")
    command = [str(Path(sys.executable).with_name("jupyter-execute")), "--timeout=600", "--inplace", copy.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return nbformat.read(copy, as_version=4)


@pytest.mark.slow
def test_it_runs_with_a_few_questions(tmp_path: Path) -> None:
    """Every cell runs, with an evaluation on four questions only."""
    source = NOTEBOOK.read_text(encoding="utf-8")
    few = source.replace("QUERIES = 40 ", "QUERIES = 4 ")
    assert few != source
    check(execute(few, tmp_path))


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """The whole notebook runs, and reranking helps."""
    notebook = execute(NOTEBOOK.read_text(encoding="utf-8"), tmp_path)
    check(notebook)
    check_that_it_helps(notebook)
