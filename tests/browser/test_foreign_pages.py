"""
A web page opened while `alphapivot ui` runs can read, start and execute nothing.

The attacks are those available to pages: fetch with and without a preflight, a form, a WebSocket, a frame, a name that
resolves to this machine (DNS rebinding). Each runs in a real browser that is logged in to the UI.
"""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.prefect, pytest.mark.timeout(400)]

ATTACK = """<!doctype html><meta charset=utf-8><title>attack</title><pre id=said></pre><script>
const [api, deployment, command, authorization] = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const say = text => document.getElementById('said').textContent += text + '\\n';
const body = JSON.stringify({state: {type: 'SCHEDULED'}, job_variables: {command}});
const start = api + '/deployments/' + deployment + '/create_flow_run';
const tries = {
  read: () => fetch(api + '/deployments/filter', {method: 'POST', body: '{}', headers: json}).then(a => a.json()),
  fetched: () => fetch(start, {method: 'POST', body, headers: json}).then(a => a.json()),
  // these have no preflight, and need not read the response
  simple: () => fetch(start, {method: 'POST', body, mode: 'no-cors'}).then(a => { throw a.type }),
  typeless: () => fetch(start, {method: 'POST', body: new Blob([body]), mode: 'no-cors'}).then(a => { throw a.type }),
  socket: () => new Promise((done, failed) => {
    const socket = new WebSocket(api.replace('http', 'ws') + '/events/out', ['prefect']);
    socket.onopen = () => done('open');
    socket.onerror = () => failed('closed');
  }),
  frame: () => new Promise((done, failed) => {
    const frame = document.createElement('iframe');
    frame.onload = () => { try { frame.contentWindow.localStorage; done('read') } catch (e) { failed('shut') } };
    frame.src = api.replace('/api', '/');
    document.body.append(frame);
  }),
  form: () => new Promise((done, failed) => {
    const form = document.createElement('form'), target = document.createElement('iframe');
    target.name = 'target';
    Object.assign(form, {method: 'POST', action: start, enctype: 'text/plain', target: 'target'});
    const field = document.createElement('input');
    [field.name, field.value] = [body.slice(0, -1) + ', "x": "', '"}'];
    form.append(field);
    document.body.append(form, target);
    form.submit();
    setTimeout(() => failed('sent'), 2000);
  }),
};
const json = {'Content-Type': 'application/json', ...(authorization ? {Authorization: authorization} : {})};
(async () => {
  for (const [name, attempt] of Object.entries(tries)) {
    try { say(name + ': DONE ' + JSON.stringify(await attempt())); }
    catch (error) { say(name + ': blocked, ' + error); }
  }
  say('over');
})();
</script>"""
SOON = timedelta(seconds=3)
NAMES = ("read", "fetched", "simple", "typeless", "socket", "frame", "form")


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(ATTACK.encode())

    def log_message(self, *_):
        """Silent."""


@pytest.fixture(scope="module")
def elsewhere():
    """The port that serves the attacker's page, from another origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def attack(checkout, browser, elsewhere):
    """Opens the attacker's page under a host name; checks that nothing was created or executed, returns its text."""
    touched = checkout.folder.parent / "touched-by-a-web-page"
    report = checkout.deployment("report")

    def play(host: str, api: str, authorization: str = "") -> str:
        command = f"/bin/sh -c 'id > {touched}'"
        arguments = json.dumps([api, report["id"], command, authorization])
        browser.driver.get("about:blank")
        browser.driver.get(f"http://{host}:{elsewhere}/page#{arguments}")
        page = browser.shows("over")
        mine = {"flow_runs": {"deployment_id": {"any_": [report["id"]]}, "state": {"type": {"any_": ["SCHEDULED"]}}}}
        assert checkout.ask("/flow_runs/filter", mine) == []
        assert not touched.exists()
        return page

    return play


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "evil.example"])
@pytest.mark.parametrize("knows", [False, True], ids=["without the secret", "with the secret"])
def test_a_page_of_another_origin_gets_nothing(checkout, attack, host, knows):
    authorization = "Basic " + base64.b64encode(checkout.secret.encode()).decode() if knows else ""
    for name in ("127.0.0.1", "localhost"):
        page = attack(host, checkout.api.replace("127.0.0.1", name), authorization)
        assert "DONE" not in page
        assert [line.split(":")[0] for line in page.split("\n") if "blocked" in line] == list(NAMES)


def test_a_name_that_resolves_to_this_machine_gets_nothing(checkout, browser, attack):
    api = checkout.api.replace("127.0.0.1", "evil.example")
    assert "DONE" not in attack("evil.example", api)
    browser.driver.get(api.replace("/api", "/"))
    assert "Invalid host header" in browser.shows("Invalid")


def test_whoever_has_the_secret_still_cannot_say_what_a_worker_executes(checkout, tmp_path):
    report, touched = checkout.deployment("report"), tmp_path / "touched"
    refused = [
        {"command": f"touch {touched}"},
        {"env": {"PYTHONPATH": str(tmp_path)}},
        {"env.LD_PRELOAD": str(tmp_path / "evil.so")},
        {"working_dir": str(tmp_path)},
    ]
    for variables in refused:
        with pytest.raises(urllib.error.HTTPError) as refusal:
            checkout.ask(f"/deployments/{report['id']}/create_flow_run", {"job_variables": variables})
        assert refusal.value.code == 422
        detail = refusal.value.read().decode()
        assert "Additional properties are not allowed" in detail or "'PYTHONPATH' does not match" in detail
    # the server does not validate a changed deployment: the worker does
    due = {"type": "SCHEDULED", "state_details": {"scheduled_time": (datetime.now(UTC) + SOON).isoformat()}}
    run = checkout.ask(f"/deployments/{report['id']}/create_flow_run", {"state": due})["id"]
    checkout.ask(f"/deployments/{report['id']}", {"job_variables": refused[0]}, method="PATCH")
    try:
        state = checkout.ended(run)["state"]
    finally:
        checkout.ask(f"/deployments/{report['id']}", {"job_variables": {}}, method="PATCH")
    assert (state["type"], "job variables are not accepted: command" in state["message"]) == ("CRASHED", True)
    assert not touched.exists()


def test_a_browser_that_is_not_logged_in_sees_nothing_and_a_link_logs_it_in(checkout, browser):
    browser.open("/deployments")
    browser.shows("Search deployments", "backtest")
    browser.driver.execute_script("localStorage.clear()")
    browser.open("/deployments")
    assert "backtest" not in browser.shows("Login")
    link = checkout.alphapivot("ui", "--link").stdout.strip()
    browser.driver.get(link)
    browser.shows("Dashboard")
    browser.open("/deployments")
    browser.shows("Search deployments", "backtest")
    browser.driver.get("about:blank")
    browser.driver.get(link)
    browser.shows("This link was used or has expired", "alphapivot ui --link")
