"""The picture of mean outcomes by tenth of a score."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from alphapivot.reports.page import deciles

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_drawn_to_one_scale_up_and_down_from_zero():
    drawn = ET.fromstring(deciles.panels({"a & b": [-10.0, 5, float("nan")], "c": [2.5, 0.0, 10.0]}, "bp"))  # noqa: S314
    bars = drawn.findall(f"{SVG}rect")
    assert [float(b.get("height")) for b in bars] == pytest.approx([49, 24.5, 12.25, 0, 49], abs=0.06)
    zero = float(drawn.find(f"{SVG}line").get("y1"))
    assert [float(b.get("y")) + float(b.get("height")) == pytest.approx(zero, abs=0.1) for b in bars[1:]] == [True] * 4
    assert float(bars[0].get("y")) == pytest.approx(zero)
    assert [t.text for t in drawn.findall(f"{SVG}text")] == ["a & b", "c"]
    assert bars[0].find(f"{SVG}title").text == "tenth 1: -10.00 bp"


def test_nothing_known_is_an_empty_picture():
    assert "rect" not in deciles.panels({"a": [float("nan")] * 10}, "bp")
