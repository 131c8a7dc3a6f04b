"""One HTML file that shows what an evaluation found: no network, no script, light and dark. Extra: ``eval``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rerank_plugins.errors import InvalidInputError, MissingExtraError

try:
    import jinja2

    from rerank_plugins.evaluation.report.plots import (
        enough_candidates,
        milliseconds_per_query,
        quality_against_latency,
    )
    from rerank_plugins.evaluation.report.query_plots import query_gains, score_distribution
    from rerank_plugins.evaluation.report.rank_flow import rank_changes
    from rerank_plugins.evaluation.report.svg import plot_style, swatch
except ImportError as exc:
    raise MissingExtraError("eval", "The report of an evaluation", str(exc.name)) from exc
from rerank_plugins._internal.files import expand
from rerank_plugins.evaluation.report import formatting as wording
from rerank_plugins.evaluation.results import Evaluation, Interval, QueryChange, Reranked
from rerank_plugins.evaluation.verdict import SIGNIFICANT

# Queries with their texts for each model, and characters of each text.
_LOSSES = 10
_LENGTH = 700


@dataclass(frozen=True, slots=True)
class _Figure:
    """A plot and what stands around it. ``model`` is the number of the model it is about; None is all of them."""

    title: str
    svg: str
    says: str
    model: int | None = None


@dataclass(frozen=True, slots=True)
class _Section:
    """Plots of one kind, and how to read them."""

    title: str
    reading: str
    figures: list[_Figure]


@dataclass(frozen=True, slots=True)
class _Drawings:
    """What matplotlib drew. No text of the collection is in it."""

    overview: list[_Figure]
    by_model: list[_Section]
    swatches: list[str]


def write_report(evaluation: Evaluation, path: str | Path) -> None:
    """Write the report of ``evaluation`` to ``path``, over what is there; the same evaluation gives the same bytes.

    Every plot shows the same values as the dataclasses; with more than 400 queries the sorted gains are thinned evenly.
    Of the queries that lost most, ten a model come with the first 700 characters of their texts.

    Raises:
        InvalidInputError: ``path`` cannot be written, or ``evaluation`` has no reranker.
    """
    if not evaluation.rerankers:
        raise InvalidInputError("evaluation has no reranker, expected one or more. Evaluate a model first.")
    page = _filled(evaluation, _drawn(evaluation))
    try:
        expand(path).write_bytes(page.encode())
    except OSError as exc:
        raise InvalidInputError(
            f"{path} cannot be written ({exc.strerror or exc}). Give a file in a folder that is there and may be "
            f"written to."
        ) from exc


def _drawn(evaluation: Evaluation) -> _Drawings:
    with plot_style():
        return _Drawings(
            overview=_overview(evaluation),
            by_model=_by_model(evaluation),
            swatches=[swatch(place) for place in range(len(evaluation.rerankers))],
        )


def _filled(evaluation: Evaluation, drawings: _Drawings) -> str:
    return _template().render(
        evaluation=evaluation,
        overview=drawings.overview,
        by_model=drawings.by_model,
        swatches=drawings.swatches,
        outcome=_outcome,
        milliseconds_per_query=milliseconds_per_query,
        lost_by=_lost,
        length=_LENGTH,
    )


@cache
def _template() -> jinja2.Template:
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("rerank_plugins.evaluation.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        # Not what is escaped already, which is a str of another type.
        finalize=lambda value: wording.clean(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("counted", "cut", "interval", "milliseconds", "number", "p_value", "signed", "signed_interval")
    pages.filters |= {name: getattr(wording, name) for name in names}
    return pages.get_template("report.html.jinja")


def _overview(evaluation: Evaluation) -> list[_Figure]:
    quality = quality_against_latency(evaluation, "quality")
    depth = enough_candidates(evaluation, "depth")
    return [
        _Figure("Quality against latency", quality.svg, quality.says),
        _Figure("How many candidates are enough", depth.svg, depth.says),
    ]


def _by_model(evaluation: Evaluation) -> list[_Section]:
    models = list(enumerate(evaluation.rerankers))
    gains = [(place, query_gains(reranked, f"gain-{place}")) for place, reranked in models]
    ranks = [(place, rank_changes(reranked.changes, evaluation.top_k, f"rank-{place}")) for place, reranked in models]
    scores = [(place, score_distribution(reranked, f"score-{place}")) for place, reranked in models]
    return [
        _Section(
            "Gain per query",
            "Every query is one bar: how much its nDCG@10 changed, the largest gain first. Bars above the line gained, "
            "bars below lost. A mean can hide that a few queries pay for the others; this plot cannot.",
            [_Figure("Gain per query", plot.svg, plot.says, place) for place, plot in gains],
        ),
        _Section(
            "Rank changes",
            "Where the best-ranked relevant passage of each query was before reranking, and where it is after. "
            "A band is as wide as it has queries; bands that rise moved up.",
            [_Figure("Rank changes", plot.svg, plot.says, place) for place, plot in ranks],
        ),
        _Section(
            "Scores",
            "The scores of the candidates that are judged relevant, and of all others. The further apart the two "
            "lie, the better one threshold serves all queries.",
            [_Figure("Score distribution", plot.svg, plot.says, place) for place, plot in scores],
        ),
    ]


def _outcome(difference: Interval, p_value: float) -> str:
    """``better``, ``worse`` or ``open``: what colour and sign stand beside the verdict."""
    if p_value >= SIGNIFICANT:
        return "open"
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "open"


def _lost(reranked: Reranked) -> list[QueryChange]:
    """Those that lost, the greatest loss first; equal losses keep their order."""
    lost = [change for change in reranked.changes if change.after < change.before]
    return sorted(lost, key=lambda change: change.after - change.before)
