"""Splits and dividends: cases worked by hand, and that they change nothing before them."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.calendar import bar_ends
from alphapivot.data import actions, resample
from alphapivot.feeds.base import ACTIONS, events
from alphapivot.frames import ACTION_KINDS, Actions, Bars, Issues, Signals
from tasks import ingest, pillars, runs

NAN = float("nan")
CLOSES = bar_ends.bar_ends("XNYS", "1d", pd.Timestamp("2024-06-09", tz="UTC"), pd.Timestamp("2024-06-19", tz="UTC"))
OPENS = bar_ends.sessions("XNYS", CLOSES[0] - pd.Timedelta(hours=5), CLOSES[-1])["open"]


def bars(*close, symbol="A", market="spot", volume=100.0):
    """One bar of each session from 10 June 2024, a Monday, on."""
    n = len(close)
    prices = {name: np.array(close, float) for name in ("open", "high", "low", "close")}
    fixed = {"symbol": symbol, "market": market, "contract": "", "interval": "1d", "source": "test"}
    return pd.DataFrame({**fixed, "ts": CLOSES[:n], **prices, "volume": volume, "open_interest": NAN})[Bars.columns()]


def fetched(*rows, symbol="A"):
    """Events from (kind, ex-date session counted from 10 June, value)."""
    table = pd.DataFrame(rows, columns=["kind", "session", "value"])
    ts = pd.DatetimeIndex([OPENS.iloc[n] for n in table["session"]], tz="UTC").as_unit("us")
    return table.assign(symbol=symbol, ts=ts, source="test")[ACTIONS].astype({"kind": "str", "value": float})


def realised(prices, *rows):
    made, issues = actions.realise(fetched(*rows), prices)
    assert issues.empty
    return Actions.validate(made)


def adjusted(prices, made, how="all"):
    return actions.adjust(prices, made, {"A": how})


def test_a_split_multiplies_what_comes_after_it_and_leaves_what_came_before():
    prices = bars(400, 404, 102, 103)
    seen = adjusted(prices, realised(prices, ("split", 2, 4)))
    assert seen["close"].tolist() == [400, 404, 408, 412]
    assert seen["volume"].tolist() == [100, 100, 25, 25]


def test_a_reverse_split_divides():
    prices = bars(1.0, 10.0)
    assert adjusted(prices, realised(prices, ("split", 1, 0.1)))["close"].tolist() == [1, 1]


def test_a_dividend_is_what_the_holder_has_when_it_is_reinvested():
    # 100 with 2 to come; 98 the day after is no loss, and 99 is 1/98 of gain
    prices = bars(100, 98, 99)
    made = realised(prices, ("dividend", 1, 2))
    assert made["factor"].tolist() == [pytest.approx(100 / 98)]
    seen = adjusted(prices, made)
    assert seen["close"].tolist() == pytest.approx([100, 100, 99 * 100 / 98])
    assert seen["volume"].tolist() == [100, 100, 100]


def test_a_dividend_of_the_day_of_a_split_is_paid_on_the_new_shares():
    prices = bars(400, 98)
    made = realised(prices, ("split", 1, 4), ("dividend", 1, 2))
    # four shares at 98 and four dividends of 2
    assert adjusted(prices, made)["close"].tolist() == pytest.approx([400, 400])


def test_an_instrument_says_what_its_prices_are_adjusted_for():
    prices = bars(400, 98)
    made = realised(prices, ("split", 1, 4), ("dividend", 1, 2))
    assert adjusted(prices, made, "splits")["close"].tolist() == [400, 392]
    pd.testing.assert_frame_equal(adjusted(prices, made, "none"), prices)
    futures = bars(400, 98, market="futures")
    pd.testing.assert_frame_equal(adjusted(futures, made), futures)
    other = bars(400, 98, symbol="B")
    both = actions.adjust(pd.concat([other, prices]), made, {"A": "all", "B": "all"})
    assert both["close"].tolist()[:2] == [400, 98]


def test_before_the_first_bar_there_is_nothing_to_join():
    made = realised(bars(100).assign(ts=CLOSES[1:2]), ("dividend", 0, 2))
    assert made["factor"].tolist() == [1]


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (("dividend", 1, 120), "a dividend of 120.0 is not below the close before it, 100.0; expected less"),
        (("split", 1, -2), "got a split of -2.0; expected a number above 0"),
        (("dividend", 1, np.inf), "a dividend of inf is not below the close before it"),
    ],
)
def test_an_event_that_cannot_be_is_told_and_changes_nothing(event, why):
    made, issues = actions.realise(fetched(event), bars(100, 100))
    assert made.empty
    Issues.validate(issues)
    assert issues["check_name"].tolist() == ["corporate action"]
    assert why in issues["detail"].iloc[0]


def test_no_events_are_no_actions():
    made, issues = actions.realise(Actions.empty()[ACTIONS], bars(100))
    assert made.empty
    assert issues.empty
    assert Actions.validate(made).dtypes.to_dict() == Actions.empty().dtypes.to_dict()


def test_an_event_counts_from_the_open_of_its_session_and_none_is_none():
    days = pd.DatetimeIndex(["2024-07-03", "2024-07-04", "2024-07-05", "2024-07-08"])
    given_ = pd.DataFrame({"date": days, "kind": "split", "value": [2, 3, 1, NAN]})
    made = events("A", "test", "XNYS", given_)
    # Independence Day has no session; a split of 1 is none
    assert [f"{ts:%m-%d %H:%M}" for ts in made["ts"]] == ["07-03 13:30", "07-05 13:30"]
    assert made["value"].tolist() == [2, 3]


def test_a_week_with_a_split_in_it_is_in_the_shares_of_its_end():
    # from Monday 10 June to Friday the 14th; 4 for 1 on Wednesday
    prices = bars(400, 408, 101, 103, 99)
    prices = prices.assign(high=prices["close"] + 4, low=prices["close"] - 4)
    made = realised(prices, ("split", 2, 4))
    until = CLOSES[-1].to_pydatetime()
    (week,) = resample.resample(prices, "1w", {"A": "XNYS"}, until, made).to_dict("records")
    assert [week[c] for c in ("open", "high", "low", "close")] == [100, 107, 95, 99]
    # 100 old shares are 400 new ones
    assert week["volume"] == 2 * 400 + 3 * 100
    (plain,) = resample.resample(prices, "1w", {"A": "XNYS"}, until, made[:0]).to_dict("records")
    assert plain["high"] == 412


@given(
    close=st.lists(st.floats(1, 1000), min_size=4, max_size=7),
    rows=st.lists(
        st.tuples(st.sampled_from(ACTION_KINDS), st.integers(1, 6), st.sampled_from([0.1, 0.5, 2.0, 3.0, 7.0])),
        max_size=4,
        unique_by=lambda row: row[:2],
    ),
    cut=st.integers(1, 6),
)
@settings(max_examples=100, deadline=None)
def test_no_later_event_changes_an_earlier_price_and_changes_are_the_holders(close, rows, cut):
    prices = bars(*close)
    rows = [row for row in rows if row[1] < len(close)]
    made, _ = actions.realise(fetched(*rows), prices)
    seen = adjusted(prices, made)
    early = prices[:cut]
    then, _ = actions.realise(fetched(*[row for row in rows if row[1] < cut]), early)
    pd.testing.assert_frame_equal(adjusted(early, then), seen[: len(early)])
    # what one share of the day before has become the day after: its new shares and what they were paid
    for n in range(1, len(close)):
        usable = made[made["ts"] == OPENS.iloc[n]]
        ratio = usable.loc[usable["kind"] == "split", "value"].prod()
        paid = usable.loc[usable["kind"].isin(["dividend", "distribution"]), "value"].sum() * ratio
        grown = close[n] * ratio / (close[n - 1] - paid)
        assert seen["close"].iloc[n] / seen["close"].iloc[n - 1] == pytest.approx(grown)


# From a file through the steps: a market with a split and a dividend, and the same market without

CONFIG = (Path(__file__).parents[1] / "configs" / "sp500.ini").read_text(encoding="utf-8")
EX = pd.Timestamp("2024-06-12")  # a Wednesday


@pytest.fixture
def scored(server_url, template, monkeypatch, tmp_path):
    """The hub after bars of a file were ingested and scored at each of these instants, on a fresh database."""

    def at(rows, *instants, extra=""):
        rows.to_csv(tmp_path / "a.csv", index=False)
        text = CONFIG.replace("../../../shared/data/sp500_index_1999_2018", str(tmp_path)).replace(
            "spot_1d.csv", "a.csv"
        )
        text = text.replace("date_format = %m/%d/%Y\n", "").replace("volume: Volume", f"volume: Volume{extra}")
        config = tmp_path / "config.ini"
        config.write_text(text, encoding="utf-8")
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("hub", template=template))
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(config))
        chosen, states = process.configure(), []
        for instant in instants:
            run = runs.begin("replay", chosen, key=instant, as_of=datetime.fromisoformat(instant))
            ingested = [ingest.ingest.fn(run, feed, shard) for feed, shard in ingest.batches(run)]
            run = ingest.frozen(run, ingest.freeze.fn(run, after=ingested))
            for name in chosen.pillars:
                pillars.score_pillar.fn(run, name, 0)
            states.append(hubs.connect().read(Signals).sort_values(Signals.keys(), ignore_index=True))
        return hubs.connect(), states

    return at


def market():
    """Two years of days, prices with few binary digits so that a quarter of a price is exact."""
    days = bar_ends.sessions("XNYS", pd.Timestamp("2022-07-01", tz="UTC"), pd.Timestamp("2024-07-01", tz="UTC")).index
    rng = np.random.default_rng(3)
    close = 400 + np.round(np.cumsum(rng.normal(0, 4, len(days))) * 16) / 16
    open_ = np.append(close[0], close[:-1]) + np.round(rng.normal(0, 1, len(days)) * 16) / 16
    high = np.maximum(open_, close) + np.round(rng.random(len(days)) * 32) / 16
    low = np.minimum(open_, close) - np.round(rng.random(len(days)) * 32) / 16
    prices = {"Open": open_, "High": high, "Low": low, "Close": close}
    return pd.DataFrame({"Date": days.strftime("%Y-%m-%d"), **prices, "Volume": rng.integers(10, 99, len(days)) * 4.0})


def test_a_split_changes_no_score_before_it_nor_after_it(scored):
    plain = market()
    after = (pd.to_datetime(plain["Date"]) >= EX).to_numpy()
    split = plain.assign(Split=np.where(plain["Date"] == f"{EX:%Y-%m-%d}", 4.0, 0.0))
    for name in ("Open", "High", "Low", "Close"):
        split[name] = np.where(after, split[name] / 4, split[name])
    split["Volume"] = np.where(after, split["Volume"] * 4, split["Volume"])
    instants = ("2024-06-11T21:00:00+00:00", "2024-06-21T21:00:00+00:00")

    hub, (before, now) = scored(split, *instants, extra=", split: Split")
    assert hub.read(Actions)[["kind", "value", "factor"]].to_numpy().tolist() == [["split", 4, 4]]
    assert len(before) > 500
    # to the last bit and the batch: nothing was scored again
    known = now[now["ts"] <= before["ts"].max()].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, before)
    stored = hub.read(Bars)
    days = stored[stored["interval"] == "1d"].sort_values("ts")
    assert days["close"].tolist() == split["Close"].tolist()[: len(days)]
    with hub.dbapi() as connection:
        for table in ("market.bar_revision", "signals.signal_revision", "market.quality_issue"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table

    _, (_, never) = scored(plain, *instants)
    columns = [name for name in Signals.columns() if name != "batch_id"]
    assert (now["ts"] > before["ts"].max()).sum() > 10
    pd.testing.assert_frame_equal(now[columns], never[columns])


def test_a_dividend_changes_no_score_before_it(scored):
    paid = market()
    paid["Paid"] = np.where(paid["Date"] == f"{EX:%Y-%m-%d}", 8.0, 0.0)
    hub, (before, now) = scored(
        paid, "2024-06-11T21:00:00+00:00", "2024-06-21T21:00:00+00:00", extra=", dividend: Paid"
    )
    eve = paid.loc[paid["Date"] == "2024-06-11", "Close"].item()
    assert hub.read(Actions)["factor"].tolist() == [eve / (eve - 8)]
    pd.testing.assert_frame_equal(now[now["ts"] <= before["ts"].max()].reset_index(drop=True), before)
