"""The report of an evaluation: one HTML file, without network or script, in light and dark. Extra: ``eval``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from rerank_plugins._internal.files import expand
from rerank_plugins.errors import InvalidInputError, MissingExtraError
from rerank_plugins.evaluation.report import formatting
from rerank_plugins.evaluation.results import Evaluation
from rerank_plugins.evaluation.verdict import outcome

try:
    import jinja2
    import matplotlib.style

    from rerank_plugins.evaluation.report import plots, svg
except ImportError as exc:
    raise MissingExtraError("eval", "The report of an evaluation", str(exc.name)) from exc

# The length of a text in the report, in characters.
_MAX_LENGTH = 700


class _Plot(NamedTuple):
    svg: str
    caption: str


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


def _draw(evaluation: Evaluation) -> dict[str, _Plot]:
    """All plots, by the prefix of their ids."""
    with matplotlib.style.context(svg.STYLE):
        figures = {
            "quality": plots.quality_against_latency(evaluation),
            "depth": plots.enough_candidates(evaluation),
        }
        for number, reranked in enumerate(evaluation.rerankers):
            figures[f"gain-{number}"] = plots.query_gains(reranked)
            figures[f"rank-{number}"] = plots.rank_changes(reranked)
            figures[f"score-{number}"] = plots.score_distribution(reranked)
        return {name: _Plot(svg.render(figure, name), caption) for name, (figure, caption) in figures.items()}


def _render(evaluation: Evaluation, by_prefix: dict[str, _Plot]) -> str:
    return _template().render(
        evaluation=evaluation,
        plots=by_prefix,
        swatches=[svg.draw_swatch(number) for number in range(len(evaluation.rerankers))],
        outcome=outcome,
        milliseconds_per_query=plots.milliseconds_per_query,
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
