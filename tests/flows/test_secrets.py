"""
A run that fails and one that is killed, with secrets planted wherever one can be configured: both are reported at once,
and the secrets appear nowhere.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(900)]

DATABASE, AUTH, HOOK = "Pl4nted-database-pw", "admin:Pl4nted-auth-string", "Pl4nted-webhook-path"
SECRETS = (DATABASE, AUTH, HOOK)
AS_OF = "2025-06-27T00:00:00+00:00"
CONFIG = "tests/configs/small.ini"
BREAK = "    def parts(self, bars: Panel) -> Parts:\n"


@pytest.fixture(scope="module")
def more_environ(server, inbox):
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS planted")
        connection.execute(f"CREATE ROLE planted SUPERUSER LOGIN PASSWORD '{DATABASE}'")
    return {
        "ALPHAPIVOT_DATABASE__URL": f"postgresql://planted:{DATABASE}@127.0.0.1:{server.port}/{{database}}",
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        "PREFECT_API_AUTH_STRING": AUTH,
        "ALPHAPIVOT_ALERT_URLS": f"{inbox.url}/{HOOK}",
    }


@pytest.fixture(scope="module")
def over(checkout, inbox, tmp_path_factory):
    """Both runs ended and reported: their results, and the command lines of all processes meanwhile."""
    momentum = checkout.folder / "pillars" / "momentum.py"
    sound, note = momentum.read_text(), tmp_path_factory.mktemp("note") / "pid"
    momentum.write_text(sound.replace(BREAK, BREAK + '        raise RuntimeError("injected by the test")\n'))
    failed = checkout.alphapivot("run", "--config", CONFIG, "--as-of", AS_OF)

    hang = f"        import os, pathlib, time\n        pathlib.Path({str(note)!r}).write_text(str(os.getpid()))\n"
    momentum.write_text(sound.replace(BREAK, BREAK + hang + "        time.sleep(100)\n"))
    run_id = checkout.trigger("pipeline", as_of="2025-06-27T12:00:00+00:00")
    checkout.eventually(lambda: note.exists() and note.read_text(), bool, 120)
    lists = [p.read_bytes().decode(errors="replace") for p in Path("/proc").glob("[0-9]*/cmdline") if _lives(p)]
    momentum.write_text(sound)
    os.kill(int(note.read_text()), signal.SIGKILL)
    crashed = checkout.ended(run_id)
    checkout.eventually(inbox.titles, lambda titles: len(titles) >= 2)
    time.sleep(3)  # for one too many
    return failed, crashed, lists


def _lives(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


def test_a_failed_and_a_killed_run_are_each_told_of_once(checkout, over, inbox):
    failed, crashed, _ = over
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert crashed["state"]["type"] == "CRASHED"
    assert inbox.titles() == [
        "run failed: pipeline 2025-06-27 00:00Z",
        "run crashed: pipeline 2025-06-27 12:00Z",
    ]
    assert "injected by the test" in inbox.messages[0][1]["message"]
    assert checkout.sql("SELECT count(*), count(sent_at) FROM api.alerts") == [(2, 2)]
    assert not any(secret in json.dumps(message) for _, message in inbox.messages for secret in SECRETS)


def test_who_has_no_auth_string_learns_and_starts_nothing(checkout, over):
    for path in ("/deployments/filter", "/flow_runs/filter", "/artifacts/filter"):
        request = urllib.request.Request(f"{checkout.api}{path}", b"{}", {"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=20)
        assert refused.value.code == 401


def test_the_server_listens_on_loopback_alone(checkout):
    port = int(checkout.api.split(":")[2].split("/")[0])
    tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    listening = {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    assert listening == {"0100007F"}  # 127.0.0.1


def test_no_secret_stands_in_a_process_list_an_output_a_log_or_a_file(checkout, over, home_root):
    failed, _, lists = over
    assert any("prefect" in line for line in lists), "the processes were looked at while they ran"
    assert not [line for line in lists if any(s in line for s in SECRETS)]
    texts = {"the terminal": failed.stdout + failed.stderr}
    texts |= {str(p): p.read_text(errors="replace") for p in checkout.folder.parent.glob("*.log")}
    texts |= {str(p): p.read_text(errors="replace") for p in (home_root / "home" / "prefect").rglob("*") if p.is_file()}
    assert len(texts) > 3
    assert [where for where, text in texts.items() if any(s in text for s in SECRETS)] == []


def test_no_secret_stands_in_the_hub_or_in_prefects_database(checkout, over, server):
    looked_at = 0
    for url in (checkout.hub.url, server.database("prefect")):
        with psycopg.connect(url) as connection:
            tables = connection.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
                " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            ).fetchall()
            for (table,) in tables:
                pattern = [f"%{s}%" for s in SECRETS]
                rows = connection.execute(
                    f"SELECT count(*), count(*) FILTER (WHERE t::text LIKE ANY(%s)) FROM {table} t", [pattern]
                ).fetchone()
                looked_at += rows[0]
                assert rows[1] == 0, f"{table} holds a secret"
    assert looked_at > 1000
    assert checkout.sql("SELECT count(*) FROM ops.run WHERE config::text LIKE '%instruments%'") == [(2,)]
