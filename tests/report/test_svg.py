"""Charts are well-formed SVG whose geometry follows the numbers."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest

from equidiff.report.svg import Bar, Curve, curves, outcome_strips, palette, success_bars
from equidiff.statistics import Proportion

SVG = "{http://www.w3.org/2000/svg}"


def parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_bars_are_as_long_as_their_rate_and_carry_the_interval() -> None:
    bars = [Bar("a <b> & c", Proportion(50, 50), palette(0), (1.0, 1.0)), Bar("none", Proportion(0, 50), palette(1))]
    root = parse(success_bars(bars))
    full, empty = (float(r.attrib["width"]) for r in root.iter(f"{SVG}rect"))
    assert (full, empty) == (300.0, 0.0)
    assert "a <b> & c" in texts(root)
    assert str(Proportion(50, 50)) in texts(root)
    assert len(list(root.iter(f"{SVG}circle"))) == 2  # one training has no dots


def test_curves_go_down_when_the_loss_does() -> None:
    root = parse(curves([Curve("a", ((1, 1.0), (2, 0.1)), "#000")], title="t", x_label="x", y_label="y", log_y=True))
    circles = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter(f"{SVG}circle")]
    assert circles[1][0] > circles[0][0]
    assert circles[1][1] > circles[0][1]  # SVG's y points down


@pytest.mark.parametrize("log", [False, True])
def test_curves_leave_out_what_cannot_be_drawn(log: bool) -> None:
    points = ((1.0, math.nan), (2.0, math.inf), (3.0, 0.0), (4.0, 2.0), (5.0, 2.1))
    root = parse(curves([Curve("a", points, "#000")], title="t", x_label="x", y_label="y", log_y=log))
    assert len(list(root.iter(f"{SVG}circle"))) == (2 if log else 3)
    assert "nan" not in curves([Curve("a", points, "#000")], title="t", x_label="x", y_label="y", log_y=log)
    ticks = [t for t in texts(root) if t[0].isdigit()]
    assert len(ticks) >= 4  # both axes have at least two


def test_curves_without_points_say_so() -> None:
    assert "no points to draw" in curves([Curve("a", (), "#000")], title="t", x_label="x", y_label="y")


def test_only_labelled_lines_are_in_the_legend() -> None:
    lines = [Curve("a", ((0, 1), (1, 2)), "#000"), Curve("", ((0, 2), (1, 3)), "#000")]
    legend = [
        p
        for p in parse(curves(lines, title="t", x_label="x", y_label="y")).iter(f"{SVG}path")
        if "h22" in p.attrib["d"]
    ]
    assert len(legend) == 1


def test_strips_fill_the_solved() -> None:
    root = parse(outcome_strips([("a", "#123456", [True, False, True])]))
    fills = [r.attrib["fill"] for r in root.iter(f"{SVG}rect")]
    assert fills == ["#123456", "none", "#123456"]


def test_empty_charts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        success_bars([])
    with pytest.raises(ValueError, match="at least one"):
        outcome_strips([("a", "#000", [])])


def test_neighbouring_colours_differ() -> None:
    assert len({palette(i) for i in range(8)}) == 8
    assert palette(8) == palette(0)
