"""The numbers and names on a model card."""

from __future__ import annotations

import re
from pathlib import Path

from collections_to_learn import RECIPE
from rerank_plugins.evaluation.report.formatting import number
from rerank_plugins.hub.fidelity_report import read_reports
from rerank_plugins.training import Training


def test_the_card_has_the_measured_numbers(training: Training) -> None:
    """Every value on it is one of the training's."""
    card = (training.folder / "README.md").read_text(encoding="utf-8")
    first, trained = training.evaluation.rerankers
    for name, row in (("base", first), (r"\*\*this model\*\*", trained)):
        ndcg, rr = (number(row.ranking.means[metric].mean) for metric in ("nDCG@10", "RR@10"))
        assert re.search(rf"^\| {name} \| {row.engine}, {row.precision} \| {ndcg} \|.*\| {rr} \|$", card, re.MULTILINE)
    assert training.change.verdict in card
    assert training.development_verdict in card
    report = read_reports(training.folder)["int8"]
    assert f"mean Kendall's tau per query {report['kendall_tau']['mean']:.3f}" in card
    for point in training.curve:
        assert re.search(rf"^\| {point.step}( \(used\))? \|.*\| {point.development:.4f} \|$", card, re.MULTILINE)
    assert "70 judged queries of qrels/train.tsv and 0 without qrels; 10 others" in card
    assert f"learning rate {RECIPE['learning_rate']:g}" in card


def test_the_card_names_no_place_on_this_machine(training: Training) -> None:
    """Neither the base's folder nor the model's own, and no repository that is none."""
    card = (training.folder / "README.md").read_text(encoding="utf-8")
    assert str(training.folder.parent) not in card
    assert str(Path(training.base).parent) not in card
    assert "base_model" not in card
    assert card.startswith("---\nlibrary_name: sentence-transformers\npipeline_tag: text-ranking\n")
