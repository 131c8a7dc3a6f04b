"""Matplotlib figures as SVG in an HTML page: with the page's fonts and light and dark colours, and unique ids."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as MarkerPath

WIDTH = 480
"""The width of every plot, in CSS pixels."""

# Placeholder colours, also in report.mplstyle, each of which is replaced by the page's CSS variable of that name.
_VARIABLES = ("ink", "muted", "grid", "up", "down", "same", *(f"series-{number}" for number in range(8)))
INK, MUTED, GRID, UP, DOWN, SAME, *_SERIES = (f"#fe01{number:02}" for number in range(len(_VARIABLES)))

# Nine shapes and eight colours: the first 72 models differ, the first nine by shape alone.
_MARKERS = "os^DvPXp*"
_DASHES = ("-", (0, (6, 2)), (0, (2, 2)), (0, (8, 2, 2, 2)))

STYLE = ["default", str(Path(__file__).with_name("report.mplstyle"))]
"""For `matplotlib.style.context`, in which every figure is made and rendered."""


def series_style(number: int) -> dict[str, Any]:
    """The colour, marker and line style of a model, by its number from 0."""
    return {
        "color": _SERIES[number % len(_SERIES)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _DASHES[number % len(_DASHES)],
    }


def new_figure(height: int) -> Figure:
    """A figure `WIDTH` wide and ``height`` high, in the plots' units."""
    return Figure(figsize=(WIDTH / 72, height / 72))


def add_axes(figure: Figure, *, x_label: str, y_label: str, top: int = 30, bottom: int = 50, left: int = 50) -> Axes:
    """Axes with margins in the plots' units, 24 at the right. The y label is horizontal, above them."""
    height = figure.get_figheight() * 72
    axes = figure.add_axes((left / WIDTH, bottom / height, 1 - (left + 24) / WIDTH, 1 - (top + bottom) / height))
    axes.set_xlabel(x_label, labelpad=6)
    figure.text(2 / WIDTH, 1 - (top - 10) / height, y_label, color=MUTED, va="bottom")
    return axes


def render(figure: Figure, prefix: str) -> str:
    """The figure as an ``<svg>`` for a page of HTML; every id in it begins with ``prefix``."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    # Without metadata, which holds addresses, and without a style element, which would apply to the whole page.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(
        r'^.*?<svg[^>]*? viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" focusable="false">', svg, flags=re.DOTALL
    )
    svg = re.sub(r'( id="| xlink:href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    # matplotlib up to 3.9 writes one font property, later versions one each.
    svg = re.sub(r"font: (\d+) ", r"font-weight: \1; font: ", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*; ", "", svg)
    return re.sub(r"\s+", " ", _use_variables(svg))


def draw_swatch(number: int) -> str:
    """The model's marker as an ``<svg>``, for a line of text. It has no id, so that a page can repeat it."""
    style = series_style(number)
    marker = MarkerStyle(style["marker"])
    path = marker.get_path().transformed(marker.get_transform())
    letters = {
        MarkerPath.MOVETO: "M",
        MarkerPath.LINETO: "L",
        MarkerPath.CURVE3: "Q",
        MarkerPath.CURVE4: "C",
        MarkerPath.CLOSEPOLY: "Z",
    }
    steps = [
        letters[code] + ("" if code == MarkerPath.CLOSEPOLY else " ".join(f"{12 * value:.2f}" for value in points))
        for points, code in path.iter_segments(simplify=False)
    ]
    return _use_variables(
        f'<svg class="swatch" viewBox="-8 -8 16 16" aria-hidden="true">'
        f'<path d="{"".join(steps)}" fill="{style["color"]}"/></svg>'
    )


def _use_variables(svg: str) -> str:
    return re.sub(r"#fe01(\d\d)", lambda color: f"var(--{_VARIABLES[int(color[1])]})", svg)
