"""Queries whose keywords mislead: the texts, the three orders, and what is shown of them."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from doc_pages import DOCS
from rerank_plugins import InvalidInputError, Reranker
from rerank_plugins.cli import app
from rerank_plugins.demo import traps
from rerank_plugins.demo.traps import Language, Trap
from rerank_plugins.retrieval.language import is_chinese
from rerank_plugins.testing import WordOverlap

SMALL = Trap("a", "en", "homonym", "red apple", "", ("green pear", "a red apple", "red car"), (1,))


def console() -> tuple[Console, io.StringIO]:
    printed = io.StringIO()
    return Console(file=printed, width=120), printed


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_trap_has_one_or_two_right_passages_none_of_them_first(language: Language) -> None:
    """Six traps a language, five or six passages each; in their own language; a tie solves none of them."""
    found = traps.read_traps(language)
    assert len({trap.id for trap in found}) == 6
    assert {trap.kind for trap in found} == {"homonym", "negation", "synonym", "number"}
    for trap in found:
        assert 5 <= len(set(trap.passages)) == len(trap.passages) <= 6
        assert 1 <= len(set(trap.right)) <= 2
        assert 0 < min(trap.right) <= max(trap.right) < len(trap.passages)
        assert is_chinese(trap.query) is (language == "zh")
        assert trap.note


def test_words_mislead_in_every_trap() -> None:
    """Each right passage has fewer of the query's terms than some wrong one: there is a trap to fall into."""
    for trap in (*traps.read_traps("en"), *traps.read_traps("zh")):
        asked = set(traps.split_terms(trap.query))
        shared = [len(asked & set(traps.split_terms(passage))) for passage in trap.passages]
        wrong = max(count for place, count in enumerate(shared) if place not in trap.right)
        assert max(shared[place] for place in trap.right) < wrong


def test_terms_are_words_and_pairs_of_chinese_characters() -> None:
    """Punctuation is left out; a single Chinese character is a term."""
    assert traps.split_terms("The iPhone_15 Pro's 钛合金边框, 新!") == [
        *("the", "iphone", "15", "pro", "s", "钛合", "合金", "金边", "边框", "新")
    ]


@settings(max_examples=25)  # an index is made for each
@given(st.text(), st.lists(st.text(), min_size=1, max_size=4))
def test_bm25_orders_any_text(query: str, passages: list[str]) -> None:
    """Whatever the texts are, every passage has a finite score and one place."""
    words = Trap("b", "en", "number", query, "", (*passages, "word"), (1,))
    (order,) = traps.order_by_bm25([words])
    assert sorted(order.positions) == list(range(len(words.passages)))
    assert all(0 <= score < float("inf") for score in order.scores)


def test_bm25_prefers_shared_words_and_ties_stay_in_order() -> None:
    """The passage with both words first; without one in common all have 0 and keep their places."""
    first, second = traps.order_by_bm25([SMALL, Trap("c", "en", "number", "nothing known", "", ("x", "y"), (1,))])
    assert first.positions == (1, 2, 0)
    assert first.scores[0] == 0
    assert (second.positions, second.scores) == ((0, 1), (0, 0))


def test_each_trap_gets_its_own_order() -> None:
    """Of several traps each one's passages are ordered for its query."""
    other = Trap("d", "en", "synonym", "blue car", "", ("red train", "a train", "the car", "a blue car"), (3,))
    for orders in (
        traps.order_by_bm25([SMALL, other]),
        traps.order_by_reranker([SMALL, other], Reranker(WordOverlap())),
    ):
        assert [order.positions for order in orders] == [(1, 2, 0), (3, 2, 0, 1)]


def test_the_rerankers_order_is_taken_as_it_is() -> None:
    """Positions best first, scores in the order of the trap, and whether the first one answers."""
    (order,) = traps.order_by_reranker([SMALL], Reranker(WordOverlap()))
    assert order.positions == (1, 2, 0)
    assert order.scores == pytest.approx((0.018, 0.982, 0.5), abs=1e-3)
    outcome = traps.Outcome(SMALL, order, traps.Order((0, 1, 2), (1, 0, 0), 0.0), order)
    assert [outcome.is_solved(stage) for stage in traps.STAGES] == [True, False, True]
    assert traps.summarize([outcome])["embedding"] == {"solved": 0, "traps": 1, "milliseconds": 0.0}


@pytest.mark.parametrize(
    ("language", "model", "languages", "said"),
    [
        ("en", "rerank-mini-en", ["en"], ""),
        ("all", "rerank-mini-en", ["en"], "The Chinese traps are left out; --language zh shows them all the same."),
        ("zh", "rerank-mini-en", ["zh"], "rerank-mini-en reads English only; its scores for Chinese mean nothing."),
        ("all", "BAAI/bge-reranker-v2-m3", ["en", "zh"], "embed-static-en knows Chinese by single characters only"),
    ],
)
def test_chinese_is_left_out_where_it_is_not_read(language: str, model: str, languages: list[str], said: str) -> None:
    """Chinese traps are left out for an English model unless asked for by name, always with a warning."""
    screen, printed = console()
    assert traps.choose_languages(language, model, "embed-static-en", screen) == languages
    assert said in printed.getvalue().replace("\n", " ")
    assert bool(said) is bool(printed.getvalue())


def test_another_language_is_an_error_before_anything_is_loaded() -> None:
    """The error lists the languages."""
    with pytest.raises(InvalidInputError, match="language must be one of en, zh, all; got 'fr'"):
        traps.run_traps("fr", "no/such-model", "no/such-embedder", console()[0])


def test_a_narrow_terminal_shows_what_is_right() -> None:
    """The passage is shortened to the width, in Chinese too; the mark and the numbers are not."""
    trap = traps.read_traps("zh")[0]
    order = traps.Order(tuple(range(len(trap.passages))), (1.0,) * len(trap.passages), 0.0)
    printed = io.StringIO()
    traps.show_outcome(Console(file=printed, width=60), traps.Outcome(trap, order, order, order))
    (right,) = [line for line in printed.getvalue().splitlines() if "✓" in line]
    assert "1.000 ████████████ ✓ iPhone" in right
    assert "…" in right


def test_a_trap_shows_three_places_a_bar_and_what_is_right() -> None:
    """Passages stand as the reranker has them; BM25 has no place for one without a word of the query."""
    (bm25,), (order,) = traps.order_by_bm25([SMALL]), traps.order_by_reranker([SMALL], Reranker(WordOverlap()))
    screen, printed = console()
    traps.show_outcome(screen, traps.Outcome(SMALL, bm25, traps.Order((2, 1, 0), (0, 1, 2), 0.002), order))
    lines = printed.getvalue().splitlines()
    assert "red apple (homonym)" in lines[0]
    cells = [line.split() for line in lines if re.match(r"\s+\d ", line)]
    assert [(row[0], row[1], row[2], row[3]) for row in cells] == [
        ("1", "1", "2", "0.982"),
        ("2", "2", "1", "0.500"),
        ("3", "-", "3", "0.018"),
    ]
    assert "████████████" in cells[0]
    assert "✓" in cells[0]
    assert "✓" not in cells[1]
    assert "embedding 2.0 ms" in printed.getvalue()
    assert "fell into it: embedding" in printed.getvalue()


def test_json_counts_the_traps_that_each_stage_solves() -> None:
    """docs/traps.md has the counts that `rerank-plugins traps --json` prints."""
    done = CliRunner().invoke(app, ["traps", "--json"])
    assert done.exit_code == 0, done.output
    assert "left out" in done.stderr
    printed = json.loads(done.stdout)
    page = (DOCS / "traps.md").read_text(encoding="utf-8")
    assert [row["trap"]["language"] for row in printed["outcomes"]] == ["en"] * 6
    for stage, name in (("bm25", "BM25"), ("embedding", "`embed-static-en`"), ("reranking", "`rerank-mini-en`")):
        solved = sum(row["solved"][stage] for row in printed["outcomes"])
        assert printed["summary"][stage]["solved"] == solved
        assert f"| {name} | {solved} of 6 |" in page


@pytest.mark.slow  # the choice is shown above, and the command in English
def test_chinese_asked_for_by_name_is_shown_with_a_warning() -> None:
    """All six, by the bundled model too, which says that its scores mean nothing."""
    done = CliRunner().invoke(app, ["traps", "--language", "zh"])
    assert done.exit_code == 0, done.output
    assert "reads English only" in done.stderr
    assert "苹果公司最新发布的手机" in done.stdout
    assert done.stdout.count("reranking ") >= 6
    assert re.search(r"BM25 .*\d of 6", done.stdout)
