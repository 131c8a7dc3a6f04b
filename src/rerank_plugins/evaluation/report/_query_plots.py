"""Plots of one model: the gain of every query, the ranks of relevant passages, and the distribution of scores."""

from __future__ import annotations

from math import isfinite
from statistics import fmean

import numpy as np
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator

from rerank_plugins.evaluation.report._svg import (
    DOWN,
    INK,
    MUTED,
    SAME,
    UP,
    Plot,
    add_axes,
    new_figure,
    render,
    render_empty,
)
from rerank_plugins.evaluation.report.formatting import number, plural, signed
from rerank_plugins.evaluation.results import QueryChange, Reranked

# The most bars in the plot of gains, which is about as many pixels wide.
_MAX_BARS = 400
_BINS = 20

# The last rank of each bar in the plot of ranks.
_LAST_RANKS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)


def query_gains(reranked: Reranked, prefix: str) -> Plot:
    """Every query's gain in nDCG@10, the largest first; more bars than fit are thinned evenly."""
    gains = [change.after - change.before for change in reranked.changes]
    gains = sorted((gain for gain in gains if isfinite(gain)), reverse=True)
    figure = new_figure(300)
    if not gains:
        return render_empty(figure, prefix, "No query was measured.")
    axes = add_axes(figure, x_label="queries, the largest gain first", y_label="change of nDCG@10")
    count = len(gains)
    bars = (
        gains
        if count <= _MAX_BARS
        else [gains[place] for place in np.linspace(0, count - 1, _MAX_BARS).round().astype(int)]
    )
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
    return render(
        figure,
        prefix,
        f"{plural(reranked.better, 'query', 'queries')} better, {reranked.worse:,} worse, {equal:,} equal.",
    )


def rank_changes(changes: list[QueryChange], prefix: str) -> Plot:
    """The number of queries by the rank of their first relevant passage, before and after reranking."""
    ranks = [
        (change.first_relevant_before, change.first_relevant_after)
        for change in changes
        if change.first_relevant_before is not None and change.first_relevant_after is not None
    ]
    figure = new_figure(340)
    if not ranks:
        return render_empty(figure, prefix, "No query has a relevant passage among its candidates.")
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
    return render(figure, prefix, _caption_ranks(ranks, len(changes)))


def _caption_ranks(ranks: list[tuple[int, int]], queries: int) -> str:
    up, down = (sum(after < before for before, after in ranks), sum(after > before for before, after in ranks))
    top_before, top_after = (sum(pair[side] == 1 for pair in ranks) for side in (0, 1))
    missing = queries - len(ranks)
    return (
        f"The first passage is relevant for {plural(top_after, 'query', 'queries')}; before reranking it was for "
        f"{top_before:,}. The best-ranked relevant passage moved up for {up:,} and down for {down:,}."
        + (f" {plural(missing, 'query has', 'queries have')} none among the candidates." if missing else "")
    )


def score_distribution(reranked: Reranked, prefix: str) -> Plot:
    """Histograms of the scores of relevant and of irrelevant candidates, each as shares of its own number."""
    candidates = [pair for pairs in reranked.scores.values() for pair in pairs if isfinite(pair[0])]
    kinds = {
        kind: [score for score, relevant in candidates if relevant is wanted]
        for kind, wanted in (("relevant", True), ("irrelevant", False))
    }
    figure = new_figure(340)
    for kind, color, top, bottom in (("relevant", UP, 30, 200), ("irrelevant", DOWN, 182, 50)):
        scores = kinds[kind]
        label = f"share of {plural(len(scores), f'{kind} candidate', f'{kind} candidates')}, %"
        axes = add_axes(figure, x_label="score" if kind == "irrelevant" else "", y_label=label, top=top, bottom=bottom)
        shares = np.histogram(scores, bins=_BINS, range=(0, 1))[0] * (100 / max(len(scores), 1))
        axes.bar(np.arange(_BINS) / _BINS, shares, width=0.88 / _BINS, align="edge", color=color)
        axes.set(xlim=(0, 1), ylim=(0, max(1.0, shares.max() * 1.05)))
        axes.xaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        axes.tick_params(labelbottom=kind == "irrelevant")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    return render(figure, prefix, " ".join(_caption_scores(kind, scores) for kind, scores in kinds.items()))


def _caption_scores(kind: str, scores: list[float]) -> str:
    if not scores:
        return f"No candidate is {kind}."
    low, middle, high = np.percentile(scores, [25, 50, 75])
    return (
        f"Half of the {kind} candidates score between {number(low)} and {number(high)}; their median is "
        f"{number(middle)}."
    )
