"""The model card: everything on it is read from what was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rerank_plugins.errors import TrainingError
from rerank_plugins.evaluation.report.formatting import interval, number, p_value, plural, signed, signed_interval
from rerank_plugins.evaluation.results import METRICS, Reranked
from rerank_plugins.hub.fidelity_report import describe_shortfall
from rerank_plugins.training.finishing import shown
from rerank_plugins.training.results import Training

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def write_card(training: Training) -> Path:
    """Write ``README.md`` into the model's folder.

    Raises:
        TrainingError: It cannot be written.
    """
    path = training.folder / "README.md"
    try:
        path.write_text(card(training), encoding="utf-8", errors="replace")
    except OSError as exc:
        raise TrainingError(f"{path} cannot be written ({exc}). Make room, and give the same command again.") from exc
    return path


def card(training: Training) -> str:
    """The card as Markdown, with the front matter of the Hugging Face hub."""
    parts = [
        _front_matter(training),
        f"# {training.folder.resolve().name}",
        _summary(training),
        "## Results",
        _results(training),
        "## int8",
        _fidelity(training),
        "## Training",
        _data(training),
        _recipe(training),
        training.development_verdict,
        _curve(training),
        "## Limits",
        _limits(training),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(training: Training) -> str:
    lines = ["---", "library_name: sentence-transformers", "pipeline_tag: text-ranking"]
    # A folder's name is no repository of the hub.
    if _REPOSITORY.fullmatch(training.base) and not Path(training.base).is_dir():
        lines.append(f"base_model: {training.base}")
    return "\n".join([*lines, "tags: [cross-encoder, reranker, rerank-plugins]", "---"])


def _summary(training: Training) -> str:
    taught = f", with {shown(training.teacher)} as its teacher" if training.teacher else ""
    return (
        f"A cross-encoder for reranking, trained from {shown(training.base)} on {training.data.collection}{taught} by "
        f"`rerank-plugins train`. {training.change.verdict}\n\n"
        f"    from rerank_plugins import load_reranker\n"
        f'    load_reranker("{training.folder.resolve().name}").rerank(query, documents, top_n=5)\n\n'
        f'or `CrossEncoder("{training.folder.resolve().name}")` of sentence-transformers.'
    )


def _results(training: Training) -> str:
    evaluation, data = training.evaluation, training.data
    source = (
        f"qrels/{data.test_split}.tsv"
        if data.test_split
        else f"queries held out of qrels/{data.split}.tsv before training"
    )
    ndcg, rr = (evaluation.before.means[metric] for metric in METRICS[:2])
    rows: list[Sequence[str]] = [
        (evaluation.first_stage, "", number(ndcg.mean), interval(ndcg), "", "", "", number(rr.mean))
    ]
    rows += [_row(training, reranked) for reranked in evaluation.rerankers]
    table = _table(
        ("", "computed in", "nDCG@10", "95 % interval", "over the first stage", "95 % interval", "p", "RR@10"), rows
    )
    change = training.change
    return (
        f"{plural(evaluation.queries, 'query', 'queries')} of {data.collection} ({source}), none of them learned "
        f"from. Each order is of the same candidates, the top {evaluation.fetch_k} of {evaluation.first_stage}, which "
        f"hold {evaluation.recall:.1%} of what is relevant. What nobody judged counts as not relevant.\n\n{table}\n\n"
        f"The trained model less {change.compared_with}, query by query: {signed(change.difference.mean)} "
        f"({signed_interval(change.difference)}, p {p_value(change.p_value)}). Intervals are bootstrap intervals over "
        f"queries, p is of a paired randomization test. Computed by {evaluation.machine}."
    )


def _row(training: Training, reranked: Reranked) -> tuple[str, ...]:
    ndcg, rr = (reranked.ranking.means[metric] for metric in METRICS[:2])
    name = "**this model**" if reranked.model == str(training.folder) else shown(reranked.model)
    return (
        name,
        f"{reranked.engine}, {reranked.precision}",
        number(ndcg.mean),
        interval(ndcg),
        signed(reranked.difference.mean),
        signed_interval(reranked.difference),
        p_value(reranked.p_value),
        number(rr.mean),
    )


def _fidelity(training: Training) -> str:
    report = training.fidelity
    ndcg = report["ndcg_at_10"]
    told = f", nDCG@10 {ndcg['before']:.4f} before and {ndcg['after']:.4f} after" if ndcg else ""
    outcome = (
        "It is what `load_reranker` takes by default on processors that multiply int8 exactly."
        if training.int8_is_default
        else f"That is below the floor of fidelity ({describe_shortfall(report)}): it is not used by default; "
        f'`precision="int8"` loads it.'
    )
    return (
        f"`openvino/` has the model for CPUs, in fp32 and in int8. The int8 beside {report['compared_with']}, on "
        f"{report['queries']} of the queries that were learned from: mean Kendall's tau a query "
        f"{report['kendall_tau']['mean']:.3f}, top-5 overlap {report['top_5_overlap']['mean']:.3f}, logits apart by "
        f"{report['logit_difference']['mean']:.2g} on the average{told}. {outcome}"
    )


def _data(training: Training) -> str:
    data = training.data
    left_out = [
        f"{count:,} {why}"
        for count, why in (
            (data.without_relevant, "whose relevant passages are blank or not in the corpus"),
            (data.without_negative, "without a candidate that is not judged relevant"),
            (data.leaking, "that share their text or a relevant passage with a query that is evaluated"),
        )
        if count
    ]
    return (
        f"**Data**: {data.collection}, {plural(data.passages, 'passage', 'passages')}; {data.judged:,} judged queries "
        f"of qrels/{data.split}.tsv and {data.unjudged:,} that nobody judged; {data.development:,} others to choose "
        f"the best step by, and {data.test:,} for the evaluation. Queries that share their text or a relevant passage "
        f"are on one side. Left out: {'; '.join(left_out) or 'none'}."
    )


def _recipe(training: Training) -> str:
    options = training.options
    target = (
        f"{1 - options['teacher_weight']:g} times the judgement and {options['teacher_weight']:g} times the softmax of "
        f"{shown(training.teacher)}'s logits; where nobody judged, the latter alone"
        if training.teacher
        else "the judgement"
    )
    head = " The base had no ranking head and got a new one, of random weights." if training.new_head else ""
    return (
        f"**Recipe**: {shown(training.base)}, all weights.{head} Lists of one relevant passage and others of the top "
        f"{options['top_k']} of {training.evaluation.first_stage}, {options['list_size']} in all, drawn anew in "
        f"each of {plural(options['epochs'], 'epoch', 'epochs')}; cross-entropy of each list (ListNet), whose target "
        f"is {target}. AdamW, learning rate {options['learning_rate']:g} with warm-up, then linear to zero; "
        f"{options['batch_size']} lists a step, {training.steps:,} steps; pairs cut to {options['max_length']} tokens; "
        f"seed {options['seed']}. {training.seconds / 60:.0f} minutes on {training.machine}."
    )


def _curve(training: Training) -> str:
    rows = [
        (
            f"{point.step:,}{' (kept)' if point.step == training.best_step else ''}",
            "" if point.loss is None else number(point.loss),
            f"{point.development:.4f}",
        )
        for point in training.curve
    ]
    return _table(("step", "loss", "development nDCG@10"), rows)


def _limits(training: Training) -> str:
    options = training.options
    return (
        f"Measured on {training.data.collection} alone: what it does to other texts is not known. The best step was "
        f"chosen among {len(training.curve)} on the {training.data.development} development queries, so its "
        f"development nDCG@10 flatters it; the table of results does not. Trained on pairs of up to "
        f"{options['max_length']} tokens; longer ones are read, untried. Scores are ordered, not calibrated: "
        f"`rerank-plugins calibrate` makes probabilities of them. The licence is for you to add: those of the base, of "
        f"the teacher and of the texts bind."
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
