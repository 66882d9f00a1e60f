-- Scores of every config's live runs are kept, not those named live alone.
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
