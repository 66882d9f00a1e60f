-- Retention: what [retention] lets go, in months that are committed one by one, and a record of what went. TimescaleDB's
-- scheduler calls the same procedure, so that nothing goes there that would stay on plain PostgreSQL.
--
-- What an order leads back to never goes: the bars of its decision and their versions, the composite, the scores, rolls and
-- splits as they were known then. Runs, batches and receipts are never deleted.

CREATE VIEW ops.traded AS
SELECT d.symbol, d.as_of, d.decided_at, d.score_ts, d.batch_id, d.run_id,
       d.bars->>'market' AS market, d.bars->>'interval' AS interval,
       tstzrange((d.bars->>'first')::timestamptz, (d.bars->>'last')::timestamptz, '[]') AS span
FROM trading.decision AS d WHERE EXISTS (SELECT FROM trading.intent AS i WHERE i.decision_id = d.decision_id);
COMMENT ON VIEW ops.traded IS 'The decisions that led to orders, and the bars that they stood on';

CREATE VIEW ops.traded_bars AS
SELECT symbol, market, interval, range_agg(span) AS spans FROM ops.traded
WHERE NOT lower_inf(span) GROUP BY symbol, market, interval;
COMMENT ON VIEW ops.traded_bars IS 'The times whose bars, of whichever contract, an order leads back to';

CREATE TABLE ops.maintenance (
    maintenance_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    what           text        NOT NULL,
    before         timestamptz NOT NULL,
    rows           bigint      NOT NULL CHECK (rows >= 0)
);
COMMENT ON TABLE ops.maintenance IS 'What retention has deleted, and when';
COMMENT ON COLUMN ops.maintenance.before IS 'What was older than this went';

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
    SELECT 'replays in ' || name, name::regclass, 'ts', 'infinity',
           format('t.scope <> ''live'' AND t.scope NOT IN (SELECT r.scope FROM ops.run AS r JOIN ops.traded USING (run_id))'
                  ' AND t.scope IN (SELECT scope FROM ops.run GROUP BY scope HAVING max(started_at) < now()'
                  ' - make_interval(days => %s))', (config->>'replays')::integer)
    FROM (VALUES ('signals.signal'), ('signals.composite')) AS n (name) WHERE config->>'replays' IS NOT NULL
$$;
COMMENT ON FUNCTION ops.expired IS 'For each kind of rows that [retention] lets go: where they are and which they are';

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
COMMENT ON PROCEDURE ops.retain IS 'Deletes what [retention] lets go; job_id is what TimescaleDB''s scheduler gives';
