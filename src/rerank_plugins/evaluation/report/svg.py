"""Matplotlib figures as SVG inside a page: its fonts, its colours in light and dark, no id twice."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path

WIDTH = 480
"""Of every plot, in units that are pixels where the page shows it at its own size."""

# Figures are drawn in colours that no figure would have; each stands for a variable of the page's style.
INK, MUTED, GRID, UP, DOWN, SAME = (f"#fe010{number}" for number in range(6))
_VARIABLES = dict(zip((INK, MUTED, GRID, UP, DOWN, SAME), ("ink", "muted", "grid", "up", "down", "same"), strict=True))
_SERIES = 8
_VARIABLES |= {f"#fe020{number}": f"series-{number}" for number in range(_SERIES)}

# Nine shapes beside eight colours: the first 72 models differ, the first nine by shape alone.
_MARKERS = "os^DvPXp*"
_DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", (0, (6, 2)), (0, (2, 2)), (0, (8, 2, 2, 2)))

_STYLE = {
    "svg.fonttype": "none",
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
    """The colour of the model of this number, from 0."""
    return f"#fe020{number % _SERIES}"


def series_marker(number: int) -> str:
    """Its shape."""
    return _MARKERS[number % len(_MARKERS)]


def series_dashes(number: int) -> str | tuple[int, tuple[int, ...]]:
    """The dashes of its line."""
    return _DASHES[number % len(_DASHES)]


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing, and what it says in words."""

    svg: str
    says: str


@contextmanager
def plot_style() -> Iterator[None]:
    """Draw in the report's style, whatever the process has set, and leave that as it was."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def new_figure(height: int) -> Figure:
    """A figure `WIDTH` wide and ``height`` high, in the plots' units."""
    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72)


def add_axes(
    figure: Figure, *, x_label: str, y_label: str, top: int = 30, bottom: int = 50, left: int = 50, right: int = 24
) -> Axes:
    """Axes with margins in the plots' units. What y means stands level above them, where it is read without tilting."""
    height = figure.get_figheight() * 72
    axes = figure.add_axes((left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (top + bottom) / height))
    axes.set_xlabel(x_label, labelpad=6)
    figure.text(2 / WIDTH, 1 - (top - 10) / height, y_label, color=MUTED, va="bottom")
    return axes


def finished(figure: Figure, prefix: str, says: str) -> Plot:
    """The figure as a plot whose ids begin with ``prefix``."""
    return Plot(inline_svg(figure, prefix), says)


def say(figure: Figure, prefix: str, reason: str) -> Plot:
    """A plot of nothing, for the ``reason`` that stands below it."""
    figure.text(0.5, 0.5, "nothing to draw", ha="center", va="center", color=MUTED)
    return finished(figure, prefix, reason)


def swatch(number: int) -> str:
    """The model's marker as a picture in a line of text."""
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


def inline_svg(figure: Figure, prefix: str) -> str:
    """The figure as an ``<svg>`` for a page of HTML; every id in it begins with ``prefix``."""
    written = io.BytesIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    root = ET.fromstring(written.getvalue())  # noqa: S314 - matplotlib wrote it a moment ago
    for element in root.iter():
        element.tag = _local(element.tag)
        for child in list(element):
            # Who made the file, with addresses; and a style that would be the whole page's.
            if _local(child.tag) in {"metadata", "style"}:
                element.remove(child)
        element.attrib = {_local(name): _in_page_style(value) for name, value in element.attrib.items()}
        if element.attrib.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if element.tag != "text":
            element.text = None
        element.tail = None
    root.attrib = {"viewBox": root.attrib["viewBox"], "focusable": "false"}
    _rename_ids(root, prefix)
    return ET.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _in_page_style(value: str) -> str:
    # Up to matplotlib 3.9 one property, from then on one each.
    value = re.sub(r"font: (\d+) ", r"font-weight: \1; font: ", value)
    value = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", value)
    value = re.sub(r"font-family: [^;]*; ", "", value)
    value = re.sub(r"#fe0[12]0\d", lambda color: f"var(--{_VARIABLES[color[0]]})", value)
    return " ".join(value.split())


def _rename_ids(root: ET.Element, prefix: str) -> None:
    """Keep the ids that something refers to: matplotlib counts the others from 1 in every figure."""
    referred = re.compile(r"^#(?P<href>\w+)$|url\(#(?P<url>\w+)\)")
    used = {found["href"] or found["url"] for found in map(referred.search, _values(root)) if found}
    names: dict[str, str] = {}
    for element in root.iter():
        name = element.attrib.pop("id", "")
        if name in used:
            element.attrib["id"] = names[name] = f"{prefix}-{len(names)}"
    for element in root.iter():
        for attribute, value in element.attrib.items():
            if found := referred.search(value):
                name = found["href"] or found["url"]
                element.attrib[attribute] = value.replace(f"#{name}", f"#{names[name]}")


def _values(root: ET.Element) -> Iterator[str]:
    for element in root.iter():
        yield from element.attrib.values()
