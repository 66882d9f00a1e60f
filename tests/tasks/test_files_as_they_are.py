"""`alphapivot ingest --from` over files as people have them: one bad file is alone, and the exit code says so."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from alphapivot import cli
from alphapivot import hub as hubs
from alphapivot.frames import Actions, Bars, Rolls
from tests.tasks.market import open_trade

SMALL = Path(__file__).parents[1] / "configs" / "small.ini"
TERMS = """
group = g
currency = USD
quote_unit = 1
multiplier = 1
tick = 0.01
lot = 1
margin = 1
tradable = yes
"""
DAYS = ("2024-01-08", "2024-01-09", "2024-01-10", "2024-01-11", "2024-01-12")
ROWS = [f"{day},{n},{n + 2},{n - 1},{n + 1},9" for n, day in enumerate(DAYS, 8)]
WEEK = "\n".join(["Date,Open,High,Low,Close,Volume", *ROWS])


@pytest.fixture
def ingest(tmp_path, hub_url, monkeypatch, capsys):
    """Runs `ingest --from` over instruments (symbol -> further lines); returns the exit code and what it printed."""
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    (tmp_path / "prices").mkdir()

    def run(feed="", words="--from 2024-01-01 --to 2024-03-30", name="files", **instruments):
        text = SMALL.read_text()
        rest = text[text.index("[timeframes]") :]
        feeds = f"[feed.{name}]\nkind = files\nroot = prices\nzone = America/New_York\nstamp = date\n{feed}\n"
        head = f"[runtime]\nfeed = {name}\nshards = 1\n{feeds}"
        sections = "".join(f"[instrument.{symbol}]{TERMS}{lines}\n" for symbol, lines in instruments.items())
        (tmp_path / "config.ini").write_text(head + sections + rest)
        code = cli.main(["ingest", *words.split(), "--config", str(tmp_path / "config.ini")])
        return code, capsys.readouterr().out

    run.folder = tmp_path / "prices"
    return run


def spot(file, calendar="XNYS"):
    return f"signal_market = spot\ntrade_market = spot\ncalendar = {calendar}\nspot = {file}"


def futures(files, *more):
    lines = ["signal_market = futures", "trade_market = futures", "calendar = CMES", f"futures = {files}", *more]
    return "\n".join(lines)


def bars():
    stored = hubs.connect().read(Bars)
    return stored[stored["interval"] == "1d"].groupby(["symbol", "contract"]).size().to_dict()


def test_bad_files_stop_only_themselves_and_the_exit_code_says_so(ingest):
    (ingest.folder / "good.csv").write_text(WEEK)
    (ingest.folder / "bad.csv.gz").write_bytes(gzip.compress(WEEK.encode())[:-20])
    for name in ("ES_H24.csv", "ES_H24 (1).csv", "ES_continuous.csv"):
        (ingest.folder / name).write_text(WEEK)
    rolls = futures("NQ_H24*.csv", "roll = calendar", "roll_calendar = missing.csv: DATE + next")
    (ingest.folder / "NQ_H24.csv").write_text(WEEK)
    code, told = ingest(
        GOOD=spot("good.csv"), BAD=spot("bad.csv.gz"), ES=futures("ES_*.csv", "roll = volume"), NQ=rolls
    )
    assert code == 1
    assert bars() == {("GOOD", ""): 5, ("ES", "ES_H24"): 5, ("NQ", "NQ_H24"): 5}
    for name in ("bad.csv.gz", "ES_H24 (1).csv", "ES_continuous.csv", "missing.csv"):
        assert name in told.replace("\n", " ")
    assert ingest(GOOD=spot("good.csv"))[0] == 0


def test_a_load_that_stores_nothing_says_so(ingest):
    (ingest.folder / "bad.csv").write_text("Date,Open,High,Low,Close\n2024-01-08,8,7,9,8\n2024-01-09,8,7,9,8\n")
    code, told = ingest(BAD=spot("bad.csv"))
    assert code == 1
    assert "BAD spot 1d: nothing stored of 2 bars: high and low" in told
    code, told = ingest(words="--from 2020-01-01 --to 2020-02-01", BAD=spot("bad.csv"))
    assert code == 1
    assert "nothing was stored: no bar between 2020-01-01 and 2020-02-01 passed" in told


def test_a_calendar_spread_never_becomes_the_front_contract(ingest):
    rows = ["ts_event,symbol,close,volume"]
    for n, day in enumerate(DAYS):
        for contract, close, volume in (("ESH4", 5057, 9), ("ESM4", 5115, 3), ("ESH4-ESM4", 58, 5 * n)):
            rows.append(f"{day},{contract},{close},{volume}")
    (ingest.folder / "es.csv").write_text("\n".join(rows))
    code, told = ingest("columns = ts: ts_event, contract: symbol", ES=futures("es.csv", "roll = volume"))
    assert code == 0
    assert "left out ESH4-ESM4" in told
    assert hubs.connect().read(Rolls)["contract"].tolist() == ["ESH4"]


SIDE_BY_SIDE = "join = yes\ncolumns = ts: DATETIME\ncontracts = PRICE_CONTRACT: PRICE, FORWARD_CONTRACT: FORWARD"


def quotes(folder, *, together):
    """Two weeks of quotes: the forward contract is never in a day's last row, which the front one always is."""
    rows = ["DATETIME,PRICE,PRICE_CONTRACT,FORWARD,FORWARD_CONTRACT"]
    for n, day in enumerate([*DAYS, "2024-01-16", "2024-01-17", "2024-02-14", "2024-02-15"]):
        near, far = ("20240300", "20240600") if day < "2024-01-16" else ("20240600", "20240900")
        price = 100 + n
        rows.append(f"{day} 15:00:00,{price if together else ''},{near},{price + 7},{far}")
        rows.append(f"{day} 21:00:00,{price + 0.5},{near},,{far}")
    (folder / "m.csv").write_text("\n".join(rows))
    (folder / "r.csv").write_text("DATE_TIME,next_contract\n2024-01-12 15:00:00,20240600\n")


def test_the_spread_of_a_roll_is_of_the_last_instant_that_quotes_both(ingest):
    quotes(ingest.folder, together=True)
    files = ("roll = calendar", "roll_calendar = r.csv: DATE_TIME + next_contract")
    code, _ = ingest(SIDE_BY_SIDE, ES=futures("m.csv", *files))
    assert code == 0
    rolled = hubs.connect().read(Rolls).sort_values("ts")
    assert rolled["contract"].tolist() == ["20240300", "20240600"]
    assert rolled["spread"].tolist() == [0, 7]
    assert f"{rolled['ts'].iloc[-1]:%Y-%m-%d}" == "2024-01-11"  # known in advance: from the session of the 12th on


def test_a_series_that_ends_early_is_told_and_fails(ingest):
    quotes(ingest.folder, together=False)
    files = ("roll = calendar", "roll_calendar = r.csv: DATE_TIME + next_contract")
    code, told = ingest(SIDE_BY_SIDE, ES=futures("m.csv", *files))
    assert code == 1
    assert "ES futures end early: its front contract 20240300 has its last bar on 2024-01-12" in told.replace("\n", " ")


def two_vendors(folder):
    """A dividend that two vendors date a day apart, and a split that only the first one reports."""
    for name, paid in (("a.csv", "2024-01-10"), ("b.csv", "2024-01-11")):
        rows = [f"{row},{2 if row.startswith(paid) else 0},0" for row in ROWS]
        (folder / name).write_text("\n".join(["Date,Open,High,Low,Close,Volume,Dividends,Splits", *rows]))
    return "columns = dividend: Dividends, split: Splits"


def events():
    return [(f"{row.ts:%m-%d}", row.kind, row.source) for row in hubs.connect().read(Actions).itertuples()]


def test_events_of_a_source_that_is_no_longer_the_feed_do_not_count_and_the_switch_is_told(ingest):
    columns = two_vendors(ingest.folder)
    assert ingest(columns, name="va", SPY=spot("a.csv"))[0] == 0
    assert events() == [("01-10", "dividend", "va")]
    code, told = ingest(columns, name="vb", SPY=spot("b.csv"))
    assert code == 0
    assert events() == [("01-11", "dividend", "vb")]
    flat = " ".join(told.split())
    assert "SPY spot 1d: the source changes from va to vb" in flat
    assert set(hubs.connect().read(Bars)["source"]) == {"vb", "resampled"}
    # a third that says nothing of events
    ingest(name="vc", SPY=spot("a.csv"))
    assert events() == []


def test_an_event_that_someone_drops_stays_away_until_that_is_taken_back(ingest, capsys):
    columns = two_vendors(ingest.folder)
    ingest(columns, SPY=spot("a.csv"))
    config = ["--config", str(ingest.folder.parent / "config.ini")]
    assert cli.main(["data", "drop-event", "SPY", *config]) == 2
    assert cli.main(["data", "drop-event", "SPY", "--kind", "dividend", "--why", "paid twice", *config]) == 0
    assert events() == []
    ingest(columns, words="--from 2024-01-02 --to 2024-03-30", SPY=spot("a.csv"))
    assert events() == []
    taken_back = ["data", "accept", "SPY", "--check", "dropped dividend", "--why", "it was not", "--all", *config]
    assert cli.main(taken_back) == 0
    ingest(columns, words="--from 2024-01-03 --to 2024-03-30", SPY=spot("a.csv"))
    assert events() == [("01-10", "dividend", "files")]
    assert cli.main(["data", "events", "SPY", *config]) == 0
    assert "dividend" in capsys.readouterr().out


def test_no_event_is_dropped_under_an_open_trade(ingest, capsys):
    ingest(two_vendors(ingest.folder), SPY=spot("a.csv"))
    open_trade("SPY", "test")
    config = ["--config", str(ingest.folder.parent / "config.ini")]
    assert cli.main(["data", "drop-event", "SPY", "--kind", "dividend", "--why", "paid twice", *config]) != 0
    assert "a trade in SPY is open in book test: its quantity and prices follow" in "".join(capsys.readouterr())
    assert events() == [("01-10", "dividend", "files")]


def test_a_files_mistake_is_told_once_however_many_pieces_meet_it(ingest, tmp_path, caplog):
    (tmp_path / "prices" / "x.csv").write_text("2024-01-08 10:00,8,10,7,9,9\n")
    with caplog.at_level("WARNING", "alphapivot.ingest"):
        code, _ = ingest(words="--from 2022-01-01 --to 2024-03-30", X=spot("x.csv") + "\nspot_interval = 1m")
    assert code == 1
    told = [record for record in caplog.records if "the first line holds numbers" in record.getMessage()]
    assert len(told) == 1
