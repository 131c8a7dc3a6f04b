"""Whether a training helped, in words: on the test queries and on the development queries."""

from __future__ import annotations

from collections.abc import Sequence

from rerank_plugins._internal.files import expand
from rerank_plugins.evaluation.results import METRICS, Evaluation
from rerank_plugins.evaluation.significance import interval, p_value
from rerank_plugins.evaluation.verdict import Wording, verdict
from rerank_plugins.training.results import Change, CurvePoint

_NDCG = METRICS[0]


def display_name(model: str) -> str:
    """The name of a model in texts that others read: of a folder, its last part only."""
    return expand(model).resolve().name if expand(model).is_dir() else model


def compare_with_base(evaluation: Evaluation, trained: str, base: str | None, seed: int) -> Change:
    """nDCG@10 of ``trained`` less that of ``base``, query by query; None compares with the first stage."""
    rankings = {reranked.model: reranked.ranking for reranked in evaluation.rerankers}
    before = (evaluation.before if base is None else rankings[base]).per_query[_NDCG]
    after = rankings[trained].per_query[_NDCG]
    differences = [after[query] - before[query] for query in before]
    label = evaluation.first_stage if base is None else display_name(base)
    mean, p = interval(differences, seed), p_value(differences, seed)
    better, worse = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    wording = Wording(
        f"Better than {label}",
        f"Worse than {label}",
        f"Whether it is better than {label}",
        "more queries, another base, or a lower learning rate may help",
    )
    words = verdict(mean, p, better=better, worse=worse, queries=len(differences), wording=wording)
    return Change(label, mean, p, better, worse, words)


def describe_development(curve: Sequence[CurvePoint], best_step: int, queries: int) -> str:
    """How training changed the order of the development queries."""
    first, last = curve[0].development, curve[-1]
    if best_step == 0:
        after = max((point.development for point in curve[1:]), default=first)
        return (
            f"Training did not help: no step ordered the {queries} development queries better than the model before "
            f"training (nDCG@10 {first:.4f}, after it {after:.4f} at most). The weights are those of the base."
        )
    best = max(point.development for point in curve)
    rise = f"On {queries} development queries nDCG@10 rose from {first:.4f} to {best:.4f} at step {best_step:,}"
    if last.development < first:
        return (
            f"{rise}, whose weights are used, and fell to {last.development:.4f} at the last step, {last.step:,}, "
            f"below the model before training: a lower learning rate may help."
        )
    return f"{rise} of {last.step:,}, whose weights are used."
