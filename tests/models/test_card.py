"""An evaluation on the same queries reproduces the numbers on the card of rerank-mini-en."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerank_plugins import Reranker
from rerank_plugins.evaluation import evaluate
from rerank_plugins.testing import WordOverlap

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
SEED = 5
"""Of training/measure.py."""

pytestmark = pytest.mark.data


@pytest.fixture(params=["nq-qed", "squad-dev-en", "cacm"])
def collection(request: pytest.FixtureRequest) -> Path:
    folder = SHARED / request.param
    if not folder.is_dir():
        pytest.skip(f"needs ../shared/data/{request.param}, which is not here")
    return folder


def read_card(collection: str) -> dict[str, float]:
    """Return the collection's row of the table over embed-static-en."""
    text = (ROOT / "models" / "rerank-mini-en" / "README.md").read_text(encoding="utf-8")
    table = text.split("Over **embed-static-en**:")[1].strip().partition("\n\n")[0]
    heading, _, *rows = table.splitlines()
    (row,) = (row for row in rows if row.startswith(f"| {collection} |"))
    cells = dict(zip(_cells(heading), _cells(row), strict=True))
    kept = ("queries", "recall@50", "nDCG@10", "nDCG@10 reranked", "MRR@10", "MRR@10 reranked")
    return {name: float(cells[name]) for name in kept}


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.slow
def test_the_first_stage_has_the_metrics_of_the_card(collection: Path) -> None:
    """Sample, candidates and metrics equal those of the card, to its three digits."""
    row = read_card(collection.name)
    found = evaluate(collection, [Reranker(WordOverlap())], max_queries=int(row["queries"]), seed=SEED)
    assert found.queries == row["queries"]
    assert found.recall == pytest.approx(row["recall@50"], abs=0.0006)
    assert found.before.means["nDCG@10"].mean == pytest.approx(row["nDCG@10"], abs=0.0006)
    assert found.before.means["RR@10"].mean == pytest.approx(row["MRR@10"], abs=0.0006)


@pytest.mark.slow
def test_reranking_gains_what_the_card_says(collection: Path) -> None:
    """nDCG@10 and RR@10 of rerank-mini-en are those of the card within .01, because processors round differently."""
    row = read_card(collection.name)
    found = evaluate(collection, ["rerank-mini-en"], max_queries=int(row["queries"]), seed=SEED)
    (reranked,) = found.rerankers
    assert reranked.ranking.means["nDCG@10"].mean == pytest.approx(row["nDCG@10 reranked"], abs=0.01)
    assert reranked.ranking.means["RR@10"].mean == pytest.approx(row["MRR@10 reranked"], abs=0.01)
    assert reranked.difference.low > 0
