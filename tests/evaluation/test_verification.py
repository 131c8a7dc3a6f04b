"""Whether an installation computes the published scores: what passes, what fails, and the messages."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from doc_pages import DOCS, names_left_by
from rerank_plugins import InvalidInputError, Pair, Reranker, Scale
from rerank_plugins.cli import app
from rerank_plugins.evaluation.verification import (
    PUBLISHED,
    TOLERANCE,
    Computed,
    PublishedScore,
    published_name,
    verify,
)
from stand_in_models import PASSAGES, QUERIES

if TYPE_CHECKING:
    from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

PRECISIONS: tuple[Computed, ...] = get_args(Computed)
NAME = "bge-reranker-v2-m3"


def coarser(published: PublishedScore, computed: Computed) -> float:
    return TOLERANCE[max(published.precision, computed, key=PRECISIONS.index)][published.scale]


class GivesPublished:
    """Gives every published score, moved by ``noise`` tolerances, on the given scale."""

    def __init__(self, name: str, computed: Computed, scale: Scale, noise: list[float]) -> None:
        self.scale = scale
        moved = zip(PUBLISHED[name], noise, strict=False)
        self.scores = {(one.query, one.passage): self._moved(one, by * coarser(one, computed)) for one, by in moved}

    def _moved(self, published: PublishedScore, by: float) -> float:
        score = published.score + by
        if published.scale == "logit":
            return score if self.scale == "logit" else 1 / (1 + math.exp(-score))
        score = min(max(score, 1e-9), 1 - 1e-9)
        return score if self.scale == "probability" else math.log(score / (1 - score))

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One score a pair."""
        return [self.scores[pair] for pair in pairs]


noise = st.lists(st.floats(-0.99, 0.99), min_size=11, max_size=11)
computed_in = st.sampled_from(PRECISIONS)
scales = st.sampled_from(get_args(Scale))
names = st.sampled_from(sorted(PUBLISHED))


@given(names, computed_in, scales, noise)
def test_scores_within_their_tolerance_pass(name: str, computed: Computed, scale: Scale, noise: list[float]) -> None:
    """Scores within the tolerances pass on either scale, and so do their orders."""
    result = verify(Reranker(GivesPublished(name, computed, scale, noise)), name, precision=computed)
    assert result.ok
    assert all(one.ok for one in (*result.scores, *result.orders))


@given(names, computed_in, scales, noise, st.integers(0, 10), st.floats(1.01, 3))
def test_one_score_beyond_its_tolerance_is_found(
    name: str,
    computed: Computed,
    scale: Scale,
    noise: list[float],
    at: int,
    factor: float,
) -> None:
    """It fails the whole, and it is the one that is marked."""
    at %= len(PUBLISHED[name])
    published = PUBLISHED[name][at]
    # Towards the middle, where there is room on both scales.
    middle = 0 if published.scale == "logit" else 0.5
    noise[at] = factor if published.score < middle else -factor
    result = verify(Reranker(GivesPublished(name, computed, scale, noise)), name, precision=computed)
    assert not result.ok
    assert [one.ok for one in result.scores] == [place != at for place in range(len(result.scores))]


def test_passages_that_changed_places_are_found() -> None:
    """If the best passage of a query scores lowest, the order fails, and both orders are in the result."""
    scorer = GivesPublished(NAME, "fp32", "logit", [0.0] * 11)
    best, worst = PUBLISHED[NAME][4], PUBLISHED[NAME][5]
    one, other = ((published.query, published.passage) for published in (best, worst))
    scorer.scores[one], scorer.scores[other] = scorer.scores[other], scorer.scores[one]
    result = verify(Reranker(scorer), NAME)
    assert [order.ok for order in result.orders] == [True, False, True]
    assert result.orders[1].published[0] == best.passage
    assert result.orders[1].here[0] == worst.passage


def test_a_scorer_that_says_nothing_is_held_to_fp32() -> None:
    """The strictest tolerances apply where no precision is known: half a tolerance of bf16 is too much."""
    moved = GivesPublished("bge-reranker-base", "bf16", "logit", [0.5] * 6)
    assert verify(Reranker(moved), "bge-reranker-base", precision="bf16").ok
    result = verify(Reranker(moved), "bge-reranker-base")
    assert result.precision == "fp32"
    assert [one.ok for one in result.scores] == [False, False, True, True, True, True]


def test_a_probability_of_one_has_a_finite_logit() -> None:
    """A score of exactly 1 differs by a finite number, because JSON has no infinity."""

    class Sure:
        scale: Scale = "probability"

        def score(self, pairs: list[Pair], /) -> list[float]:
            return [1.0 for _ in pairs]

    assert all(math.isfinite(one.difference) for one in verify(Reranker(Sure()), NAME).scores)


def test_the_table_is_whole() -> None:
    """Every score lies on its scale, with a precision that has tolerances, and a source; no pair is there twice."""
    for scores in PUBLISHED.values():
        assert len({(one.query, one.passage) for one in scores}) == len(scores)
        for one in scores:
            assert one.precision in TOLERANCE
            assert one.source
            assert one.scale == "logit" or 0 <= one.score <= 1


@pytest.mark.parametrize("model", ["BAAI/bge-reranker-v2-m3", "models/bge-reranker-v2-m3", "bge-reranker-v2-m3/"])
def test_the_last_part_of_a_name_says_which_scores_apply(model: str) -> None:
    """For names on the hub and for folders; a folder of another name needs --as."""
    assert published_name(model) == NAME
    assert published_name("exported-int8", NAME) == NAME


@pytest.mark.parametrize(("model", "given"), [("rerank-mini-en", None), ("bge-reranker-v2-m3", "bge")])
def test_a_model_without_published_scores_is_an_error_that_lists_those_with(model: str, given: str | None) -> None:
    """The message lists them, and says how to apply one to a folder."""
    with pytest.raises(InvalidInputError, match=r"bge-reranker-v2-m3, bge-reranker-base, .*--as bge-reranker-v2-m3"):
        published_name(model, given)


def test_unknown_names_and_precisions_are_errors_that_list_the_known_ones() -> None:
    """Both arguments are checked before anything is scored."""
    scorer = GivesPublished(NAME, "fp32", "logit", [])
    with pytest.raises(InvalidInputError, match="no published scores of 'bge', only of bge-reranker-v2-m3"):
        verify(Reranker(scorer), "bge")
    with pytest.raises(InvalidInputError, match="precision must be one of fp32, fp16, bf16, int8; got 'auto'"):
        verify(Reranker(scorer), NAME, precision="auto")  # type: ignore[arg-type]


def test_random_weights_under_the_right_name_fail_loudly(bert_folder: Path, tmp_path: Path) -> None:
    """The exit status is 1, the table marks what is off, and standard error says what to check."""
    folder = tmp_path / NAME
    folder.symlink_to(bert_folder)
    done = CliRunner().invoke(app, ["verify", str(folder), "--precision", "fp32", "--device", "cpu"])
    assert done.exit_code == 1, done.output
    assert "bge-reranker-v2-m3: openvino, fp32 on cpu" in done.stdout
    assert "off" in done.stdout
    assert "does not compute what was published for bge-reranker-v2-m3: 1" in done.stderr
    advice = ("another model, or a damaged file", "hf download BAAI/bge-reranker-v2-m3", 'precision="fp32"')
    for part in (*advice, 'the reference is --engine torch (engine="torch" in Python)', "rerank-plugins doctor"):
        assert part in done.stderr


def test_json_has_every_number(bert_folder: Path) -> None:
    """One object: what was compared, how, and whether it is right; the engine is the one that was asked for."""
    arguments = ["verify", str(bert_folder), "--as", "bge-reranker-base", "--engine", "torch", "--device", "cpu"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 1
    printed = json.loads(done.stdout)
    assert (printed["ok"], printed["engine"], printed["precision"]) == (False, "torch", "fp32")
    first = printed["scores"][0]
    assert first["published"]["score"] == 6.15733337
    assert first["difference"] == pytest.approx(first["here"] - 6.15733337)
    assert [order["query"] for order in printed["orders"]] == [
        "What is the capital of France?",
        "Which planet is known as the Red Planet?",
    ]


def test_a_real_model_that_gives_its_published_scores_ends_with_0(
    bert_openvino: CrossEncoderScorer, bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that OpenVINO computed are the published ones for the torch engine, and the command says so."""
    pairs = [(query, passage) for query in QUERIES for passage in PASSAGES]
    scores = bert_openvino.score(pairs)
    table = [PublishedScore(*pair, score, "logit", "fp32", "a test") for pair, score in zip(pairs, scores, strict=True)]
    monkeypatch.setitem(PUBLISHED, bert_folder.name, tuple(table))
    done = CliRunner().invoke(app, ["verify", str(bert_folder), "--engine", "torch", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "All 20 scores are what was published." in done.stdout
    assert done.stdout.count("order as published") == len(QUERIES)
    assert "What to look at" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rerank-mini-en",), "no published scores of 'rerank-mini-en'"),
        (("rerank-mini-en", "--as", NAME, "--precision", "half"), "half"),
        (("rerank-mini-en", "--as", NAME, "--engine", "onnx"), "onnx"),
        ((os.devnull + "/" + NAME,), "was not found"),
    ],
)
def test_what_a_person_can_get_wrong_is_our_error(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An InvalidInputError, which `rerank-plugins` turns into a message and status 2 (see tests/cli/test_cli.py)."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = CliRunner().invoke(app, ["verify", *arguments])
    assert message in f"{done.exception}{done.output}"


def test_the_page_runs_as_it_stands() -> None:
    """The code of docs/verify.md prints that the bundled model is not bge-reranker-base, and six scores."""
    printed = names_left_by("verify.md")["printed"]
    assert printed[0] == "False"
    assert len(printed) == 1 + len(PUBLISHED["bge-reranker-base"])


def test_the_page_gives_the_tolerances_that_apply() -> None:
    """Its table has the numbers of the code."""
    page = (DOCS / "verify.md").read_text(encoding="utf-8")
    for precision, tolerance in TOLERANCE.items():
        assert f"| {precision} | {tolerance['logit']} | {tolerance['probability']} |" in page
