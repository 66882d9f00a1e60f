"""Kite's login and candles through its real client, against a server that answers as its documentation says."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alphapivot import cli, home
from alphapivot.config.sections.feeds import KiteFeed
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.feeds import candles
from alphapivot.feeds.base import Request
from alphapivot.feeds.kite import feed as kite_feed
from alphapivot.feeds.registry import open_feed
from alphapivot.venues.kite import client, instruments, login
from tests.feeds import kite_server
from tests.feeds.http_server import serving
from tests.feeds.test_files import instrument

pytest.importorskip("kiteconnect")

ROOT = Path(__file__).parents[2]
FUTURES = {"spot": None, "signal_market": "futures", "trade_market": "futures", "lot": 75, "tick": "0.1"}
INDIA = {"calendar": "NSE", "currency": "INR", "tick": "0.05"}
SINCE, UNTIL = datetime(2025, 12, 10, 12, tzinfo=UTC), datetime(2025, 12, 12, 9, tzinfo=UTC)


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    monkeypatch.setenv("KITE_API_KEY", kite_server.API_KEY)
    monkeypatch.setenv("KITE_API_SECRET", kite_server.SECRET)
    monkeypatch.setattr(kite_feed.time, "sleep", lambda _: None)
    with serving(kite_server.Handler) as server:
        yield server


def log_in(token=kite_server.TOKEN, since=None):
    return login.keep(login.Login(kite_server.API_KEY, "XX0000", token, since or datetime.now(UTC).isoformat()))


def ask(server, *tickers, market="spot", interval="1d", since=SINCE, until=UNTIL, terms=None, **keys):
    terms = INDIA | (FUTURES if market == "futures" else {}) | (terms or {})
    feed = open_feed("kite", KiteFeed(base_url=server.url, patience=9, **keys))
    made = [instrument(**terms | {"symbol": f"X{n}", market: ticker}) for n, ticker in enumerate(tickers)]
    return feed.fetch([Request(one, market, interval, since, until) for one in made])


def ends(bars):
    return [f"{ts:%m-%d %H:%M}" for ts in bars["ts"].drop_duplicates()]


@pytest.mark.parametrize(
    ("since", "until"),
    [  # 06:00 in India is 00:30 UTC
        ("2025-12-11T04:00:00+00:00", "2025-12-12 00:30"),
        ("2025-12-11T00:29:00+00:00", "2025-12-11 00:30"),
        ("2025-12-11T20:00:00+00:00", "2025-12-12 00:30"),
    ],
)
def test_a_login_ends_at_six_in_the_morning_in_india(since, until):
    assert f"{login.Login('k', 'u', 't', since).until:%Y-%m-%d %H:%M}" == until


def test_the_command_logs_in_and_keeps_the_token_for_its_owner_alone(server, tmp_path, capsys):
    config = tmp_path / "config.ini"
    config.write_text((ROOT / "demo.ini").read_text() + f"\n[feed.kite]\nkind = kite\nbase_url = {server.url}\n")
    words = ["login", "kite", "--config", str(config), "--request-token"]
    assert cli.main([*words, "https://example.org/?action=login&status=success&request_token=request1"]) == 0
    told = capsys.readouterr().out
    assert "Logged in as XX0000 until" in told
    (file,) = (home.home() / "logins").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert login.current(kite_server.API_KEY, datetime.now(UTC)).token == kite_server.TOKEN
    assert cli.main([*words, "other111"]) == 1
    told = capsys.readouterr()
    assert "a request token is good once" in told.err
    assert kite_server.SECRET not in told.err + told.out


def test_without_a_login_of_today_each_request_says_what_to_type(server):
    (problem,) = ask(server, "INFY").problems
    assert problem.reason == "nobody has logged in to Kite: run `alphapivot login kite`"
    log_in(since="2025-12-11T04:00:00+00:00")
    (problem,) = ask(server, "INFY").problems
    assert "of XX0000 ended at 2025-12-12 06:00 in India: run `alphapivot login kite`" in problem.reason
    assert not server.asked
    log_in(token="ended-by-another")
    fetched = ask(server, "INFY", "INFY")
    assert ["run `alphapivot login kite`" in p.reason for p in fetched.problems] == [True, True]
    assert len(server.asked) == 1


def test_a_share_has_days_without_the_one_in_progress_and_in_the_shares_of_their_day(server):
    log_in()
    fetched = ask(server, "INFY", splits={"X0": "2025-12-11 2"})
    # NSE closes at 15:30 in India, 10:00 UTC, an hour after until
    assert ends(fetched.bars) == ["12-11 10:00"]
    fetched = ask(server, "INFY", since=datetime(2025, 12, 9, 12, tzinfo=UTC), splits={"X0": "2025-12-11 2"})
    assert fetched.bars[["open", "volume"]].to_numpy().tolist() == [[201, 500], [100.5, 1000]]
    assert fetched.actions[["kind", "value"]].to_numpy().tolist() == [["split", 2]]


def test_futures_listed_today_come_with_open_interest_and_no_option(server):
    log_in()
    fetched = ask(server, "NIFTY", market="futures", terms={"last_trade": "last tuesday", "spot": None})
    assert sorted(fetched.bars["contract"].unique()) == ["NIFTY25DECFUT", "NIFTY26JANFUT"]
    assert (fetched.bars["open_interest"] == 75_000).all()
    # what the config says otherwise is told with the line to write
    assert [n for n in fetched.notes if "lot" in n] == [
        "[instrument.X0] lot is 75, Kite lists 65 for NIFTY26JANFUT: write lot = 75, 2026-01: 65"
    ]
    assert not any("last_trade" in note for note in fetched.notes)


def test_an_index_has_no_volume_and_hours_end_where_the_session_does(server):
    log_in()
    bars = ask(server, "NSE:NIFTY 50", interval="1h", until=datetime(2025, 12, 11, 11, tzinfo=UTC)).bars
    assert ends(bars) == [f"12-11 {t}" for t in ("04:45", "05:45", "06:45", "07:45", "08:45", "09:45", "10:00")]
    assert bars["volume"].isna().all()


def test_long_spans_are_asked_in_pieces_and_the_list_once_a_day(server):
    log_in()
    fetched = ask(server, "INFY", interval="1m", since=datetime(2025, 8, 1, tzinfo=UTC))
    assert not fetched.problems
    assert sum("historical" in path for path in server.asked) == 3  # 136 days
    ask(server, "INFY")
    assert server.asked.count("/instruments/NSE") == 1
    now = datetime(2025, 12, 11, 2, 59, tzinfo=UTC)  # 08:29 in India: today's list is not made yet
    assert (instruments.day(now), instruments.day(now.replace(hour=3, minute=0))) == ("2025-12-10", "2025-12-11")


@pytest.mark.parametrize(
    ("failure", "told", "transient"),
    [
        ((403, "PermissionException", "Insufficient permission for that call."), "may not do this", False),
        ((400, "InputException", "invalid token"), "the request is wrong (InputException 400: invalid token)", False),
        ((429, "NetworkException", "Too many requests"), "limits the rate of requests", True),
        ((502, "DataException", "no answer"), "its order system gave no usable answer", True),
    ],
)
def test_an_error_is_a_sentence_and_the_others_go_on(server, failure, told, transient):
    log_in()
    server.failures += [failure] * (3 if transient else 1)
    fetched = ask(server, "INFY", "INFY")
    (problem,) = fetched.problems
    assert told in problem.reason
    assert problem.transient == transient
    assert set(fetched.bars["symbol"]) == {"X1"}


def test_what_it_has_not_is_told(server, monkeypatch):
    log_in()
    assert "Kite lists no NSE:INFOSYS today" in ask(server, "INFOSYS").problems[0].reason
    assert "has no candles of '4h'; it has 1m, 5m" in ask(server, "INFY", interval="4h").problems[0].reason
    assert "expected one of NSE, BSE" in ask(server, "LSE:VOD").problems[0].reason
    server.shutdown()
    server.server_close()
    with pytest.raises(Unavailable, match="Kite cannot be reached"):
        ask(server, "INFY", start="2025-01-01")
    monkeypatch.delenv("KITE_API_KEY")
    with pytest.raises(ConfigError, match="needs KITE_API_KEY in the environment"):
        ask(server, "INFY")


def test_two_that_write_the_list_of_a_day_at_once_leave_a_whole_one(server, monkeypatch):
    """The second begins before the first has ended."""
    now = datetime(2025, 12, 11, 9, tzinfo=UTC)
    kite = client.opened(kite_server.API_KEY, kite_server.TOKEN, server.url, 5)
    begun = []
    write = instruments._write

    def slow(path, made):
        def each():
            yield made[0]
            if not begun:
                begun.append(True)
                instruments.listed(kite, "NFO", now)
            yield from made[1:]

        write(path, each())

    monkeypatch.setattr(instruments, "_write", slow)
    assert len(instruments.listed(kite, "NFO", now)) == 2
    folder = home.home() / "kite"
    assert [file.name for file in folder.iterdir()] == ["2025-12-11-NFO.csv.gz"]


@pytest.mark.parametrize(("now", "scale"), [("18:29", 1), ("18:31", 2)])
def test_a_split_is_in_the_candles_from_its_day_in_india_on(server, monkeypatch, now, scale):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromisoformat(f"2025-12-14T{now}+00:00").astimezone(tz)

    log_in()
    monkeypatch.setattr(candles, "datetime", Clock)
    bars = ask(server, "INFY", splits={"X0": "2025-12-15 2"}).bars
    assert set(bars["close"]) == {101.0 * scale}
