"""The pages of scores and evaluations: one file, never wider than the window, on a phone too."""

from __future__ import annotations

import shutil

import pandas as pd
import plotly.graph_objects as go
import pytest

from alphapivot.reports.page import charts


@pytest.mark.browser
@pytest.mark.parametrize(("width", "mobile"), [(1400, False), (390, True)])
def test_a_page_is_never_wider_than_its_window(tmp_path, width, mobile):
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("there is no chromium with its driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.ui import WebDriverWait

    wide = pd.DataFrame({f"column {i}": ["a long word", "+1.25"] * 300 for i in range(14)})
    figure = go.Figure(
        go.Heatmap(z=[[1, 2], [3, 4]]),
        layout={"width": 620, "title": "A title that is far too long for any phone, <b>"},
    )
    file = tmp_path / "page.html"
    file.write_text(charts.page("Title", ["A paragraph", go.Figure(go.Bar(y=[1, 2])), figure, ("Many columns", wide)]))
    options = Options()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        driver.get(file.as_uri())
        drawn = "return document.querySelectorAll('.main-svg').length >= 2"
        WebDriverWait(driver, 60).until(lambda d: d.execute_script(drawn))
        found, window = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert found <= window == width
        assert "A title that is far too long for any phone, <b>" in driver.find_element("tag name", "body").text
        assert driver.execute_script("return document.querySelectorAll('.gtitle').length") == 0  # it would be cut
        # a table of thousands of rows scrolls by itself, so that what stands below it is found
        assert driver.execute_script("return document.documentElement.scrollHeight") < 4000
        assert driver.get_log("browser") == []
    finally:
        driver.quit()
