"""One whole training: the folder it leaves, the numbers on the card, and the command again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from collections_to_learn import RECIPE
from rerank_plugins import Pair, load_reranker
from rerank_plugins.cli import main
from rerank_plugins.evaluation.report.formatting import number
from rerank_plugins.hub.fidelity_report import read_reports
from rerank_plugins.training import Training

Here = Callable[..., subprocess.CompletedProcess[str]]
PAIRS: list[Pair] = [("what is baked", "bread is baked from flour"), ("what is baked", "the cat sat on the mat")]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    def run_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        given = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["rerank-plugins", *given])
        monkeypatch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(given, int(ended.value.code or 0), *capsys.readouterr())

    return run_here


@pytest.fixture
def command(whole: Training, data: Path) -> list[str | Path]:
    """What was trained, as it is given at the command line."""
    recipe = [str(part) for name, value in RECIPE.items() for part in (f"--{name.replace('_', '-')}", value)]
    return [
        "train", data, "--base", whole.base, "--out", whole.folder, "--run", data.with_suffix(".run"), *recipe,
    ]  # fmt: skip


def test_the_model_is_loaded_by_all_who_load_models(whole: Training) -> None:
    """`load_reranker`, on either engine and in int8, and sentence-transformers give the same order."""
    from sentence_transformers import CrossEncoder

    direct = CrossEncoder(str(whole.folder), device="cpu", local_files_only=True).predict(PAIRS).tolist()
    assert direct[0] > direct[1]
    for engine, precision in (("torch", "fp32"), ("openvino", "fp32"), ("openvino", "int8")):
        with load_reranker(whole.folder, engine=engine, precision=precision, device="cpu") as reranker:  # type: ignore[arg-type]
            found = [reranker.as_score(score) for score in reranker.score(PAIRS)]
        assert found == pytest.approx(direct, abs=0.05 if precision == "int8" else 1e-4)


def test_the_folder_holds_a_model_and_nothing_of_the_texts(whole: Training) -> None:
    """What people hand on; the work beside it holds no checkpoint any more."""
    assert sorted(path.name for path in whole.folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "openvino",
        "tokenizer.json",
        "tokenizer_config.json",
        "work",
    ]
    assert not list((whole.folder / "work").glob("checkpoint-*"))
    assert not list((whole.folder / "work").glob("best-*"))
    texts = [
        path.read_text(errors="replace")
        for path in whole.folder.rglob("*")
        if path.is_file() and path.suffix in {".md", ".json"} and "work" not in path.parts[len(whole.folder.parts) :]
    ]
    assert not [text for text in texts if "bread is baked from flour" in text]


def test_nothing_is_written_into_the_collection(whole: Training, data: Path) -> None:
    """It is read only."""
    del whole
    assert sorted(path.relative_to(data).as_posix() for path in data.rglob("*")) == [
        "corpus.jsonl",
        "qrels",
        "qrels/test.tsv",
        "qrels/train.tsv",
        "queries.jsonl",
    ]


def test_base_and_model_are_evaluated_on_the_same_queries(whole: Training, pupil: Path) -> None:
    """Those of the test split, over the same candidates; the difference is of the two, query by query."""
    base, trained = whole.evaluation.rerankers
    assert (base.model, trained.model) == (str(pupil), str(whole.folder))
    before, after = (one.ranking.per_query["nDCG@10"] for one in (base, trained))
    assert before.keys() == after.keys() == {f"q{number}" for number in range(80, 92)}
    assert set(after.values()) == {1.0}
    mean = sum(after[query] - before[query] for query in after) / len(after)
    assert whole.change.difference.mean == pytest.approx(mean)
    assert whole.change.better == sum(value < 1 for value in before.values())
    assert whole.change.verdict.startswith("Better than pupil: nDCG@10 rises by")


def test_the_card_has_the_measured_numbers(whole: Training) -> None:
    """Every value on it is one of the training's."""
    card = (whole.folder / "README.md").read_text(encoding="utf-8")
    base, trained = whole.evaluation.rerankers
    for name, row in (("pupil", base), (r"\*\*this model\*\*", trained)):
        ndcg, rr = (number(row.ranking.means[metric].mean) for metric in ("nDCG@10", "RR@10"))
        assert re.search(rf"^\| {name} \| {row.engine}, {row.precision} \| {ndcg} \|.*\| {rr} \|$", card, re.MULTILINE)
    assert whole.change.verdict in card
    assert whole.development_verdict in card
    report = read_reports(whole.folder)["int8"]
    assert f"mean Kendall's tau a query {report['kendall_tau']['mean']:.3f}" in card
    for point in whole.curve:
        assert re.search(rf"^\| {point.step}( \(kept\))? \|.*\| {point.development:.4f} \|$", card, re.MULTILINE)
    assert "70 judged queries of qrels/train.tsv and 0 that nobody judged; 10 others" in card
    assert f"learning rate {RECIPE['learning_rate']:g}" in card


def test_the_card_names_no_place_on_this_machine(whole: Training) -> None:
    """Neither the base's folder nor the model's own, and no repository that is none."""
    card = (whole.folder / "README.md").read_text(encoding="utf-8")
    assert str(whole.folder.parent) not in card
    assert str(Path(whole.base).parent) not in card
    assert "base_model" not in card
    assert card.startswith("---\nlibrary_name: sentence-transformers\npipeline_tag: text-ranking\n")


def test_int8_was_not_made_with_queries_that_are_evaluated(whole: Training) -> None:
    """Its report is of queries that were learned from, and is kept beside the model."""
    report = read_reports(whole.folder)["int8"]
    assert report == whole.fidelity
    assert report["texts"] == "bakery"
    assert report["queries"] == report["ndcg_at_10"]["queries"] == 35  # half of the 70


def test_the_same_command_again_computes_nothing(here: Here, command: list[str | Path], whole: Training) -> None:
    """It prints what was measured: before and after, the verdicts, and how to load the model."""
    made = [path for path in whole.folder.rglob("*") if path.suffix in {".safetensors", ".bin"}]
    before = {path: path.stat().st_mtime_ns for path in made}
    done = here(*command)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in made} == before
    assert "bakery: 12 queries that were not learned from" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if "1.000 to 1.000" in line]
    assert rows[0][-5:] == ["1.000", "1.000", "to", "1.000", "1.000"]
    assert whole.change.verdict in done.stdout
    assert whole.development_verdict in done.stdout
    assert f"load_reranker({str(whole.folder)!r})" in done.stdout


def test_json_is_the_whole_training(here: Here, command: list[str | Path], whole: Training) -> None:
    """--json prints one object and nothing else on standard output; the same is kept in work."""
    done = here(*command, "--json")
    found = json.loads(done.stdout)
    assert found == json.loads((whole.folder / "work" / "training.json").read_text())
    assert found["change"]["difference"]["mean"] == whole.change.difference.mean
    assert found["data"]["judged"] == 70
    assert [point["step"] for point in found["curve"]] == [point.step for point in whole.curve]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing", "--base", "{base}"), "missing has no qrels/train.tsv"),
        (("{data}", "--base", "rerank-mini-en"), "rerank-mini-en has no torch weights to train"),
        (("{data}", "--base", "no/such-model"), "The model 'no/such-model' was not found"),
        (("{data}", "--base", "{base}", "--run", "missing.run"), "There is no file missing.run"),
        (("{data}", "--base", "{base}", "--list-size", "1"), "list_size must be a whole number of at least 2"),
        (("{data}", "--base", "{base}", "--teacher", "no/such"), "The model 'no/such' was not found"),
    ],
)
def test_errors_are_one_message_and_status_2(
    here: Here,
    pupil: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    """What a person can get wrong ends with a message that helps, and no traceback; nothing is begun."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    out = tmp_path / "out"
    done = here("train", *(argument.format(base=pupil, data=data) for argument in arguments), "--out", out)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_a_copy_of_the_folder_without_its_work_is_the_model(whole: Training, tmp_path: Path) -> None:
    """What is handed on loads elsewhere."""
    copy = shutil.copytree(whole.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("work"))
    with load_reranker(copy, precision="int8", engine="openvino") as reranker:
        first, _ = reranker.rerank(*[PAIRS[0][0], [text for _, text in PAIRS]])
    assert first.index == 0
