"""Prefect's UI in a real headless Chromium, on the checkout fixture of the flow tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests import pictures

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --hide-scrollbars --window-size=1440,1000"""
RESOLVED = "--host-resolver-rules=MAP *.example 127.0.0.1"
SECONDS = 30


def _flows_conftest():
    """The flow tests' conftest, whose fixtures we share; in importlib mode it is not in any package."""
    spec = importlib.util.spec_from_file_location("flows_conftest", ROOT / "tests" / "flows" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


shared = _flows_conftest()
checkout, more_environ = shared.checkout, shared.more_environ


@dataclass
class Browser:
    """A window on Prefect's UI."""

    driver: webdriver.Chrome
    ui: str

    def open(self, path: str) -> None:
        """Opens a page, by way of an empty one so that no text of the previous page matches."""
        self.driver.get("about:blank")
        self.wait(lambda driver: driver.current_url == "about:blank", "an empty page")
        self.driver.get(f"{self.ui}{path}")

    def wait(self, look, subject: str):
        """
        The first truthy value of ``look(driver)``. The page may be redrawn or replaced meanwhile, which chromedriver
        tells in several ways ("stale element", "Node with given id does not belong to the document"): look again.
        """
        try:
            return WebDriverWait(self.driver, SECONDS, 0.2, ignored_exceptions=[WebDriverException]).until(look)
        except TimeoutException as error:
            raise AssertionError(f"{subject} is not shown; the page reads:\n{self.text()[:2000]}") from error

    def text(self) -> str:
        """The page's text as shown, asked in one script: no node that a redraw could take away in between."""
        return self.driver.execute_script("return document.body ? document.body.innerText : ''")

    def shows(self, *words: str) -> str:
        """The page's text, once it contains all ``words``."""
        return self.wait(lambda _: all(w in (t := self.text()) for w in words) and t, f"one of {words}")

    def button(self, label: str):
        """The visible button or tab with this label; the last of several (a dialog over a page)."""
        path = f"//*[self::button or self::li or self::a][normalize-space()='{label}']"

        def find(driver):
            return [b for b in driver.find_elements(By.XPATH, path) if b.is_displayed() and b.is_enabled()]

        return self.wait(find, f"button {label}")[-1]

    def press(self, label: str) -> None:
        """Clicks a button, once nothing is over it: a notice covers the corner for some seconds."""
        self.wait(lambda _: self.button(label).click() or True, f"button {label}, free to be clicked")

    def shoot(self, name: str) -> Path:
        return pictures.shoot(self.driver, name)


@pytest.fixture(scope="module")
def browser(checkout):
    if not (CHROMIUM and DRIVER):
        missing = "chromium and chromedriver are not installed (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    options = Options()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS.split(), RESOLVED]:
        options.add_argument(flag)
    options.page_load_strategy = "none"  # tests wait for what they need; the UI may poll for ever
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(SECONDS)
    browser = Browser(driver, checkout.api.removesuffix("/api"))
    driver.get(checkout.alphapivot("ui", "--link").stdout.strip())
    browser.shows("Dashboard")
    yield browser
    driver.quit()
