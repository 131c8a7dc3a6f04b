"""Matplotlib figures as SVG in an HTML page: with the page's fonts and light and dark colours, and unique ids."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path

WIDTH = 480
"""The width of every plot, in CSS pixels."""

# Placeholder colours, each of which is replaced by a CSS variable of the page.
INK, MUTED, GRID, UP, DOWN, SAME = (f"#fe010{number}" for number in range(6))
_VARIABLES = dict(zip((INK, MUTED, GRID, UP, DOWN, SAME), ("ink", "muted", "grid", "up", "down", "same"), strict=True))
_SERIES = 8
_VARIABLES |= {f"#fe020{number}": f"series-{number}" for number in range(_SERIES)}

# Nine shapes and eight colours: the first 72 models differ, the first nine by shape alone.
_MARKERS = "os^DvPXp*"
_DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", (0, (6, 2)), (0, (2, 2)), (0, (8, 2, 2, 2)))

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "",
    "font.size": 13,
    "axes.labelsize": 13,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 1,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 1,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 13,
    "ytick.labelsize": 13,
    "ytick.major.size": 0,
}


def series_color(number: int) -> str:
    """The colour of a model, by its number from 0."""
    return f"#fe020{number % _SERIES}"


def series_marker(number: int) -> str:
    """The marker of a model, by its number from 0."""
    return _MARKERS[number % len(_MARKERS)]


def series_dashes(number: int) -> str | tuple[int, tuple[int, ...]]:
    """The line style of a model, by its number from 0."""
    return _DASHES[number % len(_DASHES)]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot as SVG, and its caption, which says the same in words."""

    svg: str
    caption: str


@contextmanager
def plot_style() -> Iterator[None]:
    """Plot in the report's style, and restore the process's own style at the end."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def new_figure(height: int) -> Figure:
    """A figure `WIDTH` wide and ``height`` high, in the plots' units."""
    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72)


def add_axes(
    figure: Figure, *, x_label: str, y_label: str, top: int = 30, bottom: int = 50, left: int = 50, right: int = 24
) -> Axes:
    """Axes with margins in the plots' units. The y label is horizontal, above them."""
    height = figure.get_figheight() * 72
    axes = figure.add_axes((left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (top + bottom) / height))
    axes.set_xlabel(x_label, labelpad=6)
    figure.text(2 / WIDTH, 1 - (top - 10) / height, y_label, color=MUTED, va="bottom")
    return axes


def render(figure: Figure, prefix: str, caption: str) -> Plot:
    """The figure as an ``<svg>`` for a page of HTML; every id in it begins with ``prefix``."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    # Without metadata, which holds addresses, and without a style element, which would apply to the whole page.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'^.*?<svg[^>]*? viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" focusable="false">', svg, flags=re.DOTALL
    )
    svg = re.sub(r'( id="| xlink:href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    # matplotlib up to 3.9 writes one font property, later versions one each.
    svg = re.sub(r"font: (\d+) ", r"font-weight: \1; font: ", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*; ", "", svg)
    svg = re.sub(r"#fe0[12]0\d", lambda color: f"var(--{_VARIABLES[color[0]]})", svg)
    return Plot(re.sub(r"\s+", " ", svg), caption)


def render_empty(figure: Figure, prefix: str, reason: str) -> Plot:
    """An empty plot; the caption is the ``reason``."""
    figure.text(0.5, 0.5, "nothing to draw", ha="center", va="center", color=MUTED)
    return render(figure, prefix, reason)


def swatch(number: int) -> str:
    """The model's marker as SVG, for a line of text."""
    marker = MarkerStyle(series_marker(number))
    path = marker.get_path().transformed(marker.get_transform())
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
    steps = [
        letters[code] + ("" if code == Path.CLOSEPOLY else " ".join(f"{12 * value:.2f}" for value in points))
        for points, code in path.iter_segments(simplify=False)
    ]
    color = _VARIABLES[series_color(number)]
    return (
        f'<svg class="swatch" viewBox="-8 -8 16 16" aria-hidden="true">'
        f'<path d="{"".join(steps)}" fill="var(--{color})"/></svg>'
    )
