"""
The Python API: a config and its database as one object, whose methods return DataFrames.

It does what the commands do, in a script, in Jupyter and within a running event loop. A process has one config at a
time: the Project that was made or used last.
"""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pandas as pd
from psycopg import sql

from alphapivot import home, hub, process
from alphapivot.config.ini import nearest
from alphapivot.errors import ConfigError, DataError
from alphapivot.frames import Bars
from alphapivot.hub.tables import bars as stored
from alphapivot.library.progress import shown
from alphapivot.library.results import Backtest, Book, Evaluation, Explanation, Search
from alphapivot.reports import explanation, overview

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alphapivot.config.sections.instrument import Market
    from alphapivot.config.settings import Settings
    from alphapivot.research.tune.objective import Objective

When = str | date | datetime | None  # a day (UTC), or an instant with its time zone
URL = "ALPHAPIVOT_DATABASE__URL"
CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
DECIMALS = {"score": 2, "raw": 2, "gate": 4}
BAR = ["open", "high", "low", "close", "volume", "open_interest"]


class Project:
    """
    A config file and its database. ``config``: default: config.ini of the working folder, or what ALPHAPIVOT_CONFIG
    names. ``feed``: a [feed.*] for all instruments. ``url``: the database; default: what the config says, else the
    embedded one, which starts by itself.

    Raises ConfigError if the config cannot be used, Unavailable if the database does not answer.
    """

    _given: ClassVar[str | None] = None  # the ``url`` of the Project used last, which the environment holds
    _outside: ClassVar[str | None] = None  # what the environment held before

    def __init__(self, config: str | Path | None = None, *, feed: str | None = None, url: str | None = None) -> None:
        os.environ.setdefault(CONSOLE_LEVEL, "WARNING")  # the steps of a backtest are no news
        if config is None:
            home.choose_config()
        self.path = Path(config).expanduser().absolute() if config is not None else home.config()
        self._feed, self._url = feed, url
        self.settings: Settings = self._use()
        self.hub = hub.connect()

    def __repr__(self) -> str:
        return f"Project({self.path}, {len(self.settings.instruments)} instruments, database {self.hub!r})"

    @property
    def symbols(self) -> list[str]:
        """The instruments."""
        return list(self.settings.instruments)

    def bars(
        self,
        symbol: str,
        *,
        since: When = None,
        until: When = None,
        interval: str | None = None,
        market: Market | None = None,
    ) -> pd.DataFrame:
        """
        Stored bars as traded, by ts (when each was complete, UTC): open, high, low, close, volume, open_interest, for
        futures their contract first. Default: the base interval of the market that is scored, all of it.
        """
        instrument = self._instrument(symbol)
        after, last = self._span(since, until)
        market = market or instrument.signal_market
        if market not in instrument.markets:
            raise ConfigError(f"{symbol} has no {market} market; expected {' or '.join(instrument.markets)}")
        columns = ["ts", *(["contract"] if market == "futures" else []), *BAR]
        found = stored.window(
            self.hub,
            [symbol],
            market,
            interval or self.settings.timeframes.base,
            after=after,
            until=last,
            known_at=None,
            columns=[name for name in Bars.columns() if name in ("symbol", *columns)],
        )
        return found[columns].sort_values("ts", kind="stable").set_index("ts")

    def signals(
        self,
        symbol: str,
        *,
        pillar: str | None = None,
        since: When = None,
        until: When = None,
        interval: str | None = None,
    ) -> pd.DataFrame:
        """
        The live scores of each pillar, a column each, by ts; with ``pillar`` its score, gate and veto. Default: the
        base interval, all of it.
        """
        self._instrument(symbol)
        known = self.settings.pillars
        if pillar is not None and pillar not in known:
            raise ConfigError(f"{pillar!r} is not a pillar of this config; {nearest(pillar, known)}")
        names = [pillar] if pillar is not None else list(known)
        where = sql.SQL("symbol = {} AND interval = {} AND pillar = ANY({})").format(
            symbol, interval or self.settings.timeframes.base, names
        )
        found = self._scores("pillar, ts, score, gate, veto", "signals.signal", where, since, until)
        if pillar is not None:
            return found.drop(columns="pillar").set_index("ts")
        table = found.pivot_table(index="ts", columns="pillar", values="score", aggfunc="first", dropna=False)
        return table.reindex(columns=[name for name in names if known[name].directional]).rename_axis(columns=None)

    def composite(self, symbol: str, *, since: When = None, until: When = None) -> pd.DataFrame:
        """The live composite scores by ts: score, raw, gate, veto."""
        self._instrument(symbol)
        where = sql.SQL("symbol = {}").format(symbol)
        return self._scores("ts, score, raw, gate, veto", "signals.composite", where, since, until).set_index("ts")

    def explain(self, symbol: str, at: When = None) -> Explanation:
        """The newest score at or before ``at``, taken apart; its effects add up exactly."""
        self._instrument(symbol)
        self._use()
        if (run := overview.latest(self.hub, self.settings.runtime.scores)) is None:
            raise DataError("there is no score to explain yet: `alphapivot run` makes some")
        last = self._span(None, at)[1] if at is not None else None
        return Explanation(explanation.explain(self.hub, self.settings, run, symbol, last))

    def backtest(
        self,
        since: When,
        until: When,
        *,
        changes: Mapping[str, object] = {},
        name: str | None = None,
        again: bool = False,
        engine: Literal["kernel", "live"] = "kernel",
    ) -> Backtest:
        """
        Runs the trading code over the stored bars from ``since`` up to and including ``until``. ``changes``: keys of
        the config, as in {"execution.stop_atr": 3}. ``name``: its book is bt-NAME. An identical backtest is not run
        again, unless ``again``.
        """
        from tasks.local import backtest  # noqa: PLC0415 - it imports Prefect

        begin, end = self._period(since, until)
        settings = self._use({key: str(value) for key, value in changes.items()})
        try:
            with shown("backtest") as progress:
                done = backtest.run(
                    settings, begin, end, progress=progress, book=name, again=again, how=backtest.How(engine)
                )
        finally:
            self._use()
        return Backtest.read(self.hub, settings, done.book)

    def tune(
        self,
        values: Mapping[str, str | Sequence[object]],
        since: When,
        until: When,
        *,
        objective: Objective = "sharpe",
        trials: int | None = None,
        seed: int = 0,
        folds: int = 5,
        embargo: int = 5,
        jobs: int = 1,
        again: bool = False,
    ) -> Search:
        """
        Tries configs with the screening engine, walks forward, and tests whether the best is luck. ``values``: key ->
        values, as in {"execution.entry_threshold": [30, 40, 50]} or "20..60".
        """
        from alphapivot.research.tune import search, space  # noqa: PLC0415 - it compiles the kernel
        from alphapivot.research.tune.objective import Judgement  # noqa: PLC0415 - as above
        from alphapivot.research.tune.trials import Screening  # noqa: PLC0415 - as above

        begin, end = self._period(since, until)
        settings = self._use()
        texts = [f"{key}={v if isinstance(v, str) else ','.join(map(str, v))}" for key, v in values.items()]
        with shown("trials") as progress:
            found = search.run(
                self.hub,
                settings,
                space.parse(texts, settings),
                Screening(),
                since=begin,
                until=end,
                count=trials,
                seed=seed,
                judgement=Judgement(objective, folds=folds, embargo=embargo),
                progress=lambda done, total: progress(int(done), total, "trials"),
                jobs=jobs,
                again=again,
            )
        return Search(found)

    def evaluate(self, horizons: Sequence[int] = (1, 5, 20)) -> Evaluation:
        """How well the stored scores forecast returns, ``horizons`` bars ahead."""
        from alphapivot.research.evaluate import evaluation  # noqa: PLC0415 - slow to import

        self._use()
        if (latest := overview.latest(self.hub, self.settings.runtime.scores)) is None:
            raise DataError("no scores to evaluate yet; `alphapivot run` makes them")
        with shown("evaluate") as progress:
            return Evaluation(evaluation.run(self.hub, self.settings, latest, sorted({*horizons}), progress))

    def book(self, name: str | None = None) -> Book:
        """A live, paper or backtest book; default: [execution] book."""
        return Book.read(self.hub, self._use(), name or self.settings.execution.book)

    def _use(self, changes: Mapping[str, str] | None = None) -> Settings:
        """Makes this config and database those of the process: steps look them up there."""
        if Project._given is not None and os.environ.get(URL) == Project._given:
            del os.environ[URL]
            os.environ |= {} if Project._outside is None else {URL: Project._outside}
        if self._url is not None:
            Project._outside, os.environ[URL] = os.environ.get(URL), self._url
        Project._given = self._url
        return process.configure(self.path, self._feed, changes)

    def _instrument(self, symbol: str) -> Any:
        if symbol not in self.settings.instruments:
            near = nearest(symbol, sorted(self.settings.instruments))
            raise ConfigError(f"{symbol!r} is not an instrument of {self.path.name}; {near}")
        return self.settings.instruments[symbol]

    def _scores(self, columns: str, table: str, where: sql.Composable, since: When, until: When) -> pd.DataFrame:
        after, last = self._span(since, until)
        statement = sql.SQL("SELECT {} FROM {} WHERE scope = {} AND {} AND ts <= {} AND ts > {} ORDER BY ts").format(
            sql.SQL(columns),
            sql.SQL(table),
            self.settings.runtime.scores,
            where,
            last,
            after or datetime.min.replace(tzinfo=UTC),
        )
        found = self.hub.query(statement)
        # stored as float4 of so many decimals: -22.39, not -22.389999
        return found.assign(
            **{name: found[name].astype("float64").round(n) for name, n in DECIMALS.items() if name in found}
        )

    def _span(self, since: When, until: When) -> tuple[datetime | None, datetime]:
        """(after, until): a bar of midnight that begins ``since`` is the day before's, as it was complete then."""
        end = instant(until, ends=True)
        return instant(since), end or datetime.max.replace(tzinfo=UTC)

    def _period(self, since: When, until: When) -> tuple[datetime, datetime]:
        begin, end = instant(since), instant(until, ends=True)
        if begin is None or end is None:
            raise ConfigError("since and until are needed, such as '2024-01-01' and '2024-12-31'")
        return begin, end


def instant(when: When, *, ends: bool = False) -> datetime | None:
    """An instant: of a day its beginning in UTC, or its end. A time without a zone is an error, never guessed."""
    if when is None:
        return None
    try:
        value = datetime.fromisoformat(when) if isinstance(when, str) else when
    except ValueError:
        raise ConfigError(f"{when!r} is not a day or an instant; expected something like 2024-01-31") from None
    whole = not isinstance(value, datetime) or (isinstance(when, str) and len(when) == len("2024-01-31"))
    if whole:
        return datetime.combine(value, time(), UTC) + timedelta(days=ends)
    assert isinstance(value, datetime)  # noqa: S101 - for the type checker
    if value.tzinfo is None:
        raise ConfigError(f"{when!r} has no time zone; expected something like {value.isoformat()}Z")
    return value.astimezone(UTC)
