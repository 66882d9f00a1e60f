-- A position in a market that has ended is closed by its stop order, at another price than the stop's: no slippage.
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
LEFT JOIN LATERAL (
    SELECT b.close::numeric AS close FROM market.bar b
    WHERE o.kind = 'MARKET' AND o.leg <> 'ENTRY' AND b.ts <= o.created_at
      AND (b.symbol, b.market, b.contract, b.interval) = (f.symbol, f.market, f.contract, d.bars ->> 'interval')
    ORDER BY b.ts DESC LIMIT 1
) last ON true
CROSS JOIN LATERAL (
    SELECT CASE WHEN o.reason IN ('settled', 'delisted') THEN f.price WHEN o.kind <> 'MARKET' THEN o.price WHEN o.leg = 'ENTRY' THEN t.reference ELSE last.close END AS reference
) r
CROSS JOIN LATERAL (
    SELECT coalesce(CASE f.market WHEN 'spot' THEN abs(f.cash) / nullif(abs(f.qty * f.price) * t.multiplier * t.quote_unit, 0) END,
                    (d.plan ->> 'fx')::numeric) AS fx
) x;
COMMENT ON COLUMN api.fills.reference IS 'The expected price: of a market order the last close before it, in a market that has ended the price itself, else the order''s own price; NULL: unknown';
COMMENT ON COLUMN api.alerts.kind IS 'run failed, run crashed, feed stale, calendar ends, position break, foreign order, order refused, order moved, market ended, cash unexplained, kill switch, daily loss, hub away';
