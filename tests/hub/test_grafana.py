"""The dashboard of deploy/grafana: each panel's query as Grafana sends it, as the role that Grafana logs in with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from alphapivot.hub.server import restrain

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
BOARD = json.loads((GRAFANA / "alphapivot.json").read_text())
PANELS = {f"{panel['title']} {panel['type']}": panel for panel in BOARD["panels"] if panel["type"] != "row"}
VARIABLES = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
SPAN = "2026-01-01T00:00:00Z", "2026-01-31T00:00:00Z"


def sent(query: str, **chosen: list[str]) -> str:
    """A query as its PostgreSQL data source fills it in: macros, and several values quoted in a row."""
    query = re.sub(r"\$__timeFilter\(([^)]*)\)", rf"\1 BETWEEN '{SPAN[0]}' AND '{SPAN[1]}'", query)
    for name, values in chosen.items():
        query = query.replace(f"${name}", ",".join(f"'{value}'" for value in values))
    assert "$" not in query
    return query


def answer(connection, panel, book=("b",), symbol=("A",)):
    cursor = connection.execute(sent(panel["targets"][0]["rawSql"], book=book, symbol=symbol))
    return [column.name for column in cursor.description], cursor.fetchall()


@pytest.mark.parametrize("name", PANELS)
def test_the_reader_may_send_each_panels_query_and_its_columns_are_those_the_panel_shows(as_reader, name):
    panel = PANELS[name]
    (target,) = panel["targets"]
    columns, _ = answer(as_reader, panel)
    if panel["type"] == "timeseries":
        assert (target["format"], columns) == ("time_series", ["time", "metric", "value"])
    else:
        assert target["format"] == "table"
    named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
    named |= {panel["options"]["xField"]} if "xField" in panel["options"] else set()
    assert named <= set(columns)
    assert panel["description"]


@pytest.mark.parametrize("name", VARIABLES)
def test_each_choice_is_a_list_of_names(as_reader, name):
    assert len(as_reader.execute(VARIABLES[name]["query"]).description) == 1


def test_the_numbers_on_top_are_those_of_the_newest_day_and_run(hub, as_its_reader):
    with hub.dbapi(autocommit=True) as connection:
        connection.execute(
            "INSERT INTO trading.risk_day (book, day, currency, start_equity, equity, cash) VALUES"
            " ('b', '2026-01-01', 'EUR', 1000, 1100, 1100), ('b', '2026-01-02', 'EUR', 1100, 1550, 1550),"
            " ('other', '2026-01-02', 'EUR', 5, 95, 95)"
        )
        connection.execute(
            "INSERT INTO trading.book_cash (book, at, amount, note, kind)"
            " VALUES ('b', '2026-01-02 10:00Z', 500, 'put in', 'deposit')"
        )
        connection.execute(
            "INSERT INTO ops.alert (key, at, kind, subject, message, sent_at) VALUES"
            " ('1', now(), 'x', 'x', 'x', NULL), ('2', now(), 'x', 'x', 'x', now()),"
            " ('3', now() - interval '8 days', 'x', 'x', 'x', NULL)"
        )
    shown = {name: answer(as_its_reader, panel)[1] for name, panel in PANELS.items() if panel["type"] == "stat"}
    assert shown["Today stat"] == [(-50,)]  # 1,550 - 1,100 - 500
    assert shown["Drawdown stat"] == [(-50,)]
    assert shown["Undelivered alerts stat"] == [(1,)]
    assert shown["Failed runs stat"] == shown["Open trades stat"] == shown["Without a stop stat"] == [(0,)]
    assert answer(as_its_reader, PANELS["Today stat"], book=["b", "other"])[1] == [(40,)]
    days = answer(as_its_reader, PANELS["Drawdown timeseries"])[1]
    assert [(day.day, book, fell) for day, book, fell in days] == [(1, "b", 0), (2, "b", -50)]


def test_its_data_source_is_the_readers_and_every_panel_uses_it():
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/alphapivot.yaml").read_text())["datasources"]
    assert source["user"] == restrain.ROLE
    used = [*PANELS.values(), *(panel["targets"][0] for panel in PANELS.values()), *VARIABLES.values()]
    assert {(each["datasource"]["type"], each["datasource"]["uid"]) for each in used} == {
        (source["type"], source["uid"])
    }
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_no_panel_lies_on_another():
    taken = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
