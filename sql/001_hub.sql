-- The hub: what is known of the markets, what the pillars make of it, and who wrote it when.
--
-- Missing is NULL. NaN and the infinities are refused: PostgreSQL sorts NaN above every number, so that `x < 'Infinity'`
-- keeps out both. Text in keys is COLLATE "C": sorted as Python sorts it, on every server.
-- batch_id is no foreign key of the bulk tables: its check for each row costs more than the row's own insertion.

CREATE SCHEMA market;
CREATE SCHEMA signals;

-- Market data ---------------------------------------------------------------------------------------------------------

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
    -- a comparison with a missing price is NULL, which passes: close-only series have no open, high and low
    CONSTRAINT bar_prices_nested CHECK (low <= high AND low <= open AND low <= close AND high >= open AND high >= close)
);
-- bars arrive nearly in order of time: a window of many symbols reads a stretch of the heap through a tiny index
CREATE INDEX bar_ts ON market.bar USING brin (ts) WITH (pages_per_range = 32);
CREATE INDEX bar_ingested_at ON market.bar USING brin (ingested_at) WITH (pages_per_range = 32);

COMMENT ON TABLE market.bar IS 'One row per symbol, market, contract and interval: the version that is current';
COMMENT ON COLUMN market.bar.symbol IS 'The underlying, as config.ini names it';
COMMENT ON COLUMN market.bar.contract IS 'A futures contract, such as ESZ3; empty for spot and for a vendor''s continuous ticker';
COMMENT ON COLUMN market.bar.interval IS '1m 5m 15m 30m 1h 4h 1d 1w';
COMMENT ON COLUMN market.bar.ts IS 'When the bar was complete';
COMMENT ON COLUMN market.bar.open IS 'In the instrument''s quote unit; close-only series have no open, high and low';
COMMENT ON COLUMN market.bar.volume IS 'Shares or contracts; NULL where the feed knows none';
COMMENT ON COLUMN market.bar.open_interest IS 'Contracts';
COMMENT ON COLUMN market.bar.source IS 'The feed, or resampled';
COMMENT ON COLUMN market.bar.ingested_at IS 'From when on the hub knew this version: written_at of its batch';

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
COMMENT ON TABLE market.roll IS 'Which futures contract is the front one after ts, and the offset of its adjusted prices';
COMMENT ON COLUMN market.roll.previous IS 'The contract before; empty for the first';
COMMENT ON COLUMN market.roll.spread IS 'The new contract''s close less the old one''s when the roll was decided';
COMMENT ON COLUMN market.roll."offset" IS 'adjusted = raw + offset, anchored at the first contract, so that history never changes';

CREATE TABLE market.quality_issue (
    symbol       text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    market       text COLLATE "C" NOT NULL CHECK (market IN ('spot', 'futures')),
    contract     text COLLATE "C" NOT NULL,
    interval     text COLLATE "C" NOT NULL,
    ts           timestamptz      NOT NULL,
    check_name   text COLLATE "C" NOT NULL CHECK (check_name <> ''),
    outcome      text             NOT NULL CHECK (outcome IN ('quarantined', 'flagged')),
    detail       text             NOT NULL,
    bar          text             NOT NULL,
    source       text             NOT NULL,
    found_at     timestamptz      NOT NULL DEFAULT clock_timestamp(),
    decided_by   text,
    decided_at   timestamptz,
    decision     text             CHECK (decision IN ('accepted', 'rejected')),
    decision_why text,
    PRIMARY KEY (symbol, market, contract, interval, ts, check_name),
    CONSTRAINT issue_decided_wholly CHECK (num_nulls(decided_by, decided_at, decision, decision_why) IN (0, 4))
);
COMMENT ON TABLE market.quality_issue IS 'What was quarantined or flagged, why, and who decided what about it';
COMMENT ON COLUMN market.quality_issue.detail IS 'What, got, expected: a sentence for a person';
COMMENT ON COLUMN market.quality_issue.bar IS 'The offending row or rows as JSON, as they came';

-- Signals -------------------------------------------------------------------------------------------------------------

CREATE TABLE signals.signal (
    scope    text COLLATE "C" NOT NULL CHECK (scope <> ''),
    pillar   text COLLATE "C" NOT NULL CHECK (pillar <> ''),
    symbol   text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    interval text COLLATE "C" NOT NULL CHECK (interval <> ''),
    ts       timestamptz      NOT NULL CHECK (isfinite(ts)),
    score    real             CHECK (score BETWEEN -100 AND 100),  -- NaN lies outside, being above all numbers
    gate     real             CHECK (gate BETWEEN 0 AND 1),
    veto     text COLLATE "C" CHECK (veto <> ''),
    batch_id bigint           NOT NULL,
    PRIMARY KEY (scope, pillar, symbol, interval, ts)
);
CREATE INDEX signal_ts ON signals.signal USING brin (ts) WITH (pages_per_range = 32);
COMMENT ON TABLE signals.signal IS 'What one pillar says of one symbol on one timeframe';
COMMENT ON COLUMN signals.signal.scope IS 'live, or the name of a backtest or replay';
COMMENT ON COLUMN signals.signal.score IS '-100 fully short to 100 fully long; NULL: cannot be known';
COMMENT ON COLUMN signals.signal.gate IS '0 closed to 1 open; NULL: the pillar has no gate, or it cannot be known';
COMMENT ON COLUMN signals.signal.veto IS 'A reason code';
COMMENT ON COLUMN signals.signal.batch_id IS 'The ops.batch that wrote this version';

CREATE TABLE signals.composite (
    scope        text COLLATE "C" NOT NULL CHECK (scope <> ''),
    symbol       text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    ts           timestamptz      NOT NULL CHECK (isfinite(ts)),
    score        real             CHECK (score BETWEEN -100 AND 100),
    raw          real             CHECK (raw BETWEEN -100 AND 100),
    gate         real             CHECK (gate BETWEEN 0 AND 1),
    veto         text COLLATE "C" CHECK (veto <> ''),
    pillars_used text COLLATE "C" NOT NULL,
    batch_id     bigint           NOT NULL,
    PRIMARY KEY (scope, symbol, ts)
);
CREATE INDEX composite_ts ON signals.composite USING brin (ts) WITH (pages_per_range = 32);
COMMENT ON TABLE signals.composite IS 'The blended score of one symbol at one instant: score = raw x gate';

CREATE TABLE signals.calibration (
    scope          text COLLATE "C" NOT NULL CHECK (scope <> ''),
    kind           text COLLATE "C" NOT NULL CHECK (kind IN ('scalar', 'correlation')),
    subject        text COLLATE "C" NOT NULL CHECK (subject <> ''),
    effective_from timestamptz      NOT NULL CHECK (isfinite(effective_from)),
    value          double precision NOT NULL CHECK (value > '-Infinity' AND value < 'Infinity'),
    fitted_from    timestamptz      NOT NULL,
    fitted_until   timestamptz      NOT NULL,
    batch_id       bigint           NOT NULL,
    PRIMARY KEY (scope, kind, subject, effective_from),
    CONSTRAINT calibration_from_the_past_only CHECK (fitted_from < fitted_until AND fitted_until <= effective_from)
);
COMMENT ON TABLE signals.calibration IS 'Pillar scalars and correlations, fitted at fixed dates from the past only';
COMMENT ON COLUMN signals.calibration.subject IS 'A pillar, or two as momentum|trend';

CREATE TABLE signals.watermark (
    scope    text COLLATE "C" NOT NULL CHECK (scope <> ''),
    pillar   text COLLATE "C" NOT NULL CHECK (pillar <> ''),
    interval text COLLATE "C" NOT NULL,
    shard    integer          NOT NULL CHECK (shard >= 0),
    hash     text             NOT NULL,
    as_of    timestamptz      NOT NULL,
    known_at timestamptz      NOT NULL,
    PRIMARY KEY (scope, pillar, interval, shard)
);
COMMENT ON TABLE signals.watermark IS 'Up to when a pillar has scored a shard, and what it knew then; a step goes on from here';
COMMENT ON COLUMN signals.watermark.hash IS 'Of the pillar''s parameters and code and the shard''s symbols; another hash: score everything';

-- Former versions -----------------------------------------------------------------------------------------------------
-- An upsert moves what it replaces here. A version was current from ingested_at up to, and not at, superseded_at.

CREATE TABLE market.bar_revision (
    LIKE market.bar,
    superseded_at timestamptz NOT NULL,
    superseded_by bigint      NOT NULL,
    PRIMARY KEY (symbol, market, contract, interval, ts, superseded_at),
    CHECK (ingested_at < superseded_at)
);
CREATE TABLE market.roll_revision (
    LIKE market.roll,
    superseded_at timestamptz NOT NULL,
    superseded_by bigint      NOT NULL,
    PRIMARY KEY (symbol, ts, superseded_at),
    CHECK (ingested_at < superseded_at)
);
CREATE TABLE signals.signal_revision (
    LIKE signals.signal,
    superseded_at timestamptz NOT NULL,
    superseded_by bigint      NOT NULL,
    PRIMARY KEY (scope, pillar, symbol, interval, ts, batch_id)
);
CREATE TABLE signals.composite_revision (
    LIKE signals.composite,
    superseded_at timestamptz NOT NULL,
    superseded_by bigint      NOT NULL,
    PRIMARY KEY (scope, symbol, ts, batch_id)
);
COMMENT ON TABLE market.bar_revision IS 'Bars as they were before a restatement, with the batch that superseded them';
COMMENT ON TABLE market.roll_revision IS 'Rolls as they were before a change';
COMMENT ON TABLE signals.signal_revision IS 'Signals as they were; a decision may stand on them';
COMMENT ON TABLE signals.composite_revision IS 'Composites as they were; a decision may stand on them';

-- Operations ----------------------------------------------------------------------------------------------------------

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
COMMENT ON TABLE ops.run IS 'A run is a pure function of as_of, known_at, config and code: frozen at its first attempt';
COMMENT ON COLUMN ops.run.kind IS 'ingest, signals, trade, pipeline, backtest ...';
COMMENT ON COLUMN ops.run.known_at IS 'The instant up to which it reads the database; NULL until its ingestion is over';
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
COMMENT ON TABLE ops.batch IS 'One execution of one step: what every signal, composite and revision names as its author';
COMMENT ON COLUMN ops.batch.rows IS 'Rows new, changed and unchanged, by table';
COMMENT ON COLUMN ops.batch.written_at IS 'Taken under the writers'' lock: from when on the hub knows what this batch wrote; NULL: it wrote no bulk rows';

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
COMMENT ON TABLE ops.receipt IS 'Proof that a step of a run was done with these inputs; written with its rows, so that a Retry skips it';
