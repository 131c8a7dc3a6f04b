"""Plots of one model: the gain of every query, and the distribution of scores."""

from __future__ import annotations

from math import isfinite
from statistics import fmean

import numpy as np
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator

from rerank_plugins.evaluation.report.formatting import number, plural, signed
from rerank_plugins.evaluation.report.svg import DOWN, INK, MUTED, UP, Plot, add_axes, new_figure, render, render_empty
from rerank_plugins.evaluation.results import Reranked

__all__ = ["query_gains", "score_distribution"]

# The most bars in the plot of gains, which is about as many pixels wide.
_MAX_BARS = 400
_BINS = 20


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
