"""The desk in a real headless Chromium, on a desktop and on a phone."""

from __future__ import annotations

import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from alphapivot.desk import access
from alphapivot.execution.book import control
from tests.desk.conftest import EVIL, KEY

SCREENS = {"desktop": {"width": 1400, "mobile": False}, "phone": {"width": 390, "mobile": True}}


class Window:
    """A browser window on the desk."""

    def __init__(self, driver, screen="desktop"):
        self.driver = driver
        self.resize(screen)

    def resize(self, screen, height=900):
        device = {"height": height, "deviceScaleFactor": 1, **SCREENS[screen]}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)

    def until(self, script, what):
        """Waits until a script returns something truthy, which it returns."""
        say = f"{what}; the page reads: {self.text()[:1500]}"
        return WebDriverWait(self.driver, 20, 0.1).until(lambda d: d.execute_script(f"return {script}"), say)

    def text(self):
        return self.driver.execute_script("return document.body ? document.body.innerText : ''")

    def shows(self, *words):
        for word in words:
            self.until(f"document.body.innerText.includes({json.dumps(word)})", word)

    def press(self, selector):
        self.until(f"document.querySelector({json.dumps(selector)})", selector)
        self.driver.execute_script(
            f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})"
        )
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def confirm(self, reason):
        self.until("document.getElementById('confirm').open", "the confirmation")
        self.driver.find_element(By.ID, "reason").send_keys(reason)
        self.driver.find_element(By.ID, "do").click()

    def drawn(self, place):
        self.until(f"document.querySelector('#{place} .main-svg') !== null", f"the chart {place}")


@pytest.mark.browser
@pytest.mark.parametrize("screen", SCREENS)
def test_a_link_opens_the_desk_whose_trades_can_be_watched_and_acted_on(desk, driver, screen):
    window = Window(driver, screen)
    driver.get(access.link(desk.port))
    window.shows(
        "ACTIVE", "Open trades", "LONG 250", "Waiting for a yes", "Risk used", "Scores", "Working orders", "live"
    )
    assert driver.current_url == f"{desk.url}/"  # the code is gone
    for place in ("equity", "price"):
        window.drawn(place)
    assert "stop 96" in driver.find_element(By.CSS_SELECTOR, "#price").text
    assert "target 108" in driver.find_element(By.CSS_SELECTOR, "#price").text

    right = "document.querySelector('[data-action=\"approve\"]').getBoundingClientRect().right"
    assert driver.execute_script(f"return {right}") <= SCREENS[screen]["width"]  # in sight, however wide its table
    window.press('[data-action="approve"]')
    window.shows("LONG 250 B is sent by the next run.")
    window.confirm("agreed")
    window.shows("LONG 250 B of 2026-01-23 00:00 UTC is approved")
    assert len(desk.world.sql("SELECT FROM trading.approval WHERE reason = 'agreed'")) == 1

    window.press('[data-action="close"][data-word-symbol="A"]')
    window.until("document.getElementById('confirm').open", "the confirmation")
    driver.find_element(By.ID, "qty").send_keys("100.5")
    window.confirm("less risk")
    window.shows("A: --qty must be a multiple of 1 up to 250, which is open; got 100.5")
    driver.find_element(By.ID, "cancel").click()
    assert desk.world.sql("SELECT FROM trading.close_request") == []

    wide, inner = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner == SCREENS[screen]["width"]
    asked = (json.loads(line["message"])["message"] for line in driver.get_log("performance"))
    urls = {m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"}
    assert {u for u in urls if not u.startswith((desk.url, "data:", "blob:"))} == set()
    errors = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in errors if "409" not in line["message"]] == []  # the one answer that said no


@pytest.mark.browser
@pytest.mark.always
def test_what_others_do_appears_without_a_reload_and_markup_stays_text(desk, driver):
    window = Window(driver)
    driver.get(access.link(desk.port))
    window.shows("ACTIVE", "live")
    driver.execute_script("window.same = true")
    control.halt(desk.world.hub, "paper", EVIL, EVIL)
    window.shows("HALTED", EVIL)
    desk.world.sql("UPDATE trading.lease SET fence = fence + 1")
    desk.world.sql(
        "INSERT INTO ops.alert (key, kind, subject, message) VALUES ('k', 'kill switch', :evil, :evil)", evil=EVIL
    )
    desk.world.sql(
        "INSERT INTO trading.instrument_lock (book, symbol, reason, at) VALUES ('paper', :evil, :evil, now())",
        evil=EVIL,
    )
    window.until("document.querySelector('#alerts td.wide')", "the alert")
    window.press('[data-action="unlock"]')
    window.shows(f"Unlock {EVIL}")
    assert driver.execute_script("return [window.same, window.hacked, document.images.length]") == [True, None, 0]


@pytest.mark.browser
def test_without_a_link_the_auth_string_logs_in_and_a_session_outlives_a_reload(desk, driver):
    window = Window(driver, "phone")
    driver.get(desk.url)
    window.shows("Log in", "not logged in")
    for string, told in (("admin:wrong", "This link was used or has expired"), (KEY, "ACTIVE")):
        field = driver.find_element(By.ID, "string")
        field.clear()
        field.send_keys(string)
        driver.find_element(By.CSS_SELECTOR, "#login button").click()
        window.shows(told)
    driver.refresh()
    window.shows("ACTIVE")
    driver.execute_script("localStorage.clear()")
    driver.get(access.link(desk.port))  # a link in a window that is open
    window.shows("ACTIVE", "live")
    assert driver.current_url == f"{desk.url}/"


@pytest.mark.browser
def test_a_database_that_is_away_is_told_and_comes_back(desk, driver, monkeypatch):
    from alphapivot.desk import board
    from alphapivot.errors import Unavailable

    window = Window(driver)
    driver.get(access.link(desk.port))
    window.shows("ACTIVE", "live")
    sections = board.Board.sections

    def away(_):
        raise Unavailable(f"the database does not answer {EVIL}")

    monkeypatch.setattr(board.Board, "sections", away)
    window.shows("the database does not answer")
    monkeypatch.setattr(board.Board, "sections", sections)
    window.until("document.getElementById('trouble').innerText === ''", "no trouble")


@pytest.mark.browser
def test_a_long_word_in_a_reason_does_not_widen_the_page(desk, driver):
    window = Window(driver, "phone")
    driver.get(access.link(desk.port))
    window.shows("ACTIVE", "live")
    control.halt(desk.world.hub, "paper", "x" * 3000, "Ann")
    window.shows("HALTED")
    wide, inner = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner == SCREENS["phone"]["width"]
