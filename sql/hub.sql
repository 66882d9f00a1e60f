-- Schema market: bars, rolls, splits and dividends, and what is wrong with them. Schema ops: which run wrote what, and when.
-- The other files: signals.sql, trading.sql (also the paper broker), research.sql, and api.sql for dashboards.
-- They hold the present shape, for fresh databases; existing ones come to it by the files of changes/.
--
-- Missing is NULL. NaN and the infinities are refused: PostgreSQL sorts NaN above every number, so that `x < 'Infinity'`
-- keeps out both. Text in keys is COLLATE "C": sorted as Python sorts it, on every server.
-- batch_id is no foreign key of the bulk tables: its check for each row costs more than the row's own insertion.
--
-- X_revision holds the former versions of X: an upsert moves what it replaces there. A version was current from
-- ingested_at up to, and not at, superseded_at.

CREATE SCHEMA market;
CREATE SCHEMA ops;

-- Bars ----------------------------------------------------------------------------------------------------------------

CREATE TABLE market.bar (
    symbol        text COLLATE "C"  NOT NULL CHECK (symbol <> ''),
    market        text COLLATE "C"  NOT NULL CHECK (market IN ('spot', 'futures')),
    contract      text COLLATE "C"  NOT NULL,
    interval      text COLLATE "C"  NOT NULL CHECK (interval <> ''),
    ts            timestamptz       NOT NULL CHECK (isfinite(ts)),
    open          double precision  CHECK (open > '-Infinity' AND open < 'Infinity'),
    high          double precision  CHECK (high > '-Infinity' AND high < 'Infinity'),
    low           double precision  CHECK (low > '-Infinity' AND low < 'Infinity'),
    close         double precision  NOT NULL CHECK (close > '-Infinity' AND close < 'Infinity'),
    volume        double precision  CHECK (volume >= 0 AND volume < 'Infinity'),
    open_interest double precision  CHECK (open_interest >= 0 AND open_interest < 'Infinity'),
    source        text COLLATE "C"  NOT NULL,
    ingested_at   timestamptz       NOT NULL,
    PRIMARY KEY (symbol, market, contract, interval, ts),
    CONSTRAINT bar_spot_has_no_contract CHECK (market = 'futures' OR contract = ''),
    -- close-only series have no open, high and low: a comparison with NULL passes
    CONSTRAINT bar_prices_nested CHECK (low <= high AND low <= open AND low <= close AND high >= open AND high >= close)
);
-- bars arrive nearly in order of time: a tiny index finds the part of the heap that a window of many symbols reads
CREATE INDEX bar_ts ON market.bar USING brin (ts) WITH (pages_per_range = 32);
CREATE INDEX bar_ingested_at ON market.bar USING brin (ingested_at) WITH (pages_per_range = 32);

COMMENT ON TABLE market.bar IS 'One bar per symbol, market, contract, interval and ts, in its current version; written by ingestion';
COMMENT ON COLUMN market.bar.symbol IS 'The underlying, as config.ini names it';
COMMENT ON COLUMN market.bar.contract IS 'A futures contract, such as ESZ3; empty for spot and for a vendor''s continuous ticker';
COMMENT ON COLUMN market.bar.interval IS '1m 5m 15m 30m 1h 4h 1d 1w';
COMMENT ON COLUMN market.bar.ts IS 'When the bar was complete';
COMMENT ON COLUMN market.bar.open IS 'In the instrument''s quote unit; close-only series have no open, high and low';
COMMENT ON COLUMN market.bar.volume IS 'Shares or contracts; NULL where the feed has none';
COMMENT ON COLUMN market.bar.open_interest IS 'Contracts';
COMMENT ON COLUMN market.bar.source IS 'The feed, or resampled';
COMMENT ON COLUMN market.bar.ingested_at IS 'When the hub first had this version: written_at of its batch';

CREATE TABLE market.bar_revision (
    LIKE market.bar,
    superseded_at timestamptz NOT NULL,
    superseded_by bigint      NOT NULL,
    PRIMARY KEY (symbol, market, contract, interval, ts, superseded_at),
    CHECK (ingested_at < superseded_at)
);
COMMENT ON TABLE market.bar_revision IS 'Bars as they were before a restatement, with the batch that superseded them';

CREATE TABLE market.series (
    symbol      text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    market      text COLLATE "C" NOT NULL CHECK (market IN ('spot', 'futures')),
    interval    text COLLATE "C" NOT NULL CHECK (interval <> ''),
    source      text COLLATE "C" NOT NULL,
    newest      timestamptz      CHECK (isfinite(newest)),
    answered_at timestamptz,
    failed_at   timestamptz,
    reason      text             NOT NULL DEFAULT '',
    timetable   text,
    PRIMARY KEY (symbol, market, interval)
);
COMMENT ON TABLE market.series IS 'How far each series of a feed has come and how the feed last answered; ingestion requests what comes after. Written in the transactions that write the bars';
COMMENT ON COLUMN market.series.source IS 'The feed';
COMMENT ON COLUMN market.series.newest IS 'End of the newest bar, over all contracts of a futures market; NULL: none yet';
COMMENT ON COLUMN market.series.answered_at IS 'When the feed last answered, also without new bars';
COMMENT ON COLUMN market.series.failed_at IS 'When the feed last failed; the series is stale where this is later than answered_at';
COMMENT ON COLUMN market.series.timetable IS 'Calendar and hours, stamp and zone that its stored bars were read with; another one is compared with them first';

CREATE TABLE market.quality_issue (
    symbol       text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    market       text COLLATE "C" NOT NULL CHECK (market IN ('spot', 'futures')),
    contract     text COLLATE "C" NOT NULL,
    interval     text COLLATE "C" NOT NULL,
    ts           timestamptz      NOT NULL,
    check_name   text COLLATE "C" NOT NULL CHECK (check_name <> ''),
    outcome      text             NOT NULL CHECK (outcome IN ('quarantined', 'held', 'flagged', 'halted')),
    detail       text             NOT NULL,
    bar          text             NOT NULL,
    source       text             NOT NULL,
    found_at     timestamptz      NOT NULL DEFAULT clock_timestamp(),
    decided_by   text,
    decided_at   timestamptz,
    decision     text             CHECK (decision IN ('accepted', 'rejected')),
    decision_why text,
    ended_at     timestamptz,
    stops_until  timestamptz      CHECK (isfinite(stops_until)),
    PRIMARY KEY (symbol, market, contract, interval, ts, check_name),
    CONSTRAINT issue_decided_wholly CHECK (num_nulls(decided_by, decided_at, decision, decision_why) IN (0, 4))
);
CREATE INDEX quality_issue_open ON market.quality_issue (symbol, found_at) WHERE decision IS NULL AND ended_at IS NULL;
COMMENT ON TABLE market.quality_issue IS 'Bars that failed a check and series that stop entries: why, and who decided what; written by ingestion and `alphapivot data`';
COMMENT ON COLUMN market.quality_issue.detail IS 'One sentence: what, got, expected';
COMMENT ON COLUMN market.quality_issue.bar IS 'The offending rows as JSON, as received';
COMMENT ON COLUMN market.quality_issue.outcome IS 'quarantined: the bar is not in market.bar; held: nor is any newer one, so no entries in the instrument; halted: the bar is stored, and no entries in the instrument until the series passes, stops_until, or someone accepts it; flagged: reported only';
COMMENT ON COLUMN market.quality_issue.stops_until IS 'End of the last bar on which a halt stops entries, in the market''s time; NULL: until the series passes';
COMMENT ON COLUMN market.quality_issue.ended_at IS 'When the series passed the check again, or the bar came in';

CREATE TABLE market.hole (
    symbol   text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    market   text COLLATE "C" NOT NULL CHECK (market IN ('spot', 'futures')),
    interval text COLLATE "C" NOT NULL,
    after    timestamptz      NOT NULL CHECK (isfinite(after)),
    before   timestamptz      NOT NULL CHECK (before > after),
    missing  integer          NOT NULL CHECK (missing > 0),
    found_at timestamptz      NOT NULL,
    asked    integer          NOT NULL DEFAULT 0,
    asked_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (symbol, market, interval, after)
);
COMMENT ON TABLE market.hole IS 'Bars that the calendar has and a feed did not deliver; ingestion requests them again once a day for [quality] hole_days';
COMMENT ON COLUMN market.hole.after IS 'End of the stored bar before the hole';
COMMENT ON COLUMN market.hole.before IS 'End of the stored bar after it';
COMMENT ON COLUMN market.hole.missing IS 'Number of bars';
COMMENT ON COLUMN market.hole.found_at IS 'as_of of the run that found it';
COMMENT ON COLUMN market.hole.asked IS 'How often it was requested again';
COMMENT ON COLUMN market.hole.asked_at IS 'as_of of the last request';
COMMENT ON COLUMN market.hole.ended_at IS 'When its bars came';

-- Rolls, splits and dividends -----------------------------------------------------------------------------------------

CREATE TABLE market.roll (
    symbol      text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    ts          timestamptz      NOT NULL CHECK (isfinite(ts)),
    contract    text COLLATE "C" NOT NULL,
    previous    text COLLATE "C" NOT NULL,
    spread      double precision NOT NULL CHECK (spread > '-Infinity' AND spread < 'Infinity'),
    "offset"    double precision NOT NULL CHECK ("offset" > '-Infinity' AND "offset" < 'Infinity'),
    ingested_at timestamptz      NOT NULL,
    PRIMARY KEY (symbol, ts),
    CONSTRAINT roll_changes_contract CHECK (contract <> previous OR contract = '')
);
COMMENT ON TABLE market.roll IS 'The front contract after ts, and the offset of its adjusted prices; written by ingestion';
COMMENT ON COLUMN market.roll.previous IS 'The front contract before it; empty for the first';
COMMENT ON COLUMN market.roll.spread IS 'The new contract''s close minus the old one''s when the roll was decided';
COMMENT ON COLUMN market.roll."offset" IS 'adjusted = raw + offset, anchored at the first contract, so that history never changes';

CREATE TABLE market.roll_revision (
    LIKE market.roll,
    superseded_at timestamptz NOT NULL,
    superseded_by bigint      NOT NULL,
    PRIMARY KEY (symbol, ts, superseded_at),
    CHECK (ingested_at < superseded_at)
);
COMMENT ON TABLE market.roll_revision IS 'Rolls as they were before a change';

CREATE TABLE market.corporate_action (
    symbol      text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    kind        text COLLATE "C" NOT NULL CHECK (kind IN ('split', 'dividend', 'distribution', 'merger', 'delisting')),
    ts          timestamptz      NOT NULL CHECK (isfinite(ts)),
    value       double precision NOT NULL CHECK (value > 0 AND value < 'Infinity'),
    factor      double precision NOT NULL CHECK (factor > 0 AND factor < 'Infinity'),
    source      text COLLATE "C" NOT NULL,
    ingested_at timestamptz      NOT NULL,
    PRIMARY KEY (symbol, kind, ts)
);
COMMENT ON TABLE market.corporate_action IS 'Splits, dividends, distributions, mergers and delistings of spot markets, in their current version: bars after ts are ex; written by ingestion';
COMMENT ON COLUMN market.corporate_action.ts IS 'Open of the first session ex';
COMMENT ON COLUMN market.corporate_action.value IS 'split: new shares per old share; else amount per share in the quote unit, as paid, or what a share is worth at its end';
COMMENT ON COLUMN market.corporate_action.factor IS 'Multiplies prices after ts to adjust them, anchored at the first bar, so that history never changes';

CREATE TABLE market.corporate_action_revision (
    LIKE market.corporate_action,
    superseded_at timestamptz NOT NULL,
    superseded_by bigint      NOT NULL,
    PRIMARY KEY (symbol, kind, ts, superseded_at),
    CHECK (ingested_at < superseded_at)
);
COMMENT ON TABLE market.corporate_action_revision IS 'Splits and dividends as they were before a change';

-- Runs ----------------------------------------------------------------------------------------------------------------

CREATE TABLE ops.run (
    run_id       text        PRIMARY KEY,
    kind         text        NOT NULL,
    scope        text        NOT NULL CHECK (scope <> ''),
    as_of        timestamptz NOT NULL CHECK (isfinite(as_of)),
    known_at     timestamptz,
    config       jsonb       NOT NULL,
    config_hash  text        NOT NULL,
    code_version text        NOT NULL,
    state        text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'completed', 'failed', 'cancelled', 'skipped')),
    message      text        NOT NULL DEFAULT '',
    attempts     integer     NOT NULL DEFAULT 1,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz
);
CREATE INDEX run_started_at ON ops.run (started_at);
CREATE INDEX run_known_at ON ops.run (known_at);
COMMENT ON TABLE ops.run IS 'One run: a pure function of as_of, known_at, config and code, which are frozen at its first attempt';
COMMENT ON COLUMN ops.run.kind IS 'ingest, signals, trade, pipeline, backtest ...';
COMMENT ON COLUMN ops.run.known_at IS 'It reads the database as of this instant; NULL until its ingestion is done';
COMMENT ON COLUMN ops.run.config IS 'The whole config without secrets';

CREATE TABLE ops.batch (
    batch_id    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id      text        NOT NULL REFERENCES ops.run,
    step        text        NOT NULL,
    inputs_hash text        NOT NULL,
    parameters  jsonb       NOT NULL,
    code_version text       NOT NULL,
    rows        jsonb       NOT NULL DEFAULT '{}',
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    written_at  timestamptz,
    finished_at timestamptz
);
CREATE INDEX batch_run ON ops.batch (run_id, step);
CREATE INDEX batch_written_at ON ops.batch (written_at);
COMMENT ON TABLE ops.batch IS 'One execution of one step; signals, composites and revisions name the batch that wrote them';
COMMENT ON COLUMN ops.batch.rows IS 'Rows new, changed and unchanged, by table';
COMMENT ON COLUMN ops.batch.written_at IS 'When the hub first had its bulk rows, taken under the writers'' lock; NULL: it wrote none';

CREATE TABLE ops.receipt (
    run_id      text        NOT NULL REFERENCES ops.run,
    step        text        NOT NULL,
    inputs_hash text        NOT NULL,
    batch_id    bigint      NOT NULL REFERENCES ops.batch,
    rows        jsonb       NOT NULL,
    notes       text[]      NOT NULL DEFAULT '{}',
    made_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, step, inputs_hash)
);
COMMENT ON TABLE ops.receipt IS 'Proof that a step of a run is done for these inputs; written in the transaction of its rows, so that a Retry skips the step';

CREATE TABLE ops.alert (
    key      text        PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind     text        NOT NULL CHECK (kind <> ''),
    subject  text        NOT NULL,
    message  text        NOT NULL,
    sent_at  timestamptz,
    attempts integer     NOT NULL DEFAULT 0,
    failure  text        NOT NULL DEFAULT '',
    received text[]      NOT NULL DEFAULT '{}',
    next_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX alert_at ON ops.alert (at);
COMMENT ON TABLE ops.alert IS 'Alerts, one row per event; later passes send what a receiver has missed, ever more rarely, for a week';
COMMENT ON COLUMN ops.alert.key IS 'Identity of the event, so that it is sent once: lock:17, run:<run_id>:2';
COMMENT ON COLUMN ops.alert.received IS 'The receivers that have it: scheme and host';
COMMENT ON COLUMN ops.alert.next_at IS 'When those that have missed it are tried again';

CREATE TABLE ops.phone_update (
    bot          bigint      NOT NULL,
    update_id    bigint      NOT NULL,
    chat_id      bigint      NOT NULL,
    sender       text        NOT NULL,
    said         text        NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    answer       text,
    confirmed_by bigint,
    PRIMARY KEY (bot, update_id)
);
COMMENT ON TABLE ops.phone_update IS 'Messages of allowed chats to the phone''s bot, each taken by one process once, before anything is done about it';
COMMENT ON COLUMN ops.phone_update.bot IS 'The bot''s id: the part of its token that is no secret';
COMMENT ON COLUMN ops.phone_update.sender IS 'Name and id of who wrote';
COMMENT ON COLUMN ops.phone_update.answer IS 'NULL: in work, or the process ended on the way';
COMMENT ON COLUMN ops.phone_update.confirmed_by IS 'The message that confirmed this command; at most one does';

CREATE TABLE ops.migration (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ops.migration IS 'The files of sql/changes that this database has, with their SHA-256; up to 150 the former files of sql/';

-- Retention -----------------------------------------------------------------------------------------------------------

-- Rows that [retention] does not keep are deleted a month at a time, each month committed. TimescaleDB's scheduler calls the
-- same procedure, so that it deletes nothing that plain PostgreSQL would keep.
--
-- What an order leads back to is never deleted: the bars of its decision and their versions, the composite, the scores, rolls
-- and splits as known then. A backtest's orders keep nothing: it can be made again. Of runs only those go that looked after
-- open trades and changed nothing.

CREATE VIEW ops.idle_run AS
SELECT r.run_id, r.started_at FROM ops.run AS r
WHERE r.kind = 'manage' AND r.state <> 'running'
  AND NOT EXISTS (SELECT FROM ops.batch AS b WHERE b.run_id = r.run_id AND b.written_at IS NOT NULL)
  AND NOT EXISTS (SELECT FROM trading.journal AS j WHERE j.run_id = r.run_id)
  AND NOT EXISTS (SELECT FROM trading.decision AS d WHERE d.run_id = r.run_id)
  AND NOT EXISTS (SELECT FROM trading.adjustment AS a WHERE a.run_id = r.run_id)
  AND NOT EXISTS (SELECT FROM trading.risk_trip AS t WHERE t.run_id = r.run_id)
  AND NOT EXISTS (SELECT FROM trading.mark AS m WHERE m.run_id = r.run_id);
COMMENT ON VIEW ops.idle_run IS 'Runs of manage that changed nothing: after [retention] runs they go, with their batches and receipts';

CREATE VIEW ops.traded AS
SELECT d.symbol, d.as_of, d.decided_at, d.score_ts, d.batch_id, d.run_id,
       d.bars->>'market' AS market, d.bars->>'interval' AS interval,
       tstzrange((d.bars->>'first')::timestamptz, (d.bars->>'last')::timestamptz, '[]') AS span
FROM trading.decision AS d WHERE EXISTS (SELECT FROM trading.intent AS i WHERE i.decision_id = d.decision_id);
COMMENT ON VIEW ops.traded IS 'Decisions that led to orders, and the span of bars they rest on';

CREATE VIEW ops.traded_bars AS
SELECT symbol, market, interval, range_agg(span) AS spans FROM ops.traded
WHERE NOT lower_inf(span) GROUP BY symbol, market, interval;
COMMENT ON VIEW ops.traded_bars IS 'Spans of bars, of any contract, that an order leads back to; retention keeps them';

CREATE TABLE ops.maintenance (
    maintenance_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    what           text        NOT NULL,
    before         timestamptz NOT NULL,
    rows           bigint      NOT NULL CHECK (rows >= 0)
);
COMMENT ON TABLE ops.maintenance IS 'What retention deleted, and when';
COMMENT ON COLUMN ops.maintenance.before IS 'Rows older than this were deleted';

CREATE FUNCTION ops.expired(config jsonb)
RETURNS TABLE (what text, relation regclass, dated name, before timestamptz, condition text) LANGUAGE sql STABLE AS $$
    WITH bars AS (
        SELECT key AS interval, now() - make_interval(days => value::integer) AS before
        FROM jsonb_each_text(coalesce(config->'bars', '{}'))
    ), kept AS (
        SELECT 'NOT EXISTS (SELECT FROM ops.traded_bars AS k WHERE (k.symbol, k.market, k.interval)'
               ' = (t.symbol, t.market, t.interval) AND k.spans @> t.ts)' AS bars,
               'NOT EXISTS (SELECT FROM ops.traded AS d WHERE d.symbol = t.symbol AND d.decided_at < t.superseded_at' AS then
    )
    SELECT kind || interval, name::regclass, 'ts'::name, before, format('t.interval = %L AND %s', interval, kept.bars)
    FROM bars, kept, (VALUES ('bars of ', 'market.bar'), ('revisions of ', 'market.bar_revision')) AS n (kind, name)
    UNION ALL
    SELECT 'revisions in ' || n.name, (n.name || '_revision')::regclass, 'superseded_at',
           now() - make_interval(days => (config->>'revisions')::integer),
           CASE WHEN n.own = '' THEN kept.bars ELSE format('%s AND %s)', kept.then, n.own) END
    FROM kept, (VALUES
        ('market.bar', ''),
        ('market.roll', 't.ts <= d.as_of AND t.ingested_at <= d.decided_at'),
        ('market.corporate_action', 't.ts <= d.as_of AND t.ingested_at <= d.decided_at'),
        -- a higher timeframe's newest score is at most a week and some holidays old
        ('signals.signal', 't.ts <= d.score_ts AND t.ts > d.score_ts - interval ''20 days'''),
        ('signals.composite', 't.ts = d.score_ts AND t.batch_id = d.batch_id')
    ) AS n (name, own) WHERE config->>'revisions' IS NOT NULL
    UNION ALL
    SELECT 'replays in ' || n.name, n.name::regclass, n.dated, 'infinity', format(n.of,
           'scope NOT IN (SELECT l.scope FROM signals.live_scope AS l)'
           ' AND scope NOT IN (SELECT r.scope FROM ops.run AS r JOIN ops.traded USING (run_id)'
           ' WHERE r.kind <> ''backtest'') AND scope IN (SELECT scope FROM ops.run GROUP BY scope HAVING max(started_at)'
           ' < now() - make_interval(days => ' || (config->>'replays')::integer || '))')
    FROM (VALUES
        ('signals.signal_row', 'ts'::name, 't.series_id IN (SELECT series_id FROM signals.signal_series WHERE %s)'),
        ('signals.signal_block', 'last_ts', 't.series_id IN (SELECT series_id FROM signals.signal_series WHERE %s)'),
        ('signals.composite_row', 'ts', 't.series_id IN (SELECT series_id FROM signals.composite_series WHERE %s)'),
        ('signals.composite_block', 'last_ts', 't.series_id IN (SELECT series_id FROM signals.composite_series WHERE %s)'),
        -- a killed backtest that is resumed after all scores again
        ('ops.receipt', 'made_at', 't.run_id IN (SELECT run_id FROM ops.run WHERE state <> ''completed'' AND %s)')
    ) AS n (name, dated, of) WHERE config->>'replays' IS NOT NULL
    UNION ALL
    -- in this order: each refers to the next
    SELECT n.what, n.name::regclass, n.dated, 'infinity', format(n.of,
           't.run_id IN (SELECT run_id FROM ops.idle_run WHERE started_at < now() - make_interval(days => '
           || (config->>'runs')::integer || '))')
    FROM (VALUES
        ('receipts of idle runs', 'ops.receipt', 'made_at'::name, '%s'),
        ('batches of idle runs', 'ops.batch', 'started_at', '%s AND NOT EXISTS (SELECT FROM ops.receipt AS k WHERE k.batch_id = t.batch_id)'),
        ('idle runs', 'ops.run', 'started_at', '%s AND NOT EXISTS (SELECT FROM ops.batch AS b WHERE b.run_id = t.run_id)')
    ) AS n (what, name, dated, of) WHERE config->>'runs' IS NOT NULL
    UNION ALL
    SELECT n.what, n.name::regclass, 'at', now() - make_interval(days => (config->>'alerts')::integer), 'true'
    FROM (VALUES ('alerts', 'ops.alert'), ('messages of the phone', 'ops.phone_update')) AS n (what, name)
    WHERE config->>'alerts' IS NOT NULL
$$;
COMMENT ON FUNCTION ops.expired IS 'For each kind of row that [retention] deletes: its table, and the condition that selects it';

CREATE PROCEDURE ops.retain(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
    kind  record;
    first timestamptz;
    last  timestamptz;
    gone  bigint;
    total bigint;
BEGIN
    PERFORM set_config('timezone', 'UTC', false);  -- decisions name their bars in it
    FOR kind IN SELECT * FROM ops.expired(config) LOOP
        EXECUTE format('SELECT min(%1$I), max(%1$I) FROM %2$s AS t WHERE %1$I < $1 AND %3$s',
                       kind.dated, kind.relation, kind.condition) INTO first, last USING kind.before;
        total := 0;
        WHILE first <= last LOOP
            EXECUTE format('DELETE FROM %2$s AS t WHERE %1$I >= $1 AND %1$I < least($1 + interval ''30 days'', $2) AND %3$s',
                           kind.dated, kind.relation, kind.condition) USING first, kind.before;
            GET DIAGNOSTICS gone = ROW_COUNT;
            total := total + gone;
            COMMIT;
            RAISE NOTICE '% up to %: % rows', kind.what, to_char(least(first + interval '30 days', last), 'YYYY-MM-DD'), total;
            first := first + interval '30 days';
        END LOOP;
        INSERT INTO ops.maintenance (what, before, rows) VALUES (kind.what, kind.before, total);
        COMMIT;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE ops.retain IS 'Deletes what [retention] does not keep; job_id is passed by TimescaleDB''s scheduler';
