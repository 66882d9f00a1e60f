"""`alphapivot ui`: stops without leaving processes, restarts with nothing lost, and runs beside another one."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from alphapivot.hub import Hub

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_stopped_ui_leaves_no_process_and_the_next_one_has_everything(checkout):
    address = checkout.api
    checkout.eventually(checkout.processes, lambda found: len(found) == 2)
    pipeline = checkout.deployment("pipeline")
    schedule = pipeline["schedules"][1]
    checkout.ask(f"/deployments/{pipeline['id']}/schedules/{schedule['id']}", {"active": False}, method="PATCH")
    run = checkout.ended(checkout.trigger("report"))

    for number in (signal.SIGINT, signal.SIGTERM):
        checkout.ui.send_signal(number)
        assert checkout.ui.wait(120) == 0
        assert checkout.processes() == {}
        checkout.serve()
        assert checkout.api == address, "bookmarks stay valid"
        awake = {s["slug"]: s["active"] for s in checkout.deployment("pipeline")["schedules"]}
        assert not awake.pop(schedule["slug"]), "a paused schedule stays paused"
        assert all(awake.values())
        assert checkout.ask(f"/flow_runs/{run['id']}")["state"] == run["state"]


def test_two_at_once_share_the_server_and_the_last_one_stops_it(checkout):
    first, address = checkout.ui, checkout.api
    checkout.serve()
    assert checkout.api == address
    servers = [pid for pid, command in checkout.processes().items() if "flows.server.app" in command]
    assert len(servers) == 1
    checkout.eventually(checkout.processes, lambda found: len(found) == 3)  # each has a worker

    first.send_signal(signal.SIGTERM)
    assert first.wait(120) == 0
    assert servers[0] in checkout.processes(), "the other one still needs it"
    assert checkout.ask("/health") is True

    checkout.ui.send_signal(signal.SIGTERM)
    assert checkout.ui.wait(120) == 0
    assert checkout.processes() == {}


@pytest.fixture
def up(checkout):
    """`alphapivot ui` is up when the test begins, however the test before it ended."""
    if checkout.ui.poll() is not None:
        checkout.serve()


def test_alphapivot_deploy_says_what_it_did_and_again_changes_nothing(up, checkout):
    report = checkout.deployment("report")
    checkout.ask(f"/deployments/{report['id']}", {"paused": True}, method="PATCH")
    said = checkout.alphapivot("deploy")
    assert said.returncode == 0, said.stderr
    assert "rerun-pillar" in said.stdout
    assert [d["name"] for d in checkout.deployments() if d["paused"]] == [report["name"]], "paused stays paused"
    checkout.ask(f"/deployments/{report['id']}", {"paused": False}, method="PATCH")
    again = checkout.alphapivot("deploy")
    assert again.returncode == 0, again.stderr
    assert "created" not in again.stdout
    assert "updated" not in again.stdout


@pytest.fixture
def stopped(checkout):
    """No `alphapivot ui` is up when the test begins."""
    if checkout.ui.poll() is None:
        checkout.stop()


def test_a_config_that_says_ask_schedules_nothing_where_nobody_answers(stopped, checkout):
    """[runtime] schedules = ask, without a terminal; a paused deployment stays paused when the schedules start."""

    def paused() -> dict[str, bool]:
        return {d["name"].split("-small")[0]: d["paused"] for d in checkout.deployments()}

    checkout.serve()
    report = checkout.deployment("report")
    checkout.ask(f"/deployments/{report['id']}", {"paused": True}, method="PATCH")
    checkout.stop()
    with checkout.configured(lambda text: text.replace("[runtime]\n", "[runtime]\nschedules = ask\n")):
        said = checkout.serve()
        assert "the schedules are paused" in said
        assert "schedules = yes" in said
        assert all(paused().values())
        due = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        mine = {"deployments": {"id": {"any_": [d["id"] for d in checkout.deployments()]}}}
        assert checkout.ask("/flow_runs/filter", due | mine) == []
        checkout.stop()
        assert "the schedules are paused" not in checkout.serve("--schedules")
        assert {name for name, is_paused in paused().items() if is_paused} == {"report"}
        checkout.stop()


def test_two_configs_at_once_each_have_runs_of_their_own(stopped, checkout, server):
    """Two files of one name, two databases, one server: no worker takes the other's run."""
    other = replace(checkout, environ=dict(checkout.environ), ui=None)
    (checkout.folder / "other").mkdir()
    config = checkout.folder / "other" / "small.ini"
    config.write_text(checkout.config.read_text().replace("book = test", "book = other"))
    name = f"{checkout.environ['ALPHAPIVOT_DATABASE__NAME']}_other"
    other.environ |= {"ALPHAPIVOT_CONFIG": str(config), "ALPHAPIVOT_DATABASE__NAME": name}
    with Hub(server.database(name)) as hub:
        other.hub = hub
        try:
            checkout.serve()
            other.serve()
            assert other.api == checkout.api
            pools = [c.deployment("ingest")["work_pool_name"] for c in (checkout, other)]
            assert len(set(pools)) == 2
            as_of = "2025-06-26T00:00:00+00:00"
            checkout.completed(checkout.trigger("ingest", as_of=as_of))
            before = checkout.sql("SELECT count(*) FROM ops.run")
            run = other.completed(other.trigger("ingest", as_of=as_of))
            assert run["work_pool_name"] == pools[1]
            assert other.sql("SELECT DISTINCT config -> 'execution' ->> 'book' FROM ops.run") == [("other",)]
            assert checkout.sql("SELECT count(*) FROM ops.run") == before
            other.stop()
            late = other.trigger("ingest", as_of="2025-06-27T00:00:00+00:00")
            checkout.completed(checkout.trigger("ingest", as_of="2025-06-27T00:00:00+00:00"))
            assert other.ask(f"/flow_runs/{late}")["state"]["type"] == "SCHEDULED", "its own worker is away"
        finally:
            other.close()
            checkout.stop()


PILLAR = """
from typing import ClassVar
from pydantic import Field
from pillars.base import Panel, Parts, Pillar

class Mine(Pillar):
    \"\"\"Always ten.\"\"\"

    name: ClassVar[str] = "mine"
    fast: int = Field(5, gt=1, description="bars")

    @property
    def history(self) -> int:
        return 10

    def parts(self, bars: Panel) -> Parts:
        return Parts(parts={"ten": 0 * bars.close + 10}, features={})
"""


def test_rerun_pillar_offers_the_pillars_of_plugins(stopped, checkout):
    folder = checkout.folder / "own"
    folder.mkdir()
    (folder / "mine.py").write_text(PILLAR)
    with checkout.configured(lambda text: f"{text}\n[plugins]\nfolder = {folder}\n\n[pillar.mine]\nfast = 5\n"):
        checkout.serve()
        properties = checkout.deployment("rerun-pillar")["parameter_openapi_schema"]["properties"]
        assert "mine" in properties["pillar"]["enum"]
        as_of = "2025-06-27T00:00:00+00:00"
        checkout.completed(checkout.trigger("ingest", as_of=as_of))
        checkout.completed(checkout.trigger("rerun-pillar", pillar="mine", as_of=as_of))
        assert checkout.sql("SELECT DISTINCT score FROM signals.signal WHERE pillar = 'mine'") == [(10,)]
        checkout.stop()


def test_without_authentication_it_says_what_that_risks_and_still_refuses_pages(stopped, checkout):
    said = checkout.serve("--no-auth")
    assert "execute code as you" in said
    assert "log your browser in" not in said
    address, body = f"{checkout.api}/deployments/filter", b"{}"
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=20) as answer:
        assert answer.status == 200
    for more in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(address, body, headers | more), timeout=20)
        assert refused.value.code in (400, 403)
    checkout.stop()
    assert "log your browser in" in checkout.serve(), "the next one asks again"
