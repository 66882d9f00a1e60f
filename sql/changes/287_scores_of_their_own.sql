-- Several configs may score in one database, each under a name of its own: [runtime] scores.
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

CREATE OR REPLACE VIEW api.latest_scores AS
SELECT n.symbol, n.ts, n.score, n.raw, n.gate, n.veto, n.pillars_used, now() - n.ts AS age, b.run_id, b.written_at
FROM signals.newest n LEFT JOIN ops.batch b USING (batch_id)
WHERE n.scope = 'live';
