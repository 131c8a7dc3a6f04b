"""What comes after the last step: the model in its place, its int8, and what it is worth beside its base."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rerank_plugins._internal.files import expand
from rerank_plugins.errors import TrainingError
from rerank_plugins.evaluation.results import METRICS, Evaluation
from rerank_plugins.evaluation.significance import interval, p_value
from rerank_plugins.evaluation.verdict import SIGNIFICANT, format_p_value
from rerank_plugins.export import Export, export_model
from rerank_plugins.export.calibration_data import CALIBRATION_PAIRS
from rerank_plugins.training.dataset import Material
from rerank_plugins.training.results import Change, CurvePoint

_COMPARED = 40
_NDCG = METRICS[0]


def publish(best: Path, out: Path) -> None:
    """Copy the model in ``best`` to ``out``, its weights last.

    Raises:
        TrainingError: It cannot be written.
    """
    files = sorted(best.iterdir(), key=lambda file: file.suffix == ".safetensors")
    try:
        for file in files:
            scratch = out / f"{file.name}.part"
            shutil.copyfile(file, scratch)
            scratch.replace(out / file.name)
    except OSError as exc:
        raise TrainingError(
            f"The model cannot be written to {out} ({exc}). It is kept in {best}: make room, and give the same "
            f"command again."
        ) from exc


def export(out: Path, work: Path, material: Material, seed: int, *, progress: bool) -> Export:
    """Make the int8 of the model in ``out``, with ranges and report of queries that were learned from.

    None that is evaluated takes part in it.
    """
    for left in work.glob("export-*"):
        shutil.rmtree(left, ignore_errors=True)  # of one that was killed
    with tempfile.TemporaryDirectory(dir=work, prefix="export-") as scratch:
        texts = _write_texts(Path(scratch) / material.collection.name, material, seed)
        return export_model(out, "int8", calibration=texts, queries=_COMPARED, progress=progress)


def _write_texts(folder: Path, material: Material, seed: int) -> Path:
    """A collection of some training queries with their candidates; numbers for ids, which a table cannot break."""
    judged = [query for query in material.queries if query.relevant] or material.queries
    chosen = random.Random(seed).sample(judged, min(len(judged), CALIBRATION_PAIRS + _COMPARED))  # noqa: S311 - a sample
    found = dict.fromkeys(passage for query in chosen for passage in (*query.relevant, *query.others))
    numbers = {passage: str(number) for number, passage in enumerate(found)}
    texts = {
        "corpus.jsonl": [(number, material.collection.passages[passage]) for passage, number in numbers.items()],
        "queries.jsonl": [(str(number), material.collection.queries[query.id]) for number, query in enumerate(chosen)],
    }
    (folder / "qrels").mkdir(parents=True)
    for name, rows in texts.items():
        lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in rows]
        (folder / name).write_text("".join(lines), encoding="utf-8")
    table = [f"{number}\t{numbers[passage]}\t1\n" for number, query in enumerate(chosen) for passage in query.relevant]
    if table:
        (folder / "qrels" / "test.tsv").write_text("".join(table), encoding="utf-8")
    return folder


def shown(model: str) -> str:
    """What a model is called where others read it: of a folder, its name without the way to it."""
    return expand(model).resolve().name if expand(model).is_dir() else model


def change(evaluation: Evaluation, trained: str, base: str | None, seed: int) -> Change:
    """nDCG@10 of ``trained`` less that of ``base``, query by query; of the first stage with None."""
    rankings = {reranked.model: reranked.ranking for reranked in evaluation.rerankers}
    before = (evaluation.before if base is None else rankings[base]).per_query[_NDCG]
    after = rankings[trained].per_query[_NDCG]
    differences = [after[query] - before[query] for query in before]
    label = evaluation.first_stage if base is None else shown(base)
    mean, p = interval(differences, seed), p_value(differences, seed)
    better, worse = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    told = f"(95 % interval {mean.low:+.3f} to {mean.high:+.3f}, {format_p_value(p)})"
    counts = f"{better} {'query' if better == 1 else 'queries'} got better, {worse} worse, of {len(differences)}."
    if mean.low > 0 and p < SIGNIFICANT:
        verdict = f"Better than {label}: nDCG@10 rises by {mean.mean:.3f} {told}. {counts}"
    elif mean.high < 0 and p < SIGNIFICANT:
        verdict = (
            f"Worse than {label}: nDCG@10 falls by {-mean.mean:.3f} {told}. {counts} Do not use this model here. More "
            f"queries, another base, or a lower learning rate may help."
        )
    else:
        verdict = (
            f"Whether it is better than {label} cannot be told from {len(differences)} queries: nDCG@10 changes by "
            f"{mean.mean:+.3f} {told}. {counts} More judged queries would narrow the interval."
        )
    return Change(label, mean, p, better, worse, verdict)


def development_verdict(curve: Sequence[CurvePoint], best_step: int, queries: int) -> str:
    """What training did to the order of the development queries, in a sentence or two."""
    first, last = curve[0].development, curve[-1]
    best = max(point.development for point in curve)
    if best_step == 0:
        after = max((point.development for point in curve[1:]), default=first)
        return (
            f"Training did not help: no step ordered the {queries} development queries better than the model before "
            f"training (nDCG@10 {first:.4f}, after it {after:.4f} at most). What is kept are the weights it began with."
        )
    told = f"On {queries} development queries nDCG@10 rose from {first:.4f} to {best:.4f} at step {best_step:,}"
    if last.development < first:
        return (
            f"{told}, whose weights are kept, and fell to {last.development:.4f} at the last step, {last.step:,}, "
            f"below the model before training: a lower learning rate may help."
        )
    return f"{told} of {last.step:,}, whose weights are kept."
