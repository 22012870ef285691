"""Line and dot charts as SVG that a page embeds: its style sheet colours them, its script shows values.

Built by an XML library, so that no text can become markup. A chart has a size of its own, which a page
scales; its texts can be read in columns of 300 to 600 pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

WIDTH, HEIGHT = 440, 300
LEFT, TOP, RIGHT, BOTTOM = 46, 12, 12, 46
STYLES = 32
"""Of lines: eight colours, then the same with other dashes. After that they repeat."""
POINTS = 300
"""Of one series that are drawn; of more, so many that are evenly spaced."""
MARKED = 40
"""Points, at most, of a line that has a dot at each."""
NAMES = 8
"""Names of an ordinal axis that fit below it."""


@dataclass(frozen=True)
class Axis:
    """It stretches from `low` to `high`, linearly or logarithmically, and has labels at some values."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def place(self, value: float) -> float:
        """The share of the axis below a value; of a logarithmic axis, none for what is not positive."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        low, high = math.log(self.low), math.log(self.high)
        return (math.log(max(value, self.low)) - low) / (high - low)


@dataclass(frozen=True)
class Series:
    """Points (x, y) with a text for each, in one of `STYLES`: joined by a line or not, as dots or as rings.

    `heads`, if any, say where each point is, and are shown once for all series there. `band`, if any, has the
    lowest and highest y at each point.
    """

    name: str
    style: int
    points: Sequence[tuple[float, float]]
    texts: Sequence[str]
    heads: Sequence[str] = ()
    band: Sequence[tuple[float, float]] = ()
    line: bool = True
    rings: bool = False


def numeric(label: str, values: Sequence[float], *, from_zero: bool = False) -> Axis:
    """An axis with room for all values; logarithmic where they are positive and the largest is four times the
    smallest.
    """
    low, high = (0.0 if from_zero else min(values)), max(values)
    if low > 0 and high > 4 * low:
        low, high = low / 1.05 or low, high * 1.05
        return Axis(label, low, high, _labelled(_round(low, high)), log=True)
    room = 0.05 * (high - low) or 0.05 * abs(high)
    room = room if room > 1e-300 else 1.0  # a range that arithmetic would lose
    low, high = (low if from_zero else max(low - room, min(low, 0.0))), high + room
    from matplotlib.ticker import MaxNLocator

    ticks = [float(tick) for tick in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)]
    return Axis(label, low, high, _labelled([tick for tick in ticks if low <= tick <= high]))


def ordinal(label: str, names: Sequence[str]) -> Axis:
    """An axis with a place for each name, the first at 0, the next at 1."""
    step = math.ceil(len(names) / NAMES)
    return Axis(label, -0.5, len(names) - 0.5, list(enumerate(names))[::step])


def _round(low: float, high: float) -> list[float]:
    """Round numbers between positive ones, at most seven."""
    digits = (1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 4, 5, 7)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [t for e in decades for d in digits if low <= (t := float(f"{d}e{e}")) <= high]
    return found[:: math.ceil(len(found) / 7)]


def _labelled(values: Sequence[float]) -> list[tuple[float, str]]:
    return [(value, f"{value:g}") for value in values]


def chart(description: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """The chart as an `svg` element; `description` is for those who cannot see it."""
    svg = _element(None, "svg", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", tabindex=0, class_="chart")
    svg.set("aria-label", description)
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    for value, text in y.ticks:
        at = TOP + height * (1 - y.place(value))
        _element(svg, "line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid")
        _element(svg, "text", x=LEFT - 6, y=at + 4, class_="end").text = text
    for value, text in x.ticks:
        at = LEFT + width * x.place(value)
        _element(svg, "line", x1=at, x2=at, y1=TOP, y2=TOP + height, class_="grid")
        _element(svg, "text", x=at, y=TOP + height + 17, class_="middle").text = text
    _element(svg, "text", x=LEFT + width / 2, y=HEIGHT - 8, class_="middle name").text = x.label
    turned = f"translate(12 {TOP + height / 2:g}) rotate(-90)"
    _element(svg, "text", transform=turned, class_="middle name").text = y.label
    # An inner svg cuts off what is outside of it: a start that is far above all the rest.
    plot = _element(svg, "svg", x=LEFT, y=TOP, width=width, height=height)
    shown = []
    for one in series:
        kept = _spaced(len(one.points))
        places = [(width * x.place(one.points[i][0]), height * (1 - y.place(one.points[i][1]))) for i in kept]
        style = f"s{one.style % STYLES}"
        if one.band:
            edges = [[height * (1 - y.place(one.band[i][side])) for i in kept] for side in (0, 1)]
            across = [place for place, _ in places]
            outline = [*zip(across, edges[0], strict=True), *zip(across[::-1], edges[1][::-1], strict=True)]
            _element(plot, "polygon", points=_text(outline), class_=f"band {style}")
        if one.line:
            _element(plot, "polyline", points=_text(places), class_=f"line {style}")
        kind, radius = ("ring", 7.0) if one.rings else ("dot", 2.5 if one.line else 4.0)
        for cx, cy in places if len(places) <= MARKED or not one.line else ():
            _element(plot, "circle", cx=cx, cy=cy, r=radius, class_=f"{kind} {style}")
        points = [
            [round(LEFT + px, 1), round(TOP + py, 1), one.texts[i], one.heads[i] if one.heads else ""]
            for i, (px, py) in zip(kept, places, strict=True)
        ]
        shown.append({"name": one.name, "points": points})
    _element(svg, "line", x1=0, x2=0, y1=TOP, y2=TOP + height, class_="rule")
    svg.set("data-series", json.dumps(shown))
    return tostring(svg, encoding="unicode")


def _spaced(n: int) -> list[int]:
    """At most `POINTS` of the first n numbers, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, POINTS)).round().astype(int)).tolist() if n else []


def _element(parent: Element | None, tag: str, **attributes: str | float) -> Element:
    texts = {
        key.rstrip("_"): value if isinstance(value, str) else f"{round(value, 1):g}"
        for key, value in attributes.items()
    }
    return Element(tag, texts) if parent is None else SubElement(parent, tag, texts)


def _text(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
