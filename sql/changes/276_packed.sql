-- Scores go into series, 128 bars of one in a block, what does not fill one in rows: in one transaction, 4 seconds per
-- million scores. The former tables' space is free at its end.
ALTER TABLE signals.signal RENAME TO signal_before;

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

INSERT INTO signals.signal_series (scope, pillar, symbol, interval)
SELECT DISTINCT scope, pillar, symbol, interval FROM signals.signal_before ORDER BY scope, pillar, symbol, interval;

CREATE TEMPORARY TABLE signal_numbered ON COMMIT DROP AS
SELECT s.series_id, b.ts, b.score, b.gate, b.veto, b.batch_id,
       (row_number() OVER series - 1) / 128 AS block, count(*) OVER (PARTITION BY s.series_id) / 128 AS blocks
FROM signals.signal_before AS b JOIN signals.signal_series AS s USING (scope, pillar, symbol, interval)
WINDOW series AS (PARTITION BY s.series_id ORDER BY b.ts);

INSERT INTO signals.signal_row SELECT series_id, ts, score, gate, veto, batch_id FROM signal_numbered WHERE block = blocks;
-- 0 may be -0 too, so that only other values are the same in a whole block
INSERT INTO signals.signal_block (series_id, first_ts, last_ts, ts, score, gate, veto, batch_id)
SELECT series_id, min(ts), max(ts), array_agg(ts ORDER BY ts),
       CASE WHEN count(score) = 0 OR min(score) = max(score) AND min(score) <> 0 AND count(score) = 128
            THEN ARRAY[min(score)] ELSE array_agg(score ORDER BY ts) END,
       CASE WHEN count(gate) = 0 OR min(gate) = max(gate) AND min(gate) <> 0 AND count(gate) = 128
            THEN ARRAY[min(gate)] ELSE array_agg(gate ORDER BY ts) END,
       CASE WHEN count(veto) = 0 OR min(veto) = max(veto) AND count(veto) = 128
            THEN ARRAY[min(veto)] ELSE array_agg(veto ORDER BY ts) END,
       CASE WHEN min(batch_id) = max(batch_id) THEN ARRAY[min(batch_id)] ELSE array_agg(batch_id ORDER BY ts) END
FROM signal_numbered WHERE block < blocks GROUP BY series_id, block ORDER BY series_id, block;

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

ALTER TABLE signals.composite RENAME TO composite_before;

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

INSERT INTO signals.composite_series (scope, symbol)
SELECT DISTINCT scope, symbol FROM signals.composite_before ORDER BY scope, symbol;

CREATE TEMPORARY TABLE composite_numbered ON COMMIT DROP AS
SELECT s.series_id, b.ts, b.score, b.raw, b.gate, b.veto, b.pillars_used, b.batch_id,
       (row_number() OVER series - 1) / 128 AS block, count(*) OVER (PARTITION BY s.series_id) / 128 AS blocks
FROM signals.composite_before AS b JOIN signals.composite_series AS s USING (scope, symbol)
WINDOW series AS (PARTITION BY s.series_id ORDER BY b.ts);

INSERT INTO signals.composite_row
SELECT series_id, ts, score, raw, gate, veto, pillars_used, batch_id FROM composite_numbered WHERE block = blocks;
INSERT INTO signals.composite_block (series_id, first_ts, last_ts, ts, score, raw, gate, veto, pillars_used, batch_id)
SELECT series_id, min(ts), max(ts), array_agg(ts ORDER BY ts),
       CASE WHEN count(score) = 0 OR min(score) = max(score) AND min(score) <> 0 AND count(score) = 128
            THEN ARRAY[min(score)] ELSE array_agg(score ORDER BY ts) END,
       CASE WHEN count(raw) = 0 OR min(raw) = max(raw) AND min(raw) <> 0 AND count(raw) = 128
            THEN ARRAY[min(raw)] ELSE array_agg(raw ORDER BY ts) END,
       CASE WHEN count(gate) = 0 OR min(gate) = max(gate) AND min(gate) <> 0 AND count(gate) = 128
            THEN ARRAY[min(gate)] ELSE array_agg(gate ORDER BY ts) END,
       CASE WHEN count(veto) = 0 OR min(veto) = max(veto) AND count(veto) = 128
            THEN ARRAY[min(veto)] ELSE array_agg(veto ORDER BY ts) END,
       CASE WHEN min(pillars_used) = max(pillars_used) THEN ARRAY[min(pillars_used)] ELSE array_agg(pillars_used ORDER BY ts) END,
       CASE WHEN min(batch_id) = max(batch_id) THEN ARRAY[min(batch_id)] ELSE array_agg(batch_id ORDER BY ts) END
FROM composite_numbered WHERE block < blocks GROUP BY series_id, block ORDER BY series_id, block;

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

CREATE OR REPLACE VIEW api.scores AS
SELECT c.symbol, c.ts, c.score, c.raw, c.gate, c.veto, c.pillars_used, b.run_id, b.written_at
FROM signals.composite c
LEFT JOIN ops.batch b USING (batch_id)
WHERE c.scope = 'live';

CREATE OR REPLACE VIEW api.latest_scores AS
SELECT s.symbol, newest.ts, newest.score, newest.raw, newest.gate, newest.veto, newest.pillars_used,
       now() - newest.ts AS age, b.run_id, b.written_at
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
) newest
LEFT JOIN ops.batch b USING (batch_id)
WHERE s.scope = 'live';

DROP TABLE signals.signal_before, signals.composite_before;

-- from PostgreSQL 18 on NOT NULL has a name, and LIKE has taken it from the tables above
DO $$
DECLARE
    named record;
BEGIN
    FOR named IN
        SELECT conrelid::regclass AS revision, conname AS name, regexp_replace(conname, '^(signal|composite)', '\1_revision') AS own
        FROM pg_constraint
        WHERE contype = 'n' AND conrelid IN ('signals.signal_revision'::regclass, 'signals.composite_revision'::regclass)
          AND conname !~ '_revision_'
    LOOP
        EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', named.revision, named.name, named.own);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION ops.expired(config jsonb)
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
           'scope <> ''live'' AND scope NOT IN (SELECT r.scope FROM ops.run AS r JOIN ops.traded USING (run_id)'
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
