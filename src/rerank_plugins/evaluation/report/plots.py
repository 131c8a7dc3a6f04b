"""The plots of a report, each with a caption that says the same in words. They hold no text of the collection."""

from __future__ import annotations

from math import isfinite, nan
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from rerank_plugins.evaluation.report.formatting import milliseconds, number, plural, signed
from rerank_plugins.evaluation.report.svg import DOWN, INK, MUTED, SAME, UP, add_axes, new_figure, series_style
from rerank_plugins.evaluation.results import METRICS, Evaluation, Interval, Reranked

_NDCG = METRICS[0]

# The largest ratio of two latencies on a linear axis.
_MAX_RATIO = 20

# The least gain that three decimals show, and the least height of the nDCG axis.
_MIN_GAIN = 0.0005
_MIN_SPAN = 0.05

# The least distance between two ticks, in the units of the plots.
_TICK_DISTANCE = 30

# The most bars in the plot of gains, which is about as many pixels wide.
_MAX_BARS = 400

# The last rank of each bar in the plot of ranks.
_LAST_RANKS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)

_SCORE_BINS = 20


def milliseconds_per_query(reranked: Reranked, percentile: float = 50) -> float:
    """The percentile of the time a query took, in ms; NaN if none was measured."""
    times = [1000 * seconds for seconds in reranked.seconds.values() if isfinite(seconds)]
    return float(np.percentile(times, percentile)) if times else nan


def quality_against_latency(evaluation: Evaluation) -> tuple[Figure, str]:
    """One point a model: median ms a query, and mean nDCG@10 with its interval. The first stage is a line."""
    before = evaluation.before.means[_NDCG]
    figure = new_figure(320)
    axes = add_axes(figure, x_label="median time per query, ms", y_label="nDCG@10")
    _draw_first_stage(axes, before)
    latencies = []
    for place, reranked in enumerate(evaluation.rerankers):
        x, quality = milliseconds_per_query(reranked), reranked.ranking.means[_NDCG]
        if isfinite(x) and isfinite(quality.mean):
            latencies.append(x)
            style = series_style(place)
            axes.vlines(x, quality.low, quality.high, color=style["color"], linewidth=2)
            axes.plot([x], [quality.mean], **style, markersize=10)
    _set_latency_axis(axes, latencies)
    means = [before, *(reranked.ranking.means[_NDCG] for reranked in evaluation.rerankers)]
    _set_quality_axis(axes, [end for mean in means for end in (mean.mean, mean.low, mean.high)])
    # The best and the fastest of several models; the table has all.
    best = max(evaluation.rerankers, key=lambda reranked: reranked.ranking.means[_NDCG].mean)
    fastest = min(evaluation.rerankers, key=milliseconds_per_query)
    models = ", and ".join(
        f"{model} {number(reranked.ranking.means[_NDCG].mean)} in {milliseconds(milliseconds_per_query(reranked))} ms"
        for model, reranked in {best.model: best, fastest.model: fastest}.items()
    )
    return figure, f"The first stage alone reaches {number(before.mean)}; {models}."


def enough_candidates(evaluation: Evaluation) -> tuple[Figure, str]:
    """One line a model: nDCG@10 by the number of candidates that are reranked."""
    before = evaluation.before.means[_NDCG]
    figure = new_figure(320)
    axes = add_axes(figure, x_label="candidates reranked per query", y_label="nDCG@10")
    _draw_first_stage(axes, Interval(before.mean, before.mean, before.mean))
    for place, reranked in enumerate(evaluation.rerankers):
        line = sorted((depth, mean) for depth, mean in reranked.by_depth.items() if isfinite(mean))
        axes.plot([depth for depth, _ in line], [mean for _, mean in line], **series_style(place), linewidth=2)
    measured = sorted({depth for reranked in evaluation.rerankers for depth in reranked.by_depth})
    if measured:
        _set_depth_axis(axes, measured)
    means = [mean for reranked in evaluation.rerankers for mean in reranked.by_depth.values()]
    _set_quality_axis(axes, [before.mean, before.low, before.high, *means])
    depths = {reranked.model: _sufficient_depth(reranked, before.mean) for reranked in evaluation.rerankers}
    models = "; ".join(f"{model} {enough or '(gains nothing)'}" for model, enough in depths.items())
    return figure, f"Candidates that 95 % of the gain takes: {models}."


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


def _set_quality_axis(axes: Axes, values: list[float]) -> None:
    """From below the lowest value to above the highest one, and never so narrow that noise looks large."""
    finite = [value for value in values if isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    margin = max(0.08 * (high - low), (_MIN_SPAN - (high - low)) / 2)
    axes.set_ylim(max(low - margin, -0.02), min(high + margin, 1.02))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))


def _set_latency_axis(axes: Axes, latencies: list[float]) -> None:
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


def _set_depth_axis(axes: Axes, depths: list[int]) -> None:
    """A logarithmic axis with ticks at the depths that were measured, as many as fit."""
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


def query_gains(reranked: Reranked) -> tuple[Figure, str]:
    """Every query's gain in nDCG@10, the largest first; more bars than fit are thinned evenly."""
    gains = [change.after - change.before for change in reranked.changes]
    gains = sorted((gain for gain in gains if isfinite(gain)), reverse=True)
    figure = new_figure(300)
    if not gains:
        return _write_nothing(figure), "No query was measured."
    axes = add_axes(figure, x_label="queries, the largest gain first", y_label="change of nDCG@10")
    count = len(gains)
    bars = np.array(gains)[np.linspace(0, count - 1, min(count, _MAX_BARS)).round().astype(int)]
    edges = np.linspace(0, count, len(bars) + 1)
    for color, values in ((UP, np.maximum(bars, 0)), (DOWN, np.minimum(bars, 0))):
        if values.any():
            axes.stairs(values, edges, fill=True, color=color, linewidth=0)
    axes.axhline(0, color=MUTED, linewidth=1)
    mean = fmean(gains)
    axes.axhline(mean, color=INK, linewidth=1.5, linestyle=(0, (4, 3)))
    # If the mean is a gain, nothing is drawn above its right end: losses are there, below 0.
    x, offset, align, va = (count, 5, "right", "bottom") if mean >= 0 else (0, -6, "left", "top")
    axes.annotate(
        f"mean {signed(mean)}", (x, mean), (0, offset), textcoords="offset points", ha=align, va=va, weight="bold"
    )
    axes.set(xlim=(0, count), ylim=(-1.02, 1.02))
    axes.yaxis.set_major_locator(FixedLocator([-1, -0.5, 0, 0.5, 1]))
    axes.yaxis.set_major_formatter(FixedFormatter(["−1", "−0.5", "0", "+0.5", "+1"]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    equal = len(reranked.changes) - reranked.better - reranked.worse
    better = plural(reranked.better, "query", "queries")
    return figure, f"{better} better, {reranked.worse:,} worse, {equal:,} equal."


def rank_changes(reranked: Reranked) -> tuple[Figure, str]:
    """The number of queries by the rank of their first relevant passage, before and after reranking."""
    ranks = [
        (change.first_relevant_before, change.first_relevant_after)
        for change in reranked.changes
        if change.first_relevant_before is not None and change.first_relevant_after is not None
    ]
    figure = new_figure(340)
    if not ranks:
        return _write_nothing(figure), "No query has a relevant passage among its candidates."
    highest = max(max(pair) for pair in ranks)
    last = [rank for rank in _LAST_RANKS if rank < highest] + [highest]
    first = [1, *(rank + 1 for rank in last[:-1])]
    axes = add_axes(figure, x_label="queries", y_label="rank of the first relevant passage", left=100)
    for side, color in ((0, SAME), (1, UP)):
        counts = np.bincount(np.searchsorted(last, [pair[side] for pair in ranks]), minlength=len(last))
        axes.barh(np.arange(len(last)) + 0.4 * side - 0.2, counts, height=0.36, color=color)
    labels = [f"{low:,}" if low == high else f"{low:,}–{high:,}" for low, high in zip(first, last, strict=True)]
    axes.set_yticks(range(len(last)), labels)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    return figure, _describe_ranks(ranks, len(reranked.changes) - len(ranks))


def _describe_ranks(ranks: list[tuple[int, int]], missing: int) -> str:
    up, down = sum(after < before for before, after in ranks), sum(after > before for before, after in ranks)
    top_before, top_after = (sum(pair[side] == 1 for pair in ranks) for side in (0, 1))
    return (
        f"The first passage is relevant for {plural(top_after, 'query', 'queries')}; before reranking it was for "
        f"{top_before:,}. The best-ranked relevant passage moved up for {up:,} and down for {down:,}."
        + (f" {plural(missing, 'query has', 'queries have')} none among the candidates." if missing else "")
    )


def score_distribution(reranked: Reranked) -> tuple[Figure, str]:
    """Histograms of the scores of relevant and of irrelevant candidates, each as shares of its own number."""
    candidates = [pair for pairs in reranked.scores.values() for pair in pairs if isfinite(pair[0])]
    figure = new_figure(340)
    captions = []
    for kind, color, top, bottom in (("relevant", UP, 30, 200), ("irrelevant", DOWN, 182, 50)):
        scores = [score for score, relevant in candidates if relevant is (kind == "relevant")]
        label = f"share of {plural(len(scores), f'{kind} candidate', f'{kind} candidates')}, %"
        axes = add_axes(figure, x_label="score" if kind == "irrelevant" else "", y_label=label, top=top, bottom=bottom)
        shares = np.histogram(scores, bins=_SCORE_BINS, range=(0, 1))[0] * (100 / max(len(scores), 1))
        axes.bar(np.arange(_SCORE_BINS) / _SCORE_BINS, shares, width=0.88 / _SCORE_BINS, align="edge", color=color)
        axes.set(xlim=(0, 1), ylim=(0, max(1.0, shares.max() * 1.05)))
        axes.xaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        axes.tick_params(labelbottom=kind == "irrelevant")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
        captions.append(_describe_scores(kind, scores))
    return figure, " ".join(captions)


def _describe_scores(kind: str, scores: list[float]) -> str:
    if not scores:
        return f"No candidate is {kind}."
    low, middle, high = (number(value) for value in np.percentile(scores, [25, 50, 75]))
    return f"Half of the {kind} candidates score between {low} and {high}; their median is {middle}."


def _write_nothing(figure: Figure) -> Figure:
    figure.text(0.5, 0.5, "nothing to draw", ha="center", va="center", color=MUTED)
    return figure
