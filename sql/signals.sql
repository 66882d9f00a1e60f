-- Schema signals: scores of pillars, the composites blended from them, and what both are calibrated with.
-- The conventions are those of hub.sql.

CREATE SCHEMA signals;

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
COMMENT ON TABLE signals.signal IS 'Score of one pillar for one symbol on one timeframe, in its current version; written by the pillar steps';
COMMENT ON COLUMN signals.signal.scope IS 'live, or the name of a backtest or replay';
COMMENT ON COLUMN signals.signal.score IS '-100 fully short to 100 fully long; NULL: unknown';
COMMENT ON COLUMN signals.signal.gate IS '0 closed to 1 open; NULL: the pillar has no gate, or it is unknown';
COMMENT ON COLUMN signals.signal.veto IS 'A reason code';
COMMENT ON COLUMN signals.signal.batch_id IS 'The ops.batch that wrote this version';

CREATE TABLE signals.signal_revision (
    LIKE signals.signal,
    superseded_at timestamptz NOT NULL,
    superseded_by bigint      NOT NULL,
    PRIMARY KEY (scope, pillar, symbol, interval, ts, batch_id)
);
COMMENT ON TABLE signals.signal_revision IS 'Former versions of signals; a decision may rest on them';

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
COMMENT ON TABLE signals.composite IS 'The blended score of one symbol at one instant, in its current version: score = raw x gate; written by the composite step';

CREATE TABLE signals.composite_revision (
    LIKE signals.composite,
    superseded_at timestamptz NOT NULL,
    superseded_by bigint      NOT NULL,
    PRIMARY KEY (scope, symbol, ts, batch_id)
);
COMMENT ON TABLE signals.composite_revision IS 'Former versions of composites; a decision may rest on them';

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
COMMENT ON COLUMN signals.calibration.value IS 'A scalar, or a correlation; 1 where the data were too few to fit it';

CREATE TABLE signals.calibration_revision (
    LIKE signals.calibration,
    superseded_at timestamptz NOT NULL,
    superseded_by bigint      NOT NULL,
    PRIMARY KEY (scope, kind, subject, effective_from, batch_id)
);
COMMENT ON TABLE signals.calibration_revision IS 'Former versions of calibrations, from before bars were restated; a decision may rest on them';

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
COMMENT ON TABLE signals.watermark IS 'How far a pillar has scored a shard, and as of when; its next step continues from here';
COMMENT ON COLUMN signals.watermark.hash IS 'Hash of the pillar''s parameters, its code and the shard''s symbols; if it differs, everything is scored again';
