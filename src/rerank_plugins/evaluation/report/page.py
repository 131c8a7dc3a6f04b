"""The report of an evaluation: one HTML file, without network or script, in light and dark. Extra: ``eval``."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rerank_plugins.errors import InvalidInputError, MissingExtraError

try:
    import jinja2

    from rerank_plugins.evaluation.report._plots import (
        enough_candidates,
        milliseconds_per_query,
        quality_against_latency,
    )
    from rerank_plugins.evaluation.report._query_plots import query_gains, rank_changes, score_distribution
    from rerank_plugins.evaluation.report._svg import Plot, plot_style, swatch
except ImportError as exc:
    raise MissingExtraError("eval", "The report of an evaluation", str(exc.name)) from exc
from rerank_plugins._internal.files import expand
from rerank_plugins.evaluation.report import formatting
from rerank_plugins.evaluation.results import Evaluation, Interval, QueryChange, Reranked
from rerank_plugins.evaluation.verdict import SIGNIFICANT

__all__ = ["write_report"]

# The length of a text in the report, in characters.
_MAX_LENGTH = 700


def write_report(evaluation: Evaluation, path: str | Path) -> None:
    """Write the report of ``evaluation`` to ``path``, replacing the file; the same evaluation gives the same bytes.

    Every plot shows the values of the dataclasses; with more than 400 queries the sorted gains are thinned evenly. The
    ten queries a model with the largest losses are shown with the first 700 characters of their texts.

    Raises:
        InvalidInputError: ``path`` cannot be written, or ``evaluation`` has no reranker.
    """
    if not evaluation.rerankers:
        raise InvalidInputError("evaluation has no reranker, expected one or more. Evaluate a model first.")
    page = _render(evaluation, _draw(evaluation))
    try:
        expand(path).write_bytes(page.encode())
    except OSError as exc:
        raise InvalidInputError(
            f"{path} cannot be written ({exc.strerror or exc}). Give a file in a folder that exists and can be "
            f"written to."
        ) from exc


def _draw(evaluation: Evaluation) -> dict[str, Plot]:
    """All plots, by the prefix of their ids. They hold no text of the collection."""
    with plot_style():
        plots = {
            "quality": quality_against_latency(evaluation, "quality"),
            "depth": enough_candidates(evaluation, "depth"),
        }
        for number, reranked in enumerate(evaluation.rerankers):
            plots[f"gain-{number}"] = query_gains(reranked, f"gain-{number}")
            plots[f"rank-{number}"] = rank_changes(reranked.changes, f"rank-{number}")
            plots[f"score-{number}"] = score_distribution(reranked, f"score-{number}")
        return plots


def _render(evaluation: Evaluation, plots: dict[str, Plot]) -> str:
    return _template().render(
        evaluation=evaluation,
        plots=plots,
        swatches=[swatch(number) for number in range(len(evaluation.rerankers))],
        outcome=_outcome,
        milliseconds_per_query=milliseconds_per_query,
        losses_of=_losses,
        length=_MAX_LENGTH,
    )


@cache
def _template() -> jinja2.Template:
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("rerank_plugins.evaluation.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        # Markup, which is escaped already, is a subclass of str and stays as it is.
        finalize=lambda value: formatting.clean(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("cut", "interval", "milliseconds", "number", "p_value", "plural", "signed", "signed_interval")
    pages.filters |= {name: getattr(formatting, name) for name in names}
    return pages.get_template("report.html.jinja")


def _outcome(difference: Interval, p_value: float) -> str:
    """``better``, ``worse`` or ``open``, which choose the colour and the sign of a verdict."""
    if p_value >= SIGNIFICANT:
        return "open"
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "open"


def _losses(reranked: Reranked) -> list[QueryChange]:
    """The queries that lost, the largest loss first; equal losses keep their order."""
    losses = [change for change in reranked.changes if change.after < change.before]
    return sorted(losses, key=lambda change: change.after - change.before)
