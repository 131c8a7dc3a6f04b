"""Plots of all models: quality against latency, and how many candidates are enough."""

from __future__ import annotations

from math import isfinite

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from rerank_plugins.evaluation.report._svg import (
    MUTED,
    Plot,
    add_axes,
    new_figure,
    render,
    series_color,
    series_dashes,
    series_marker,
)
from rerank_plugins.evaluation.report.formatting import milliseconds, number
from rerank_plugins.evaluation.results import Evaluation, Interval, Reranked

# The largest ratio of two latencies on a linear axis.
_MAX_RATIO = 20

# The least gain that three decimals show, and the least height of the nDCG axis.
_MIN_GAIN = 0.0005
_MIN_SPAN = 0.05

# The least distance between two ticks, in the units of the plots.
_TICK_DISTANCE = 30


def milliseconds_per_query(reranked: Reranked, percentile: float = 50) -> float:
    """The percentile of the time a query took, in ms; NaN if none was measured."""
    times = [1000 * seconds for seconds in reranked.seconds.values() if isfinite(seconds)]
    return float(np.percentile(times, percentile)) if times else float("nan")


def quality_against_latency(evaluation: Evaluation, prefix: str) -> Plot:
    """One point a model: median ms a query, and mean nDCG@10 with its interval. The first stage is a line."""
    before = evaluation.before.means["nDCG@10"]
    figure = new_figure(320)
    axes = add_axes(figure, x_label="median time per query, ms", y_label="nDCG@10")
    _draw_first_stage(axes, before)
    latencies = []
    for place, reranked in enumerate(evaluation.rerankers):
        x, quality = milliseconds_per_query(reranked), reranked.ranking.means["nDCG@10"]
        if isfinite(x) and isfinite(quality.mean):
            latencies.append(x)
            color = series_color(place)
            axes.plot([x, x], [quality.low, quality.high], color=color, linewidth=2, solid_capstyle="butt")
            axes.plot([x], [quality.mean], color=color, marker=series_marker(place), markersize=10, linestyle="none")
    _latency_axis(axes, latencies)
    _quality_axis(axes, [before, *(reranked.ranking.means["nDCG@10"] for reranked in evaluation.rerankers)])
    return render(figure, prefix, _caption_quality(evaluation))


def _caption_quality(evaluation: Evaluation) -> str:
    """The best and the fastest of several models; the table has all."""
    before = evaluation.before.means["nDCG@10"].mean
    best = max(evaluation.rerankers, key=lambda reranked: reranked.ranking.means["nDCG@10"].mean)
    fastest = min(evaluation.rerankers, key=milliseconds_per_query)
    chosen = {reranked.model: reranked for reranked in (best, fastest)}
    return (
        f"The first stage alone reaches {number(before)}; "
        + ", and ".join(
            f"{model} {number(reranked.ranking.means['nDCG@10'].mean)} "
            f"in {milliseconds(milliseconds_per_query(reranked))} ms"
            for model, reranked in chosen.items()
        )
        + "."
    )


def enough_candidates(evaluation: Evaluation, prefix: str) -> Plot:
    """One line a model: nDCG@10 by the number of candidates that are reranked."""
    before = evaluation.before.means["nDCG@10"]
    depths = sorted({depth for reranked in evaluation.rerankers for depth in reranked.by_depth})
    figure = new_figure(320)
    axes = add_axes(figure, x_label="candidates reranked per query", y_label="nDCG@10")
    _draw_first_stage(axes, Interval(before.mean, before.mean, before.mean))
    for place, reranked in enumerate(evaluation.rerankers):
        line = sorted((depth, mean) for depth, mean in reranked.by_depth.items() if isfinite(mean))
        if line:
            axes.plot(
                *zip(*line, strict=True),
                color=series_color(place),
                marker=series_marker(place),
                markersize=6,
                linewidth=2,
                linestyle=series_dashes(place),
            )
    _depth_axis(axes, depths)
    values = [mean for reranked in evaluation.rerankers for mean in reranked.by_depth.values()]
    _quality_axis(axes, [before, *(Interval(value, value, value) for value in values)])
    return render(figure, prefix, _caption_depth(evaluation))


def _caption_depth(evaluation: Evaluation) -> str:
    before = evaluation.before.means["nDCG@10"].mean
    enough_by_model = {reranked.model: _sufficient_depth(reranked, before) for reranked in evaluation.rerankers}
    if len(evaluation.rerankers) == 1:
        (enough,) = enough_by_model.values()
        return f"95 % of the gain takes {enough} candidates." if enough else "Nothing is gained here."
    depths = "; ".join(f"{model} {enough or '(gains nothing)'}" for model, enough in enough_by_model.items())
    return f"Candidates that 95 % of the gain takes: {depths}."


def _sufficient_depth(reranked: Reranked, before: float) -> str:
    gains = {depth: mean - before for depth, mean in sorted(reranked.by_depth.items()) if isfinite(mean)}
    if not gains or gains[max(gains)] < _MIN_GAIN:
        return ""
    enough = next(depth for depth, gain in gains.items() if gain >= 0.95 * gains[max(gains)])
    return f"{enough:,} of {max(gains):,}"


def _draw_first_stage(axes: Axes, before: Interval) -> None:
    if before.low < before.high:
        axes.axhspan(before.low, before.high, color=MUTED, alpha=0.14, linewidth=0)
    axes.axhline(before.mean, color=MUTED, linewidth=1.5, linestyle=(0, (4, 3)))


def _quality_axis(axes: Axes, values: list[Interval]) -> None:
    """From below the lowest value to above the highest one, and never so narrow that noise looks large."""
    ends = [end for value in values for end in (value.mean, value.low, value.high) if isfinite(end)] or [0.0]
    low, high = min(ends), max(ends)
    margin = max(0.08 * (high - low), (_MIN_SPAN - (high - low)) / 2)
    axes.set_ylim(max(low - margin, -0.02), min(high + margin, 1.02))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))


def _latency_axis(axes: Axes, latencies: list[float]) -> None:
    """Linear from 0, or logarithmic if the slowest model takes many times as long as the fastest."""
    longest, shortest = max(latencies, default=1.0), min(latencies, default=1.0)
    if shortest <= 0 or longest / shortest <= _MAX_RATIO:
        axes.set_xlim(0, 1.12 * longest or 1)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    else:
        axes.set_xscale("log")
        axes.set_xlim(shortest / 1.6, 1.6 * longest)
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}" if value < 1 else f"{value:,.0f}"))


def _depth_axis(axes: Axes, depths: list[int]) -> None:
    """A logarithmic axis with ticks at the depths that were measured, as many as fit."""
    if not depths:
        return
    axes.set_xscale("log", base=2)
    axes.set_xlim(0.8 * depths[0], 1.06 * depths[-1])
    places = axes.transData.transform([(depth, 0) for depth in depths])[:, 0]
    ticks: list[int] = []
    last = float("inf")
    # From the deepest down, so that the depth that is used is never left out.
    for depth, place in sorted(zip(depths, places, strict=True), reverse=True):
        if last - place >= _TICK_DISTANCE:
            ticks.append(depth)
            last = place
    axes.set_xticks(ticks, [f"{depth:,}" for depth in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
