"""The report: one file that stands alone, whatever the collection's texts and however much was measured."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import example_evaluations as examples
from rerank_plugins import InvalidInputError
from rerank_plugins.evaluation.report import formatting, write_report
from rerank_plugins.evaluation.report import page as page_module
from rerank_plugins.evaluation.results import Evaluation, Interval, QueryChange

VOID = {"meta", "br"}
KINDS = ("Quality against latency", "How many candidates are enough", "Gain per query", "Rank changes", "Score distrib")
HOSTILE = "</p></script><script>alert(1)</script> \" ' & \x00 \ud800 \u202e \u05d0 {{ 7 * 7 }} {% raw %}"


class Page(HTMLParser):
    """A page's elements, and its texts between tags; an end tag that closes something else is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = text
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        self.says = " ".join(" ".join(self.texts).split())
        self.labels = [attributes["aria-label"] for _, attributes in self.elements if attributes.get("role") == "img"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without content."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element, with content or void."""
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Its end."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """All between two tags."""
        self.texts.append(data.strip())

    def attributes(self, name: str) -> list[str]:
        """The values of an attribute, of all elements that have it."""
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def page_of(evaluation: Evaluation, folder: Path) -> Page:
    path = folder / "report.html"
    write_report(evaluation, path)
    return Page(path.read_text(encoding="utf-8"))


def with_texts(value: Any, texts: list[str]) -> Any:
    """A copy of a dataclass with its strings replaced by ``texts``, in turn."""
    if isinstance(value, str):
        texts.append(texts.pop(0))
        return texts[-1]
    if isinstance(value, list):
        return [with_texts(one, texts) for one in value]
    if is_dataclass(value):
        return replace(value, **{field.name: with_texts(getattr(value, field.name), texts) for field in fields(value)})
    return value


def with_a_loss(evaluation: Evaluation) -> Evaluation:
    """One of its queries lost everything, so that its texts are shown."""
    first, *others = evaluation.rerankers[0].changes
    changes = [replace(first, before=1.0, after=0.0), *others]
    return replace(evaluation, rerankers=[replace(evaluation.rerankers[0], changes=changes, worse=1)])


@pytest.fixture(scope="module")
def two() -> Evaluation:
    return examples.evaluation(models=("rerank-mini-en", "BAAI/bge-reranker-v2-m3"))


@pytest.fixture(scope="module")
def page(two: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(two, tmp_path_factory.mktemp("report"))


@cache
def plots_of_a_loss() -> tuple[Evaluation, dict[str, Any]]:
    evaluation = with_a_loss(examples.evaluation(queries=3))
    return evaluation, page_module._draw(evaluation)


def test_the_file_stands_alone(page: Page) -> None:
    """The page has no address, script, image or font to fetch, and every reference is to an id of the page."""
    assert not re.search(r"https?:|//\w|@import|@font-face", page.source)
    assert not {"script", "link", "img", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    assert page.attributes("src") == []
    ids = page.attributes("id")
    references = re.findall(r"url\(([^)]*)\)", page.source) + page.attributes("href") + page.attributes("xlink:href")
    assert references
    assert {reference.strip("\"'") for reference in references} <= {f"#{name}" for name in ids}


def test_no_two_plots_share_an_id(page: Page) -> None:
    """All ids of the page differ: a repeated one would clip a plot with the wrong rectangle."""
    ids = page.attributes("id")
    assert len(ids) == len(set(ids)) > 8


def test_every_plot_is_there_and_says_what_it_shows(page: Page, two: Evaluation) -> None:
    """Two plots of all models, three of each; every one is an image with a label, and has its axes' names."""
    expected = [*KINDS[:2], *(f"{kind}, {reranked.model}" for kind in KINDS[2:4] for reranked in two.rerankers)]
    for start in expected:
        assert sum(label.startswith(start) for label in page.labels) == 1
    assert len(page.labels) == 2 + 3 * 2
    for axis in (
        "nDCG@10",
        "median time per query, ms",
        "candidates reranked per query",
        "change of nDCG@10",
        "queries, the largest gain first",
        "rank of the first relevant passage",
        "queries",
        "score",
        "share of 40 relevant candidates, %",
    ):
        assert axis in page.texts


def test_the_table_has_the_numbers(page: Page, two: Evaluation) -> None:
    """Each order's mean with its interval, the change with its own, p, and the times in milliseconds."""
    first = two.rerankers[0]
    quality, times = first.ranking.means["nDCG@10"], sorted(1000 * seconds for seconds in first.seconds.values())
    for shown in (
        f"{two.before.means['nDCG@10'].mean:.3f}",
        f"{quality.mean:.3f}",
        f"{quality.low:.3f} to {quality.high:.3f}",
        f"{first.difference.mean:+.3f}",
        f"{first.difference.low:+.3f} to {first.difference.high:+.3f}",
        "< 0.001",
        f"{(times[19] + times[20]) / 2:.0f}",
        first.verdict,
    ):
        assert shown in page.texts


def test_every_colour_is_defined_for_light_and_for_dark(page: Page) -> None:
    """Page and plots use colours that are defined for light and dark, and no others."""
    light, dark = re.split(r"@media \(prefers-color-scheme: dark\)", page.source, maxsplit=1)
    used = set(re.findall(r"var\((--[\w-]+)\)", page.source))
    assert used
    for scheme in (light, dark):
        assert used <= set(re.findall(r"(--[\w-]+):", scheme))
    assert not re.search(r'(?:fill|stroke)[:=]"? ?#', page.source)


def test_the_same_evaluation_gives_the_same_bytes(tmp_path: Path) -> None:
    """Matplotlib settings of the process change nothing in the report, and stay set."""
    evaluation = examples.evaluation(queries=3)
    write_report(evaluation, tmp_path / "first.html")
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "xtick.direction": "in"}):
        write_report(evaluation, tmp_path / "second.html")
        assert mpl.rcParams["font.size"] == 30
    assert (tmp_path / "first.html").read_bytes() == (tmp_path / "second.html").read_bytes()


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=())) | st.just(HOSTILE), min_size=3, max_size=12))
def test_no_text_breaks_out(texts: list[str]) -> None:
    """Whatever queries, passages and names are, the page has the same elements, can be written, and shows them."""
    evaluation, plots = plots_of_a_loss()
    harmless = Page(page_module._render(evaluation, plots))
    given_texts = with_texts(evaluation, list(texts))
    found = Page(page_module._render(given_texts, plots).encode().decode())
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in harmless.elements]
    change = given_texts.rerankers[0].changes[0]
    for text in (change.query, change.top_before, change.relevant, given_texts.rerankers[0].verdict):
        assert formatting.clean(text).strip() in " ".join(found.texts)


def test_a_hostile_name_of_a_model_is_a_name(tmp_path: Path) -> None:
    """Names of models are in labels and sentences, and never in a plot, where $ or a missing glyph would matter."""
    hostile = f"$x^2 {HOSTILE}"
    page = page_of(examples.evaluation(queries=3, models=(hostile, "中文/重排模型")), tmp_path)
    assert "script" not in {tag for tag, _ in page.elements}
    assert formatting.clean(hostile) in page.texts
    assert "中文/重排模型" in page.texts
    assert any(formatting.clean(hostile) in label for label in page.labels)


def test_a_long_text_is_cut_and_says_how_long_it_is(tmp_path: Path) -> None:
    """Of a passage of 100,000 characters the first 700 are shown, and the number of all."""
    page = page_of(with_texts(with_a_loss(examples.evaluation(queries=3)), ["長" * 100_000]), tmp_path)
    assert f"{'長' * 700} … (100,000 characters in all)" in page.texts


def test_queries_that_lost_most_come_first_and_no_more_than_ten(tmp_path: Path) -> None:
    """Ten a model, the greatest loss first, with what was first before and after and what is relevant."""
    one = examples.evaluation().rerankers[0]
    changes = [
        QueryChange(
            str(n),
            f"query {n}",
            old := 1 - n % 2 / 5,
            old - (15 - n) / 20,
            1,
            4,
            f"before {n}",
            f"after {n}",
            f"relevant {n}",
        )
        for n in range(15)
    ]
    evaluation = replace(examples.evaluation(), rerankers=[replace(one, changes=changes, worse=15)])
    page = page_of(evaluation, tmp_path)
    shown = [text for text in page.texts if re.fullmatch(r"(query|before|after|relevant) \d+", text)]
    assert shown == [f"{what} {n}" for n in range(10) for what in ("query", "before", "after", "relevant")]
    assert "15 queries lost; the ten that lost most" in page.says


def test_rank_changes_are_counted(tmp_path: Path) -> None:
    """Of four queries one rose to the first rank, one fell from it, one stayed, one has no relevant candidate."""
    one = examples.evaluation(queries=3).rerankers[0]
    ranks = ((4, 1), (1, 12), (5, 5), (None, None))
    changes = [QueryChange(str(n), "q", 0.5, 0.5, *rank, "b", "a", "r") for n, rank in enumerate(ranks)]
    page = page_of(replace(examples.evaluation(queries=3), rerankers=[replace(one, changes=changes)]), tmp_path)
    assert (
        "The first passage is relevant for 1 query; before reranking it was for 1. The best-ranked relevant passage "
        "moved up for 1 and down for 1. 1 query has none among the candidates."
    ) in page.says
    assert {"1", "2–3", "4–10", "11–12"} <= set(page.texts)


def test_the_depth_that_is_enough_is_the_first_with_95_percent_of_the_gain(tmp_path: Path) -> None:
    """Of a gain of .2 with 50 candidates, .19 is enough and .189 is not; without a gain there is no such depth."""
    base = examples.evaluation(queries=3, models=("gains", "loses"))
    before = replace(base.before, means={**base.before.means, "nDCG@10": Interval(0.5, 0.5, 0.5)})
    gains, loses = base.rerankers
    gains = replace(gains, by_depth={50: 0.7, 5: 0.689, 10: 0.6901, 20: 0.72})
    loses = replace(loses, by_depth={5: 0.6, 50: 0.5})
    page = page_of(replace(base, before=before, rerankers=[gains, loses]), tmp_path)
    assert "Candidates that 95 % of the gain takes: gains 10 of 50; loses (gains nothing)." in page.says


def test_five_thousand_queries_make_no_large_file(tmp_path: Path) -> None:
    """Plots of many queries have no more elements than those of few."""
    page = page_of(examples.evaluation(queries=5000), tmp_path)
    assert len(page.source.encode()) < 150_000
    assert len(page.elements) < 1500


@pytest.mark.parametrize(
    "evaluation",
    [
        pytest.param(examples.evaluation(queries=1), id="one query"),
        pytest.param(examples.evaluation(gain=0.0), id="all differences zero"),
        pytest.param(examples.evaluation(relevant=False), id="no relevant candidate"),
        pytest.param(examples.evaluation(queries=3, models=tuple("abcdefgh")), id="eight models"),
    ],
)
def test_edges_have_every_plot(evaluation: Evaluation, tmp_path: Path) -> None:
    """A plot without data says so."""
    page = page_of(evaluation, tmp_path)
    assert len(page.labels) == 2 + 3 * len(evaluation.rerankers)
    if not any(relevant for pairs in evaluation.rerankers[0].scores.values() for _, relevant in pairs):
        assert "No query has a relevant passage among its candidates." in page.texts
        assert "nothing to draw" in page.texts
        assert "No candidate is relevant." in page.says
    if evaluation.rerankers[0].better == 0:
        assert "0 queries better, 0 worse, 40 equal." in page.says
        assert "No query lost." in page.says


def test_a_number_that_is_none_is_a_dash(tmp_path: Path) -> None:
    """NaN and infinity are neither shown nor drawn."""
    evaluation = examples.evaluation(queries=3)
    bad = Interval(math.nan, -math.inf, math.inf)
    one = evaluation.rerankers[0]
    one = replace(
        one,
        ranking=replace(one.ranking, means=dict.fromkeys(one.ranking.means, bad)),
        difference=bad,
        p_value=math.nan,
        seconds={"q0": math.inf},
        by_depth={5: math.nan, 10: 0.5},
        changes=[replace(change, after=math.nan) for change in one.changes],
        scores={"q0": [(math.nan, True), (0.5, False)]},
    )
    page = page_of(replace(evaluation, rerankers=[one]), tmp_path)
    shown = page.says + " ".join(page.attributes("d")) + " ".join(page.labels)
    assert not re.search(r"\b(nan|inf|infinity)\b", shown, re.IGNORECASE)
    assert "–" in page.texts


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A missing folder is an error that names the file."""
    with pytest.raises(
        InvalidInputError, match=r"missing.*report\.html cannot be written \(No such file or directory\)"
    ):
        write_report(examples.evaluation(queries=1), tmp_path / "missing" / "report.html")


def test_an_evaluation_of_no_model_is_refused(tmp_path: Path) -> None:
    """An evaluation without rerankers is an error."""
    with pytest.raises(InvalidInputError, match="no reranker"):
        write_report(replace(examples.evaluation(queries=1), rerankers=[]), tmp_path / "report.html")


def test_drawing_opens_no_display() -> None:
    """pyplot, which looks for a display and keeps every figure, is never imported."""
    program = "import sys, rerank_plugins.evaluation.report.page; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
