"""The models beside each other: quality against latency, and how many candidates are enough."""

from __future__ import annotations

from itertools import pairwise
from math import dist, floor, isfinite, log10

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from rerank_plugins.evaluation.report.formatting import milliseconds, number
from rerank_plugins.evaluation.report.svg import (
    MUTED,
    Plot,
    add_axes,
    finished,
    new_figure,
    series_color,
    series_dashes,
    series_marker,
)
from rerank_plugins.evaluation.results import Evaluation, Interval, Reranked

# Latencies further apart than this share no linear axis.
_WIDE = 20

# What three decimals still show.
_LEAST_GAIN = 0.0005

# The least height of the nDCG axis; and in the plots' units: between ticks, between numbers, around a point.
_LEAST_SPAN = 0.05
_TICK_ROOM = 30
_LINE = 14
_SIDES = ((14, 0), (-14, 0), (13, 12), (13, -12), (-13, 12), (-13, -12), (26, 0), (-26, 0))


def milliseconds_per_query(reranked: Reranked, percentile: float = 50) -> float:
    """The percentile of what a query took, in ms; NaN where none was measured."""
    times = [1000 * seconds for seconds in reranked.seconds.values() if isfinite(seconds)]
    return float(np.percentile(times, percentile)) if times else float("nan")


def quality_against_latency(evaluation: Evaluation, prefix: str) -> Plot:
    """A point a model: median ms a query, mean nDCG@10 with its interval; the first stage is a line from 0 ms on."""
    before = evaluation.before.means["nDCG@10"]
    figure = new_figure(320)
    axes = add_axes(figure, x_label="median time per query, ms", y_label="nDCG@10")
    _first_stage(axes, before)
    points = {}
    for place, reranked in enumerate(evaluation.rerankers):
        x, quality = milliseconds_per_query(reranked), reranked.ranking.means["nDCG@10"]
        if isfinite(x) and isfinite(quality.mean):
            points[place] = (x, quality.mean)
            color = series_color(place)
            axes.plot([x, x], [quality.low, quality.high], color=color, linewidth=2, solid_capstyle="butt")
            axes.plot([x], [quality.mean], color=color, marker=series_marker(place), markersize=10, linestyle="none")
    _latency_axis(axes, [x for x, _ in points.values()])
    _quality_axis(axes, [before, *(reranked.ranking.means["nDCG@10"] for reranked in evaluation.rerankers)])
    if len(evaluation.rerankers) > 1:
        _number_points(axes, points)
    return finished(figure, prefix, _says_quality(evaluation))


def _says_quality(evaluation: Evaluation) -> str:
    """Of several models the best and the fastest: the table has all."""
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
    """A line a model: nDCG@10 by how many candidates are reranked."""
    before = evaluation.before.means["nDCG@10"]
    depths = sorted({depth for reranked in evaluation.rerankers for depth in reranked.by_depth})
    figure = new_figure(320)
    axes = add_axes(figure, x_label="candidates reranked per query", y_label="nDCG@10")
    _first_stage(axes, Interval(before.mean, before.mean, before.mean))
    ends: dict[int, tuple[float, float]] = {}
    for place, reranked in enumerate(evaluation.rerankers):
        line = sorted((depth, mean) for depth, mean in reranked.by_depth.items() if isfinite(mean))
        if line:
            ends[place] = line[-1]
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
    if len(evaluation.rerankers) > 1:
        _number_ends(axes, ends)
    return finished(figure, prefix, _says_depth(evaluation))


def _says_depth(evaluation: Evaluation) -> str:
    before = evaluation.before.means["nDCG@10"].mean
    found = {reranked.model: _enough(reranked, before) for reranked in evaluation.rerankers}
    if len(evaluation.rerankers) == 1:
        (enough,) = found.values()
        return f"95 % of the gain takes {enough} candidates." if enough else "Nothing is gained here."
    listed = "; ".join(f"{model} {enough or '(gains nothing)'}" for model, enough in found.items())
    return f"Candidates that 95 % of the gain takes: {listed}."


def _enough(reranked: Reranked, before: float) -> str:
    gains = {depth: mean - before for depth, mean in sorted(reranked.by_depth.items()) if isfinite(mean)}
    if not gains or gains[max(gains)] < _LEAST_GAIN:
        return ""
    enough = next(depth for depth, gain in gains.items() if gain >= 0.95 * gains[max(gains)])
    return f"{enough:,} of {max(gains):,}"


def _first_stage(axes: Axes, before: Interval) -> None:
    if before.low < before.high:
        axes.axhspan(before.low, before.high, color=MUTED, alpha=0.14, linewidth=0)
    axes.axhline(before.mean, color=MUTED, linewidth=1.5, linestyle=(0, (4, 3)))


def _quality_axis(axes: Axes, shown: list[Interval]) -> None:
    """From a little below the lowest to a little above the highest, and never so close that noise looks large."""
    ends = [end for value in shown for end in (value.mean, value.low, value.high) if isfinite(end)] or [0.0]
    low, high = min(ends), max(ends)
    margin = max(0.08 * (high - low), (_LEAST_SPAN - (high - low)) / 2)
    axes.set_ylim(max(low - margin, -0.02), min(high + margin, 1.02))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))


def _latency_axis(axes: Axes, latencies: list[float]) -> None:
    """From 0; where the slowest takes many times the fastest, tenfold from tick to tick beyond the first."""
    longest, shortest = max(latencies, default=1.0), min(latencies, default=1.0)
    formatter = FuncFormatter(lambda value, _: f"{value:,g}" if value < 1 else f"{value:,.0f}")
    if shortest <= 0 or longest / shortest <= _WIDE:
        axes.set_xlim(0, 1.12 * longest or 1)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    else:
        first = floor(log10(shortest))
        axes.set_xscale("symlog", linthresh=10.0**first, linscale=0.5)
        axes.set_xlim(0, 1.6 * longest)
        axes.xaxis.set_major_locator(
            FixedLocator([0, *(10.0**power for power in range(first, floor(log10(longest)) + 1))])
        )
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(formatter)


def _depth_axis(axes: Axes, depths: list[int]) -> None:
    """Ticks at the depths that were measured, as many as have room; each doubling as wide as the one before."""
    if not depths:
        return
    axes.set_xscale("symlog", base=2, linthresh=1, linscale=1)
    axes.set_xlim(max(0.8 * depths[0], 0) if depths[0] else -0.1, 1.06 * depths[-1])
    axes.xaxis.set_minor_locator(NullLocator())
    places = axes.transData.transform([(depth, 0) for depth in depths])[:, 0]
    ticks: list[int] = []
    room = float("inf")
    # From the deepest down, which is what people run and so is never the one left out.
    for depth, place in sorted(zip(depths, places, strict=True), reverse=True):
        if room - place >= _TICK_ROOM:
            ticks.insert(0, depth)
            room = place
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{depth:,}" for depth in ticks]))


def _number_points(axes: Axes, points: dict[int, tuple[float, float]]) -> None:
    """The model's number beside each point, on the first side where nothing else is."""
    centres = {place: tuple(axes.transData.transform(point)) for place, point in points.items()}
    taken = list(centres.values())
    for place, (x, y) in centres.items():
        free = (
            (across, up) for across, up in _SIDES if all(dist((x + across, y + up), other) >= 13 for other in taken)
        )
        across, up = next(free, _SIDES[0])
        taken.append((x + across, y + up))
        _write_number(axes, place, points[place], (across, up))


def _number_ends(axes: Axes, ends: dict[int, tuple[float, float]]) -> None:
    """The model's number right of each line's end; close ones are moved apart."""
    heights = {place: axes.transData.transform(end)[1] for place, end in ends.items()}
    order = sorted(heights, key=heights.__getitem__)
    placed = dict(heights)
    for lower, upper in pairwise(order):
        placed[upper] = max(placed[upper], placed[lower] + _LINE)
    surplus = max((placed[place] - heights[place] for place in order), default=0) / 2
    for place in order:
        _write_number(axes, place, ends[place], (13, placed[place] - surplus - heights[place]))


def _write_number(axes: Axes, place: int, point: tuple[float, float], offset: tuple[float, float]) -> None:
    axes.annotate(
        str(place + 1),
        point,
        offset,
        textcoords="offset points",
        ha="center",
        va="center",
        weight="bold",
        color=series_color(place),
        annotation_clip=False,
    )
