-- What a book was worth at the end of each run: the equity curve, and what every performance figure is made of.

CREATE TABLE trading.mark (
    mark_id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book        text        NOT NULL CHECK (book <> ''),
    as_of       timestamptz NOT NULL CHECK (isfinite(as_of)),
    run_id      text        NOT NULL,
    currency    text        NOT NULL,
    equity      numeric     NOT NULL CHECK (equity <> 'NaN' AND abs(equity) < 'Infinity'),
    cash        numeric     NOT NULL CHECK (cash <> 'NaN' AND abs(cash) < 'Infinity'),
    gross       numeric     CHECK (gross >= 0 AND gross < 'Infinity'),
    net         numeric     CHECK (abs(net) <= gross),
    open_trades int         CHECK (open_trades >= 0),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((gross IS NULL) = (net IS NULL))
);
CREATE INDEX mark_book ON trading.mark (book, as_of, mark_id);
COMMENT ON TABLE trading.mark IS 'A book at the end of a run, in its own currency; a run that finds the same again adds nothing, the newest of an as_of counts';
COMMENT ON COLUMN trading.mark.gross IS 'Sum of |quantity x price| of what is held; NULL: a price or a rate was missing';
COMMENT ON COLUMN trading.mark.net IS 'The same with shorts negative';
COMMENT ON COLUMN trading.mark.open_trades IS 'Trades that hold something; NULL: from before marks were kept';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.mark FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.mark FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

-- Books from before this table: their risk days, each at its begin, for at which instant it was seen nobody noted.
INSERT INTO trading.mark (book, as_of, run_id, currency, equity, cash)
SELECT book, day::timestamp AT TIME ZONE 'UTC', 'risk_day', currency, equity, cash FROM trading.risk_day ORDER BY book, day;

CREATE VIEW api.marks AS
SELECT DISTINCT ON (book, as_of) book, as_of, currency, equity, cash, gross, net, gross / nullif(equity, 0) AS leverage,
       open_trades, run_id
FROM trading.mark ORDER BY book, as_of, mark_id DESC;
COMMENT ON VIEW api.marks IS 'Every book at the end of every run: filter by book and as_of';
COMMENT ON COLUMN api.marks.book IS 'The account, or a backtest''s own';
COMMENT ON COLUMN api.marks.as_of IS 'The instant for which the run decided';
COMMENT ON COLUMN api.marks.currency IS 'Of the book: all money here is in it';
COMMENT ON COLUMN api.marks.equity IS 'Cash and what is held at its last price';
COMMENT ON COLUMN api.marks.cash IS 'Cash';
COMMENT ON COLUMN api.marks.gross IS 'Sum of |quantity x price| of what is held; NULL: a price or a rate was missing';
COMMENT ON COLUMN api.marks.net IS 'The same with shorts negative';
COMMENT ON COLUMN api.marks.leverage IS 'gross / equity';
COMMENT ON COLUMN api.marks.open_trades IS 'Trades that hold something';
COMMENT ON COLUMN api.marks.run_id IS 'The run: api.run_history';

CREATE VIEW api.fills AS
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
    SELECT CASE WHEN o.kind <> 'MARKET' THEN o.price WHEN o.leg = 'ENTRY' THEN t.reference ELSE last.close END AS reference
) r
CROSS JOIN LATERAL (
    SELECT coalesce(CASE f.market WHEN 'spot' THEN abs(f.cash) / nullif(abs(f.qty * f.price) * t.multiplier * t.quote_unit, 0) END,
                    (d.plan ->> 'fx')::numeric) AS fx
) x;
COMMENT ON VIEW api.fills IS 'Every execution and what it cost: filter by book and ts';
COMMENT ON COLUMN api.fills.book IS 'The account, or a backtest''s own';
COMMENT ON COLUMN api.fills.trade_id IS 'Its trade: api.open_trades, api.closed_trades';
COMMENT ON COLUMN api.fills.client_order_id IS 'Its order: alphapivot trace';
COMMENT ON COLUMN api.fills.symbol IS 'The underlying, as config.ini names it';
COMMENT ON COLUMN api.fills.market IS 'spot or futures';
COMMENT ON COLUMN api.fills.contract IS 'The futures contract; empty for spot';
COMMENT ON COLUMN api.fills.trade_side IS 'LONG or SHORT: of the trade';
COMMENT ON COLUMN api.fills.leg IS 'ENTRY, STOP, TARGET or EXIT';
COMMENT ON COLUMN api.fills.kind IS 'MARKET, LIMIT or STOP';
COMMENT ON COLUMN api.fills.side IS 'BUY or SELL: of the order';
COMMENT ON COLUMN api.fills.qty IS 'Shares or contracts';
COMMENT ON COLUMN api.fills.price IS 'In the instrument''s quote unit';
COMMENT ON COLUMN api.fills.ts IS 'When the bar that filled it was complete, or the broker''s own time';
COMMENT ON COLUMN api.fills.reference IS 'What was hoped for: a market order''s last close before it, another order''s own price; NULL: not known';
COMMENT ON COLUMN api.fills.fx IS 'Book currency for one unit of the instrument''s: a spot fill''s own, else as known when the trade was decided';
COMMENT ON COLUMN api.fills.commission IS 'In the book''s currency';
COMMENT ON COLUMN api.fills.slippage IS 'Paid more, or got less, than reference, in the book''s currency; negative: better';
COMMENT ON COLUMN api.fills.slippage_bps IS 'The same in hundredths of a percent of reference';
COMMENT ON COLUMN api.fills.notional IS '|price x quantity| in the book''s currency';
COMMENT ON COLUMN api.fills.cash IS 'Change of cash before commission: cost for spot, realised profit for futures';
COMMENT ON COLUMN api.fills.ordered_at IS 'When the order was made';
