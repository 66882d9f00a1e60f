-- A position may grow: [execution] form = positions. Each addition has its own intent, order and approval.
ALTER TABLE trading.decision DROP CONSTRAINT decision_action_check,
    ADD CONSTRAINT decision_action_check CHECK (
        action IN ('ENTER_LONG', 'ENTER_SHORT', 'HOLD', 'AMEND', 'ADD', 'REDUCE', 'ROLL', 'EXIT', 'NONE', 'DENIED')),
    DROP CONSTRAINT decision_amend,
    ADD CONSTRAINT decision_amend CHECK (
        CASE action WHEN 'AMEND' THEN stop IS NOT NULL WHEN 'ADD' THEN true WHEN 'REDUCE' THEN true ELSE stop IS NULL END);
ALTER TABLE trading.intent DROP CONSTRAINT intent_action_check,
    ADD CONSTRAINT intent_action_check CHECK (action IN ('ENTER_LONG', 'ENTER_SHORT', 'ADD', 'ROLL', 'REDUCE', 'EXIT'));
COMMENT ON COLUMN api.decisions.action IS 'ENTER_LONG, ENTER_SHORT, HOLD, AMEND, ADD, REDUCE, ROLL, EXIT, NONE, DENIED';

ALTER TABLE trading.approval ADD COLUMN intent_id bigint REFERENCES trading.intent;
ALTER TABLE trading.approval DISABLE TRIGGER append_only;
UPDATE trading.approval a SET intent_id = t.intent_id FROM trading.trade t WHERE t.trade_id = a.trade_id;
ALTER TABLE trading.approval ENABLE TRIGGER append_only;
ALTER TABLE trading.approval DROP CONSTRAINT approval_pkey, ADD PRIMARY KEY (intent_id);
COMMENT ON TABLE trading.approval IS 'The yes of `alphapivot approve` to an entry or an addition, where [execution] approve = entries: without one it is never sent';

CREATE OR REPLACE VIEW api.waiting_entries AS
SELECT t.book, t.strategy, t.symbol, t.contract, t.side, o.qty,
       CASE o.version WHEN 1 THEN t.reference ELSE (d.plan ->> 'reference')::numeric END AS reference, o.price AS "limit",
       t.stop, t.target, i.score, t.currency, i.as_of, i.expires, a.intent_id IS NOT NULL AS approved,
       a.by AS approved_by, a.at AS approved_at, a.reason, t.trade_id, d.run_id
FROM trading.orders o
JOIN trading.trade t USING (trade_id)
JOIN trading.intent i ON i.intent_id = o.intent_id
JOIN trading.decision d USING (decision_id)
LEFT JOIN trading.approval a ON a.intent_id = o.intent_id
WHERE o.leg = 'ENTRY' AND o.state = 'CREATED' AND t.state <> 'CLOSED' AND t.rolled_from IS NULL AND i.to_approve;
COMMENT ON VIEW api.waiting_entries IS 'Entries and additions of [execution] approve = entries that have not been sent, approved or not';

CREATE OR REPLACE VIEW api.fills AS
SELECT f.book, t.trade_id, f.client_order_id, f.symbol, f.market, f.contract, t.side AS trade_side, o.leg, o.kind, f.side, f.qty,
       f.price, f.ts, r.reference, x.fx, f.fee AS commission,
       (f.price - r.reference) * CASE f.side WHEN 'BUY' THEN f.qty ELSE -f.qty END * t.multiplier * t.quote_unit * x.fx AS slippage,
       (f.price - r.reference) * CASE f.side WHEN 'BUY' THEN 10000 ELSE -10000 END / nullif(abs(r.reference), 0) AS slippage_bps,
       abs(f.price * f.qty) * t.multiplier * t.quote_unit * x.fx AS notional, f.cash, o.created_at AS ordered_at
FROM trading.fill f
JOIN trading.orders o USING (client_order_id)
JOIN trading.trade t USING (trade_id)
JOIN trading.intent i ON i.intent_id = t.intent_id
JOIN trading.decision d USING (decision_id)
LEFT JOIN LATERAL ( -- what an addition rests on
    SELECT (c.plan ->> 'reference')::numeric AS reference
    FROM trading.intent n JOIN trading.decision c USING (decision_id)
    WHERE o.leg = 'ENTRY' AND o.version > 1 AND n.intent_id = o.intent_id
) added ON true
LEFT JOIN LATERAL (
    SELECT b.close::numeric AS close FROM market.bar b
    WHERE o.kind = 'MARKET' AND o.leg <> 'ENTRY' AND b.ts <= o.created_at
      AND (b.symbol, b.market, b.contract, b.interval) = (f.symbol, f.market, f.contract, d.bars ->> 'interval')
    ORDER BY b.ts DESC LIMIT 1
) last ON true
CROSS JOIN LATERAL (
    SELECT CASE WHEN o.reason IN ('settled', 'delisted') THEN f.price WHEN o.kind <> 'MARKET' THEN o.price WHEN o.leg = 'ENTRY' THEN coalesce(added.reference, t.reference) ELSE last.close END AS reference
) r
CROSS JOIN LATERAL (
    SELECT coalesce(CASE f.market WHEN 'spot' THEN abs(f.cash) / nullif(abs(f.qty * f.price) * t.multiplier * t.quote_unit, 0) END,
                    (d.plan ->> 'fx')::numeric) AS fx
) x;
