"""The equity curve: well-formed SVG whose points match the numbers."""

from __future__ import annotations

import base64
from datetime import date, timedelta
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from alphapivot.reports.page import picture

DAYS = [date(2026, 1, 1) + timedelta(days=n) for n in range(5)]
SVG = "{http://www.w3.org/2000/svg}"


def drawn(*series) -> ET.Element:
    return ET.fromstring(picture.equity(*series))  # noqa: S314 - our own picture


def points(element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in element.get("points").split()]


def test_the_curve_rises_and_falls_with_the_profit_and_drawdown_hangs_below_zero():
    root = drawn(DAYS, [0, 100, 50, 50, 150], [0, 0, -50, -50, 0], "EUR")
    curve = points(root.find(f"{SVG}polyline"))
    xs, ys = zip(*curve, strict=True)
    steps = {round(b - a, 1) for a, b in pairwise(xs)}
    assert max(steps) - min(steps) <= 0.11, "days at equal distances"
    assert ys[1] < ys[0], "up is up"
    assert (ys[2], ys[1] - ys[0]) == (ys[3], pytest.approx(2 * (ys[2] - ys[0]), abs=0.3))
    area = points(root.find(f"{SVG}polygon"))
    assert min(y for _, y in area) == pytest.approx(ys[0], abs=0.2), "zero is the top of the drawdown"
    assert max(y for _, y in area) > ys[0]
    labels = [t.text for t in root.iter(f"{SVG}text")]
    assert {"+0", "2026-01-01", "2026-01-05"} <= set(labels)


@pytest.mark.parametrize(
    "earned", [[0.0], [0.0, 0.0], [-5.0, -7.5], [0.0, 1e9], [0.2, 0.4], [-1e-9, 0.0], [1e6, 1e6 + 1]]
)
def test_any_book_has_a_picture_inside_its_frame(earned):
    days = DAYS[: len(earned)]
    root = drawn(days, earned, [0.0] * len(earned), "A&B")
    for x, y in points(root.find(f"{SVG}polyline")):
        assert 0 <= x <= picture.WIDTH
        assert 0 <= y <= picture.HEIGHT
    assert 1 <= len([t for t in root.iter(f"{SVG}text") if t.text[0] in "+-"]) <= 15


def test_it_travels_as_a_data_uri():
    uri = picture.data_uri("<svg/>")
    assert base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,")) == b"<svg/>"
