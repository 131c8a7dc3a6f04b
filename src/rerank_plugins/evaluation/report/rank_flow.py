"""A plot of one model: the rank of each query's best relevant passage before and after, as bands between bins."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from rerank_plugins.evaluation.report.formatting import plural
from rerank_plugins.evaluation.report.svg import (
    DOWN,
    INK,
    MUTED,
    SAME,
    UP,
    WIDTH,
    Plot,
    new_figure,
    render,
    render_empty,
)
from rerank_plugins.evaluation.results import QueryChange

__all__ = ["rank_changes"]

# The last rank of each bin.
_LAST = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)

_HEIGHT = 340
_TOP, _BOTTOM, _GAP = 66, 8, 20
_LEFT, _RIGHT, _BAR = 142, WIDTH - 142, 8

_Flow = tuple[int, int]
"""The bins before and after."""


def rank_changes(changes: list[QueryChange], fetch_k: int, prefix: str) -> Plot:
    """Each band is as wide as its share of the queries. The last bin ends at ``fetch_k``."""
    ranks = [
        (change.first_relevant_before, change.first_relevant_after)
        for change in changes
        if change.first_relevant_before is not None and change.first_relevant_after is not None
    ]
    figure = new_figure(_HEIGHT)
    if not ranks:
        return render_empty(figure, prefix, "No query has a relevant passage among its candidates.")
    bins = _make_bins(max(fetch_k, *(max(pair) for pair in ranks)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(_HEIGHT, 0))
    axes.set_axis_off()
    _draw(axes, Counter((_find_bin(before, bins), _find_bin(after, bins)) for before, after in ranks), bins)
    return render(figure, prefix, _caption(ranks, len(changes)))


def _make_bins(last: int) -> list[tuple[int, int]]:
    """The first and the last rank of each bin."""
    ends = [end for end in _LAST if end < last] + [last]
    return [(before + 1, end) for before, end in pairwise([0, *ends])]


def _find_bin(rank: int, bins: list[tuple[int, int]]) -> int:
    return next(place for place, (first, last) in enumerate(bins) if first <= rank <= last)


def _caption(ranks: list[tuple[int, int]], queries: int) -> str:
    up, down = (sum(after < before for before, after in ranks), sum(after > before for before, after in ranks))
    first_before, first_after = (sum(pair[side] == 1 for pair in ranks) for side in (0, 1))
    missing = queries - len(ranks)
    return (
        f"The first passage is relevant for {plural(first_after, 'query', 'queries')}; before reranking it was for "
        f"{first_before:,}. The best-ranked relevant passage moved up for {up:,} and down for {down:,}."
        + (f" {plural(missing, 'query has', 'queries have')} none among the candidates." if missing else "")
    )


def _draw(axes: Axes, flows: Counter[_Flow], bins: list[tuple[int, int]]) -> None:
    used = sorted({place for flow in flows for place in flow})
    scale = (_HEIGHT - _TOP - _BOTTOM - _GAP * (len(used) - 1)) / flows.total()
    (before, nodes_before), (after, nodes_after) = (_stack(flows, side, used, scale) for side in (0, 1))
    for flow in sorted(flows):
        color = UP if flow[1] < flow[0] else DOWN if flow[1] > flow[0] else SAME
        axes.add_patch(_band(before[flow], after[flow], flows[flow] * scale, color))
    for side, nodes, title in ((0, nodes_before, "Before"), (1, nodes_after, "After")):
        edge, outward = (_LEFT, -1) if side == 0 else (_RIGHT, 1)
        align = "right" if side == 0 else "left"
        rank_at, count_at = edge + 10 * outward, edge + 82 * outward
        axes.text(edge, 20, title, ha=align, weight="bold")
        axes.text(rank_at, 48, "rank", ha=align, color=MUTED)
        axes.text(count_at, 48, "queries", ha=align, color=MUTED)
        for place, y in nodes.items():
            count = sum(flows[flow] for flow in flows if flow[side] == place)
            height = max(count * scale, 1)
            first, last = bins[place]
            axes.add_patch(Rectangle((min(edge, edge - _BAR * outward), y), _BAR, height, color=INK, linewidth=0))
            rank = f"{first:,}" if first == last else f"{first:,}–{last:,}"
            axes.text(rank_at, y + height / 2, rank, ha=align, va="center", weight="bold")
            axes.text(count_at, y + height / 2, f"{count:,}", ha=align, va="center")


def _stack(
    flows: Counter[_Flow], side: int, used: list[int], scale: float
) -> tuple[dict[_Flow, float], dict[int, float]]:
    """The upper edges of every flow and of every bin, on one side."""
    edges, nodes, y = {}, {}, float(_TOP)
    for place in used:
        nodes[place] = y
        for flow in sorted(flow for flow in flows if flow[side] == place):
            edges[flow] = y
            y += flows[flow] * scale
        y += _GAP
    return edges, nodes


def _band(left: float, right: float, height: float, color: str) -> PathPatch:
    start, middle, end = _LEFT + _BAR, WIDTH / 2, _RIGHT - _BAR
    there = [(start, left), (middle, left), (middle, right), (end, right)]
    back = [(x, y + height) for x, y in reversed(there)]
    curve = [Path.CURVE4] * 3
    path = Path([*there, *back, (start, left)], [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY])
    return PathPatch(path, facecolor=color, alpha=0.65, linewidth=0)
