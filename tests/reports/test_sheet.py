"""The page of a book: one file without network access, on desktop and phone; its picture; its tables."""

from __future__ import annotations

import json
import re
import shutil
from decimal import Decimal

import pandas as pd
import pytest

from alphapivot.reports.book import activity as books
from alphapivot.reports.book import comparison, store
from alphapivot.reports.book import result as results
from alphapivot.reports.page import charts, html, one_page, tables
from alphapivot.reports.performance import definitions

TERMS = {"A": [{"pillar": "trend", "contribution": 40.0}, {"pillar": "flow", "contribution": 10.0}]}


@pytest.fixture
def made(world):
    """A world with a trade whose stop moved once and that reached its target, and an open one; and its result."""
    settings = world.settings
    moving = settings.exit.model_copy(update={"break_even": Decimal("0.5")})
    world.settings = settings.model_copy(update={"exit": moving})
    world.score(20, 50)
    world.trade(20, terms=TERMS)
    for day, *prices in (
        (21, 101, 104, 99, 104),
        (22, 104, 107, 103, 107),
        (23, 107, 109, 106, 108),
        (24, 108, 109, 107, 108),
    ):
        world.bar(day, *prices)
        world.score(day, 50)
        world.trade(day, terms=TERMS)
    return world, results.make(world.hub, world.settings, "paper")


def page(made):
    world, found = made
    return html.of(world.hub, found, comparison.compare(found, found, {}))


def test_the_page_loads_nothing_and_shows_every_figure_with_its_definition(made):
    text = page(made)
    assert "default-src 'none'" in text
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)  # without plotly's script and ours
    assert not re.search(r"https?://", own)
    assert not re.search(r"<script[^>]+src|<link|@import|url\(", own)
    for definition in definitions(made[1].a_year).values():
        assert definition.label in own
    assert own.count('class="plot"') >= 10
    assert len(text) < 8_000_000


def test_the_chart_shows_entry_exit_target_and_the_stop_as_it_moved(made):
    _, found = made
    moved = found.book.stops
    assert len(moved) >= 1
    text = page(made)
    stored = re.findall(r'<script type="application/json" id="figure-\d+">(.*?)</script>', text, re.DOTALL)
    (chart,) = (f for f in map(json.loads, stored) if any(t.get("name") == "exit" for t in f["data"]))
    traces = {t.get("name"): t for t in chart["data"]}
    first = found.trades.iloc[0]
    assert traces["stop"]["line"]["shape"] == "hv"
    assert traces["stop"]["y"][:2] == [96.0, float(moved["stop"].iloc[0])]
    assert traces["target"]["y"][0] == float(first["target"])
    assert traces["exit"]["x"] is not None
    assert any(t["type"] == "candlestick" for t in chart["data"])


def test_a_name_cannot_break_out_of_the_page(made):
    world, found = made
    trades = found.trades.assign(symbol="</script><b>X", close_reason="<i>")
    book = type(found.book)(**{**vars(found.book), "name": "<u>paper"})
    odd = type(found)(**{**vars(found), "trades": trades, "book": book, "warnings": ["<em>"]})
    bars = books.around(world.hub, found.book, "A")
    text = html.page(odd, {"</script><b>X": bars})
    for raw in ("<b>X", "<u>paper", "<em>", "<i>"):
        assert raw not in text


def test_of_many_symbols_the_best_and_the_worst_are_shown_and_it_says_so(made):
    world, found = made
    one = found.trades.iloc[[0]]
    many = [one.assign(symbol=f"S{k:03}", trade_id=1000 + k, result=Decimal(k - 30)) for k in range(100)]
    wide = type(found)(**{**vars(found), "trades": pd.concat(many, ignore_index=True)})
    text = html.page(wide, {"S099": books.around(world.hub, found.book, "A")})
    assert "the 12 best and the 12 worst of 100." in text
    table = tables.contribution(wide, "symbol")
    assert list(table["symbol"]) == [
        *(f"S{k:03}" for k in range(99, 79, -1)), "… 60 more", *(f"S{k:03}" for k in range(19, -1, -1)), "all",
    ]  # fmt: skip
    assert table["result"].iloc[-1] == f"{sum(range(-30, 70)):+,}.00"


def test_a_book_that_never_traded_has_a_page(world):
    world.trade(20)
    found = results.make(world.hub, world.settings, "paper")
    text = html.of(world.hub, found)
    assert "All figures" in text
    assert 'id="trades"' not in text
    assert one_page.figure(found).layout.height == one_page.HEIGHT


def test_the_numbers_are_kept_once_and_sum_to_the_change_of_equity(made):
    world, found = made
    number = store.keep(world.hub, found)
    assert store.keep(world.hub, results.make(world.hub, world.settings, "paper")) == number
    (sums,) = world.sql("SELECT sum(result) AS all, count(*) AS n FROM research.report_trade")
    assert (sums["all"], sums["n"]) == (found.net, len(found.trades))
    for kind in ("pillar", "symbol", "side"):
        (own,) = world.sql("SELECT sum(result) AS all FROM research.report_contribution WHERE kind = :k", k=kind)
        assert own["all"] == found.net
    values = {r["name"]: r["value"] for r in world.sql("SELECT name, value FROM research.report_figure")}
    assert values == found.figures
    bare = world.sql(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
        " WHERE c.relnamespace = 'research'::regnamespace AND c.relname LIKE 'report%' AND c.relkind = 'r'"
        " AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL"
    )
    assert bare == []
    world.bar(25, 108, 112, 107, 111)
    world.trade(25)
    assert store.keep(world.hub, results.make(world.hub, world.settings, "paper")) > number


@pytest.mark.browser
@pytest.mark.parametrize(("width", "mobile"), [(1400, False), (390, True)])
def test_the_page_is_drawn_without_a_network_and_never_wider_than_its_window(made, tmp_path, width, mobile):
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("there is no chromium with its driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.ui import WebDriverWait

    file = tmp_path / "book.html"
    file.write_text(page(made))
    options = Options()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        driver.get(file.as_uri())
        places = driver.execute_script("return document.querySelectorAll('.plot').length")
        for number in range(places):  # each is drawn when it comes into sight
            driver.execute_script(f"document.querySelectorAll('.plot')[{number}].scrollIntoView()")
            drawn = f"return document.querySelectorAll('.plot')[{number}].querySelector('.main-svg') !== null"
            WebDriverWait(driver, 30).until(lambda d, drawn=drawn: d.execute_script(drawn))
        wide, window = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide <= window == width
        assert driver.get_log("browser") == []
        asked = (json.loads(line["message"])["message"] for line in driver.get_log("performance"))
        urls = {m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"}
        assert urls == {file.as_uri()}
    finally:
        driver.quit()


@pytest.mark.browser
def test_the_one_page_picture_is_drawn(made, tmp_path):
    if not shutil.which("chromium"):
        pytest.skip("there is no chromium")
    file = tmp_path / "page.png"
    charts.png(one_page.figure(made[1]), file, width=one_page.WIDTH)
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert file.stat().st_size > 50_000
