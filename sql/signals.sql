-- Schema signals: scores of pillars, the composites blended from them, and what both are calibrated with.
-- The conventions are those of hub.sql.

CREATE SCHEMA signals;

-- Scores are stored in series: in long runs as blocks of arrays, a tenth of the size and a quarter of the time to
-- write, single bars as rows. Each score is in one of them. The view shows all of them as rows; alphapivot/hub/bulk/packed.py writes.
-- An array of one element is the value of the whole block.

CREATE TABLE signals.signal_series (
    series_id integer          GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope     text COLLATE "C" NOT NULL CHECK (scope <> ''),
    pillar    text COLLATE "C" NOT NULL CHECK (pillar <> ''),
    symbol    text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    interval  text COLLATE "C" NOT NULL CHECK (interval <> ''),
    UNIQUE (scope, pillar, symbol, interval)
);
COMMENT ON TABLE signals.signal_series IS 'The series of signals; a writer locks those that it writes until it commits';

CREATE TABLE signals.signal_row (
    series_id integer          NOT NULL,
    ts        timestamptz      NOT NULL CHECK (isfinite(ts)),
    score     real             CHECK (score BETWEEN -100 AND 100),  -- NaN lies outside, being above all numbers
    gate      real             CHECK (gate BETWEEN 0 AND 1),
    veto      text COLLATE "C" CHECK (veto <> ''),
    batch_id  bigint           NOT NULL,
    PRIMARY KEY (series_id, ts)
);
COMMENT ON TABLE signals.signal_row IS 'Signals of single bars';

CREATE TABLE signals.signal_block (
    series_id integer            NOT NULL,
    first_ts  timestamptz        NOT NULL CHECK (isfinite(first_ts)),
    last_ts   timestamptz        NOT NULL CHECK (isfinite(last_ts)),
    ts        timestamptz[]      NOT NULL CHECK (first_ts = ts[1] AND last_ts = ts[cardinality(ts)]),
    score     real[]             NOT NULL CHECK (-100 <= ALL (score) AND 100 >= ALL (score)),
    gate      real[]             NOT NULL CHECK (0 <= ALL (gate) AND 1 >= ALL (gate)),
    veto      text[] COLLATE "C" NOT NULL CHECK ('' <> ALL (veto)),
    batch_id  bigint[]           NOT NULL,
    PRIMARY KEY (series_id, last_ts),
    CONSTRAINT signal_block_of_rows CHECK (
        cardinality(score) IN (1, cardinality(ts)) AND cardinality(gate) IN (1, cardinality(ts))
        AND cardinality(veto) IN (1, cardinality(ts)) AND cardinality(batch_id) IN (1, cardinality(ts)))
) WITH (toast_tuple_target = 8160);  -- a block is neither compressed nor stored elsewhere
COMMENT ON TABLE signals.signal_block IS 'Signals of consecutive bars; the blocks of a series do not overlap';
COMMENT ON COLUMN signals.signal_block.ts IS 'Ascending';

CREATE VIEW signals.signal AS
SELECT s.scope, s.pillar, s.symbol, s.interval, r.ts, r.score, r.gate, r.veto, r.batch_id
FROM signals.signal_series AS s JOIN signals.signal_row AS r USING (series_id)
UNION ALL
SELECT s.scope, s.pillar, s.symbol, s.interval, u.ts,
       CASE cardinality(b.score) WHEN 1 THEN b.score[1] ELSE u.score END,
       CASE cardinality(b.gate) WHEN 1 THEN b.gate[1] ELSE u.gate END,
       CASE cardinality(b.veto) WHEN 1 THEN b.veto[1] ELSE u.veto END,
       CASE cardinality(b.batch_id) WHEN 1 THEN b.batch_id[1] ELSE u.batch_id END
FROM signals.signal_series AS s JOIN signals.signal_block AS b USING (series_id)
CROSS JOIN LATERAL unnest(b.ts, b.score, b.gate, b.veto, b.batch_id) AS u (ts, score, gate, veto, batch_id);
COMMENT ON VIEW signals.signal IS 'Score of one pillar for one symbol on one timeframe, in its current version; written by the pillar steps';
COMMENT ON COLUMN signals.signal.scope IS 'live, or the name of a backtest or replay';
COMMENT ON COLUMN signals.signal.score IS '-100 fully short to 100 fully long; NULL: unknown';
COMMENT ON COLUMN signals.signal.gate IS '0 closed to 1 open; NULL: the pillar has no gate, or it is unknown';
COMMENT ON COLUMN signals.signal.veto IS 'A reason code';
COMMENT ON COLUMN signals.signal.batch_id IS 'The ops.batch that wrote this version';

CREATE FUNCTION signals.signal_at(series integer, instant timestamptz)
RETURNS TABLE (score real, gate real, veto text, batch_id bigint) LANGUAGE sql STABLE AS $$
    SELECT r.score, r.gate, r.veto, r.batch_id FROM signals.signal_row AS r WHERE r.series_id = series AND r.ts = instant
    UNION ALL
    SELECT b.score[least(place, cardinality(b.score))], b.gate[least(place, cardinality(b.gate))],
           b.veto[least(place, cardinality(b.veto))], b.batch_id[least(place, cardinality(b.batch_id))]
    FROM (SELECT * FROM signals.signal_block WHERE series_id = series AND last_ts >= instant ORDER BY last_ts LIMIT 1) AS b
    CROSS JOIN LATERAL width_bucket(instant, b.ts) AS place WHERE b.ts[place] = instant
$$;
COMMENT ON FUNCTION signals.signal_at IS 'The signal of a series at one instant, found by index: the view would make rows of all blocks';

CREATE TABLE signals.signal_revision (
    scope         text COLLATE "C" NOT NULL,
    pillar        text COLLATE "C" NOT NULL,
    symbol        text COLLATE "C" NOT NULL,
    interval      text COLLATE "C" NOT NULL,
    ts            timestamptz      NOT NULL,
    score         real,
    gate          real,
    veto          text COLLATE "C",
    batch_id      bigint           NOT NULL,
    superseded_at timestamptz      NOT NULL,
    superseded_by bigint           NOT NULL,
    PRIMARY KEY (scope, pillar, symbol, interval, ts, batch_id)
);
COMMENT ON TABLE signals.signal_revision IS 'Former versions of signals; a decision may rest on them';

CREATE TABLE signals.composite_series (
    series_id integer          GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope     text COLLATE "C" NOT NULL CHECK (scope <> ''),
    symbol    text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    UNIQUE (scope, symbol)
);
COMMENT ON TABLE signals.composite_series IS 'The series of composites; a writer locks those that it writes until it commits';

CREATE TABLE signals.composite_row (
    series_id    integer          NOT NULL,
    ts           timestamptz      NOT NULL CHECK (isfinite(ts)),
    score        real             CHECK (score BETWEEN -100 AND 100),
    raw          real             CHECK (raw BETWEEN -100 AND 100),
    gate         real             CHECK (gate BETWEEN 0 AND 1),
    veto         text COLLATE "C" CHECK (veto <> ''),
    pillars_used text COLLATE "C" NOT NULL,
    batch_id     bigint           NOT NULL,
    PRIMARY KEY (series_id, ts)
);
COMMENT ON TABLE signals.composite_row IS 'Composites of single bars';

CREATE TABLE signals.composite_block (
    series_id    integer            NOT NULL,
    first_ts     timestamptz        NOT NULL CHECK (isfinite(first_ts)),
    last_ts      timestamptz        NOT NULL CHECK (isfinite(last_ts)),
    ts           timestamptz[]      NOT NULL CHECK (first_ts = ts[1] AND last_ts = ts[cardinality(ts)]),
    score        real[]             NOT NULL CHECK (-100 <= ALL (score) AND 100 >= ALL (score)),
    raw          real[]             NOT NULL CHECK (-100 <= ALL (raw) AND 100 >= ALL (raw)),
    gate         real[]             NOT NULL CHECK (0 <= ALL (gate) AND 1 >= ALL (gate)),
    veto         text[] COLLATE "C" NOT NULL CHECK ('' <> ALL (veto)),
    pillars_used text[] COLLATE "C" NOT NULL,
    batch_id     bigint[]           NOT NULL,
    PRIMARY KEY (series_id, last_ts),
    CONSTRAINT composite_block_of_rows CHECK (
        cardinality(score) IN (1, cardinality(ts)) AND cardinality(raw) IN (1, cardinality(ts))
        AND cardinality(gate) IN (1, cardinality(ts)) AND cardinality(veto) IN (1, cardinality(ts))
        AND cardinality(pillars_used) IN (1, cardinality(ts)) AND cardinality(batch_id) IN (1, cardinality(ts)))
) WITH (toast_tuple_target = 8160);
COMMENT ON TABLE signals.composite_block IS 'Composites of consecutive bars; the blocks of a series do not overlap';
COMMENT ON COLUMN signals.composite_block.ts IS 'Ascending';

CREATE VIEW signals.composite AS
SELECT s.scope, s.symbol, r.ts, r.score, r.raw, r.gate, r.veto, r.pillars_used, r.batch_id
FROM signals.composite_series AS s JOIN signals.composite_row AS r USING (series_id)
UNION ALL
SELECT s.scope, s.symbol, u.ts,
       CASE cardinality(b.score) WHEN 1 THEN b.score[1] ELSE u.score END,
       CASE cardinality(b.raw) WHEN 1 THEN b.raw[1] ELSE u.raw END,
       CASE cardinality(b.gate) WHEN 1 THEN b.gate[1] ELSE u.gate END,
       CASE cardinality(b.veto) WHEN 1 THEN b.veto[1] ELSE u.veto END,
       CASE cardinality(b.pillars_used) WHEN 1 THEN b.pillars_used[1] ELSE u.pillars_used END,
       CASE cardinality(b.batch_id) WHEN 1 THEN b.batch_id[1] ELSE u.batch_id END
FROM signals.composite_series AS s JOIN signals.composite_block AS b USING (series_id)
CROSS JOIN LATERAL unnest(b.ts, b.score, b.raw, b.gate, b.veto, b.pillars_used, b.batch_id)
    AS u (ts, score, raw, gate, veto, pillars_used, batch_id);
COMMENT ON VIEW signals.composite IS 'The blended score of one symbol at one instant, in its current version: score = raw x gate; written by the composite step';

CREATE FUNCTION signals.composites_until(series integer, instant timestamptz, most integer)
RETURNS TABLE (ts timestamptz, score real, raw real, gate real, veto text, batch_id bigint) LANGUAGE sql STABLE AS $$
    SELECT c.* FROM (
        (SELECT r.ts, r.score, r.raw, r.gate, r.veto, r.batch_id FROM signals.composite_row AS r
         WHERE r.series_id = series AND r.ts <= instant ORDER BY r.ts DESC LIMIT most)
        UNION ALL
        SELECT b.ts[place], b.score[least(place, cardinality(b.score))], b.raw[least(place, cardinality(b.raw))],
               b.gate[least(place, cardinality(b.gate))], b.veto[least(place, cardinality(b.veto))],
               b.batch_id[least(place, cardinality(b.batch_id))]
        FROM (SELECT * FROM signals.composite_block WHERE series_id = series AND first_ts <= instant
              ORDER BY last_ts DESC LIMIT most) AS b
        CROSS JOIN LATERAL width_bucket(instant, b.ts) AS last
        CROSS JOIN LATERAL generate_series(greatest(last - most + 1, 1), last) AS place
    ) AS c ORDER BY c.ts DESC LIMIT most
$$;
COMMENT ON FUNCTION signals.composites_until IS 'The newest composites of a series up to an instant, found by index: the view would make rows of all blocks';

CREATE TABLE signals.composite_revision (
    scope         text COLLATE "C" NOT NULL,
    symbol        text COLLATE "C" NOT NULL,
    ts            timestamptz      NOT NULL,
    score         real,
    raw           real,
    gate          real,
    veto          text COLLATE "C",
    pillars_used  text COLLATE "C" NOT NULL,
    batch_id      bigint           NOT NULL,
    superseded_at timestamptz      NOT NULL,
    superseded_by bigint           NOT NULL,
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

CREATE VIEW signals.live_scope AS
SELECT 'live' AS scope UNION
SELECT scope FROM ops.run WHERE kind IN ('pipeline', 'signals', 'trade', 'manage', 'rerun-pillar', 'data');
COMMENT ON VIEW signals.live_scope IS 'The names under which live runs store their scores: [runtime] scores of each config';

CREATE VIEW signals.newest AS
SELECT s.scope, s.symbol, newest.ts, newest.score, newest.raw, newest.gate, newest.veto, newest.pillars_used, newest.batch_id
FROM signals.composite_series s
CROSS JOIN LATERAL (
    SELECT * FROM (
        (SELECT r.ts, r.score, r.raw, r.gate, r.veto, r.pillars_used, r.batch_id FROM signals.composite_row r
         WHERE r.series_id = s.series_id ORDER BY r.ts DESC LIMIT 1)
        UNION ALL
        (SELECT c.last_ts, c.score[cardinality(c.score)], c.raw[cardinality(c.raw)], c.gate[cardinality(c.gate)],
                c.veto[cardinality(c.veto)], c.pillars_used[cardinality(c.pillars_used)],
                c.batch_id[cardinality(c.batch_id)]
         FROM signals.composite_block c WHERE c.series_id = s.series_id ORDER BY c.last_ts DESC LIMIT 1)
    ) n ORDER BY n.ts DESC LIMIT 1
) newest;
COMMENT ON VIEW signals.newest IS 'The newest composite score of each symbol and scope';
