-- What waits for approval says whether it adds to a position.
CREATE OR REPLACE VIEW api.waiting_entries AS
SELECT t.book, t.strategy, t.symbol, t.contract, t.side, o.qty,
       CASE o.version WHEN 1 THEN t.reference ELSE (d.plan ->> 'reference')::numeric END AS reference, o.price AS "limit",
       t.stop, t.target, i.score, t.currency, i.as_of, i.expires, a.intent_id IS NOT NULL AS approved,
       a.by AS approved_by, a.at AS approved_at, a.reason, t.trade_id, d.run_id, o.version > 1 AS addition
FROM trading.orders o
JOIN trading.trade t USING (trade_id)
JOIN trading.intent i ON i.intent_id = o.intent_id
JOIN trading.decision d USING (decision_id)
LEFT JOIN trading.approval a ON a.intent_id = o.intent_id
WHERE o.leg = 'ENTRY' AND o.state = 'CREATED' AND t.state <> 'CLOSED' AND i.to_approve;
COMMENT ON COLUMN api.waiting_entries.addition IS 'Whether it adds to an open position';
