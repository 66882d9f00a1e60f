"""The deployment `evaluate`, as started from the UI: an artifact under one key, and rows in the hub."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree as ET

import pytest

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(400)]

AS_OF = "2025-06-27T00:00:00+00:00"


def test_the_evaluation_is_an_artifact_with_tables_and_a_picture(checkout):
    for name, parameters in (("ingest", {"as_of": AS_OF}), ("signals", {"as_of": AS_OF}), ("evaluate", {})):
        run = checkout.ended(checkout.trigger(name, **parameters), 250)
        assert run["state"]["type"] == "COMPLETED", run["state"]
    assert re.search("evaluation 1, stored in", run["state"]["message"])
    (shown,) = checkout.ask("/artifacts/latest/filter", {"artifacts": {"key": {"any_": ["test-evaluation"]}}})
    assert shown["flow_run_id"] == run["id"]
    for words in ("| composite | return | 1d |", "| risk | against | 1d |", "## Parts", "| trend.cross_fast |"):
        assert words in shown["data"], words
    svg = base64.b64decode(re.search(r"data:image/svg\+xml;base64,([^)]+)", shown["data"])[1])
    bars = ET.fromstring(svg).findall("{http://www.w3.org/2000/svg}rect")  # noqa: S314 - our own
    assert len(bars) > 30
    assert checkout.sql("SELECT count(DISTINCT subject) FROM research.evaluation_score")[0][0] > 20
