-- Schema api: what dashboards read (Grafana, Metabase, psql). Its views and columns keep their names and meaning;
-- the tables behind them may change. `alphapivot db reader` makes the role that may read this schema and nothing else.
--
-- Newest rows are found by one index lookup per key (a loose index scan), never by a scan of years of bars.

CREATE SCHEMA api;
COMMENT ON SCHEMA api IS 'For dashboards: stable views, every column explained; see docs/dashboards.md';

-- Scores --------------------------------------------------------------------------------------------------------------

CREATE VIEW api.scores AS
SELECT c.symbol, c.ts, c.score, c.raw, c.gate, c.veto, c.pillars_used, b.run_id, b.written_at
FROM signals.composite c
LEFT JOIN ops.batch b USING (batch_id)
WHERE c.scope = 'live';
COMMENT ON VIEW api.scores IS 'Every live composite score in its current version: filter by symbol and ts';
COMMENT ON COLUMN api.scores.symbol IS 'The underlying, as config.ini names it';
COMMENT ON COLUMN api.scores.ts IS 'End of the bar it scores';
COMMENT ON COLUMN api.scores.score IS 'raw x gate: -100 fully short to 100 fully long; NULL: unknown';
COMMENT ON COLUMN api.scores.raw IS 'The blend of the pillars before gates';
COMMENT ON COLUMN api.scores.gate IS '0 closed to 1 open';
COMMENT ON COLUMN api.scores.veto IS 'Reason codes that forbid an entry; NULL: none';
COMMENT ON COLUMN api.scores.pillars_used IS 'The pillars that counted';
COMMENT ON COLUMN api.scores.run_id IS 'The run that wrote this version: api.run_history';
COMMENT ON COLUMN api.scores.written_at IS 'When the hub first had this version';

CREATE VIEW api.latest_scores AS
SELECT n.symbol, n.ts, n.score, n.raw, n.gate, n.veto, n.pillars_used, now() - n.ts AS age, b.run_id, b.written_at
FROM signals.newest n LEFT JOIN ops.batch b USING (batch_id)
WHERE n.scope = 'live';
COMMENT ON VIEW api.latest_scores IS 'The newest live composite score of each symbol';
COMMENT ON COLUMN api.latest_scores.symbol IS 'The underlying, as config.ini names it';
COMMENT ON COLUMN api.latest_scores.ts IS 'End of the bar it scores';
COMMENT ON COLUMN api.latest_scores.score IS 'raw x gate: -100 fully short to 100 fully long; NULL: unknown';
COMMENT ON COLUMN api.latest_scores.raw IS 'The blend of the pillars before gates';
COMMENT ON COLUMN api.latest_scores.gate IS '0 closed to 1 open';
COMMENT ON COLUMN api.latest_scores.veto IS 'Reason codes that forbid an entry; NULL: none';
COMMENT ON COLUMN api.latest_scores.pillars_used IS 'The pillars that counted';
COMMENT ON COLUMN api.latest_scores.age IS 'Wall-clock time since the bar was complete; weekends count';
COMMENT ON COLUMN api.latest_scores.run_id IS 'The run that wrote this version: api.run_history';
COMMENT ON COLUMN api.latest_scores.written_at IS 'When the hub first had this version';

CREATE VIEW api.explained_composite AS
SELECT d.book, d.symbol, d.as_of, d.score_ts AS ts, t.pillar, t.interval, t.due, t.score AS signal, t.share, t.scalar,
       t.cap, t.weight, t.contribution, t.strength, t.factor, t.veto, d.raw, d.gate, d.score, d.run_id
FROM trading.decision d
CROSS JOIN LATERAL jsonb_to_recordset(coalesce(d.terms, '[]')) AS t (
    pillar text, interval text, due timestamptz, score double precision, share double precision,
    scalar double precision, cap double precision, weight double precision, contribution double precision,
    strength double precision, factor double precision, veto text);
COMMENT ON VIEW api.explained_composite IS 'The terms of every score that a decision rests on: contributions of a symbol and as_of sum to raw before its clip and rounding';
COMMENT ON COLUMN api.explained_composite.book IS 'The account that decided';
COMMENT ON COLUMN api.explained_composite.symbol IS 'The underlying, as config.ini names it';
COMMENT ON COLUMN api.explained_composite.as_of IS 'The instant of the decision';
COMMENT ON COLUMN api.explained_composite.ts IS 'The bar of the composite';
COMMENT ON COLUMN api.explained_composite.pillar IS 'The pillar';
COMMENT ON COLUMN api.explained_composite.interval IS 'Its timeframe';
COMMENT ON COLUMN api.explained_composite.due IS 'The newest bar of that timeframe that was complete';
COMMENT ON COLUMN api.explained_composite.signal IS 'The pillar''s own score of that bar, -100 to 100; NULL: unknown';
COMMENT ON COLUMN api.explained_composite.share IS 'The timeframe''s share of the pillar, among those that are fresh';
COMMENT ON COLUMN api.explained_composite.scalar IS 'Brings the pillar''s typical absolute score to the configured size';
COMMENT ON COLUMN api.explained_composite.cap IS 'The factor that limits the scaled score to 100; 1: not limited';
COMMENT ON COLUMN api.explained_composite.weight IS 'The pillar''s weight, among those present';
COMMENT ON COLUMN api.explained_composite.contribution IS 'Points: signal x share x scalar x cap x weight; NULL for a pillar that only gates';
COMMENT ON COLUMN api.explained_composite.strength IS 'How strongly the pillar gates, 0 to 1; NULL: it does not gate';
COMMENT ON COLUMN api.explained_composite.factor IS 'Its factor on raw, 0 to 1';
COMMENT ON COLUMN api.explained_composite.veto IS 'The pillar''s own reason code against an entry';
COMMENT ON COLUMN api.explained_composite.raw IS 'The blend of all pillars, the same in each row of a symbol and as_of';
COMMENT ON COLUMN api.explained_composite.gate IS 'The product of all factors';
COMMENT ON COLUMN api.explained_composite.score IS 'raw x gate';
COMMENT ON COLUMN api.explained_composite.run_id IS 'The run that decided: api.run_history';

-- Trading -------------------------------------------------------------------------------------------------------------

CREATE VIEW api.decisions AS
SELECT book, strategy, symbol, as_of, action, array_to_string(reasons, ', ') AS reasons, score, raw, gate, veto,
       (plan ->> 'qty')::numeric AS qty, (plan ->> 'reference')::numeric AS reference,
       (plan ->> 'stop')::numeric AS stop, (plan ->> 'target')::numeric AS target, decided_at, run_id
FROM trading.decision;
COMMENT ON VIEW api.decisions IS 'Every decision with its reasons: filter by book and as_of';
COMMENT ON COLUMN api.decisions.book IS 'The account';
COMMENT ON COLUMN api.decisions.strategy IS 'One strategy per book';
COMMENT ON COLUMN api.decisions.symbol IS 'The underlying, as config.ini names it';
COMMENT ON COLUMN api.decisions.as_of IS 'The instant of the decision';
COMMENT ON COLUMN api.decisions.action IS 'ENTER_LONG, ENTER_SHORT, HOLD, AMEND, ADD, REDUCE, ROLL, EXIT, NONE, DENIED';
COMMENT ON COLUMN api.decisions.reasons IS 'Reason codes, the deciding one first';
COMMENT ON COLUMN api.decisions.score IS 'The composite score; NULL: there was none';
COMMENT ON COLUMN api.decisions.raw IS 'The blend of the pillars before gates';
COMMENT ON COLUMN api.decisions.gate IS '0 closed to 1 open';
COMMENT ON COLUMN api.decisions.veto IS 'Reason codes that forbid an entry; NULL: none';
COMMENT ON COLUMN api.decisions.qty IS 'Planned shares or contracts; NULL: no entry was planned';
COMMENT ON COLUMN api.decisions.reference IS 'The close that the plan rests on, in the instrument''s quote unit';
COMMENT ON COLUMN api.decisions.stop IS 'Planned stop price';
COMMENT ON COLUMN api.decisions.target IS 'Planned target price; NULL: none';
COMMENT ON COLUMN api.decisions.decided_at IS 'Time of the decision by the run''s clock';
COMMENT ON COLUMN api.decisions.run_id IS 'The run that decided: api.run_history';

CREATE VIEW api.open_trades AS
SELECT t.book, t.strategy, t.symbol, t.contract, t.side, t.state,
       CASE t.state WHEN 'OPEN' THEN t.entry_qty - t.exit_qty ELSE t.qty END AS qty,
       t.entry_price AS entry, t.entry_at, CASE t.state WHEN 'OPEN' THEN w.price ELSE t.stop END AS stop,
       t.target, b.close AS last, b.ts AS last_at, t.currency,
       (b.close - t.entry_price) * (t.entry_qty - t.exit_qty) * t.multiplier * t.quote_unit
           * CASE t.side WHEN 'LONG' THEN 1 ELSE -1 END AS unrealised,
       abs(b.close - CASE t.state WHEN 'OPEN' THEN w.price ELSE t.stop END) / nullif(abs(b.close), 0) AS to_stop,
       abs(t.target - b.close) / nullif(abs(b.close), 0) AS to_target, t.trade_id, i.as_of, d.run_id,
       CASE WHEN t.state = 'OPEN' AND w.price IS DISTINCT FROM t.stop THEN t.stop END AS wanted_stop
FROM trading.trade t
JOIN trading.intent i USING (intent_id)
JOIN trading.decision d USING (decision_id)
JOIN ops.run r ON r.run_id = d.run_id
LEFT JOIN LATERAL (
    SELECT bar.close::numeric AS close, bar.ts FROM market.bar
    WHERE (bar.symbol, bar.market, bar.contract, bar.interval)
        = (t.symbol, t.market, t.contract, r.config -> 'timeframes' ->> 'base')
    ORDER BY bar.ts DESC LIMIT 1
) b ON true
LEFT JOIN LATERAL ( -- what protects the position at the broker
    SELECT o.price FROM trading.orders o
    WHERE o.trade_id = t.trade_id AND o.leg = 'STOP'
      AND o.state IN ('NEW', 'PARTIALLY_FILLED', 'PENDING_CANCEL', 'PENDING_REPLACE')
) w ON t.state = 'OPEN'
WHERE t.state <> 'CLOSED';
COMMENT ON VIEW api.open_trades IS 'Trades that are not closed, with their protection and the newest price';
COMMENT ON COLUMN api.open_trades.book IS 'The account';
COMMENT ON COLUMN api.open_trades.strategy IS 'One strategy per book';
COMMENT ON COLUMN api.open_trades.symbol IS 'The underlying, as config.ini names it';
COMMENT ON COLUMN api.open_trades.contract IS 'The futures contract; empty for spot';
COMMENT ON COLUMN api.open_trades.side IS 'LONG or SHORT';
COMMENT ON COLUMN api.open_trades.state IS 'PENDING: the entry is not filled; OPEN: it is';
COMMENT ON COLUMN api.open_trades.qty IS 'Shares or contracts open; as ordered while pending';
COMMENT ON COLUMN api.open_trades.entry IS 'Average entry price in the instrument''s quote unit; NULL while pending';
COMMENT ON COLUMN api.open_trades.entry_at IS 'When it was filled';
COMMENT ON COLUMN api.open_trades.stop IS 'Price of the stop that works at the broker; NULL: none does; while pending, as planned';
COMMENT ON COLUMN api.open_trades.target IS 'Target price; NULL: none';
COMMENT ON COLUMN api.open_trades.last IS 'The newest close of that contract on the base timeframe';
COMMENT ON COLUMN api.open_trades.last_at IS 'When that bar was complete';
COMMENT ON COLUMN api.open_trades.currency IS 'Currency of the instrument and of unrealised';
COMMENT ON COLUMN api.open_trades.unrealised IS 'Profit at the newest close before fees; NULL while pending';
COMMENT ON COLUMN api.open_trades.to_stop IS 'Distance from last to the stop, as a share of last';
COMMENT ON COLUMN api.open_trades.to_target IS 'Distance from last to the target, as a share of last';
COMMENT ON COLUMN api.open_trades.trade_id IS 'Identity of the trade';
COMMENT ON COLUMN api.open_trades.as_of IS 'The instant of the decision that opened it';
COMMENT ON COLUMN api.open_trades.run_id IS 'The run that decided: api.run_history';
COMMENT ON COLUMN api.open_trades.wanted_stop IS 'Price at which the stop should be, where it differs';

CREATE VIEW api.waiting_entries AS
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
COMMENT ON VIEW api.waiting_entries IS 'Entries and additions of [execution] approve = entries that have not been sent, approved or not';
COMMENT ON COLUMN api.waiting_entries.book IS 'The account';
COMMENT ON COLUMN api.waiting_entries.strategy IS 'One strategy per book';
COMMENT ON COLUMN api.waiting_entries.symbol IS 'The underlying, as config.ini names it';
COMMENT ON COLUMN api.waiting_entries.contract IS 'The futures contract; empty for spot';
COMMENT ON COLUMN api.waiting_entries.side IS 'LONG or SHORT';
COMMENT ON COLUMN api.waiting_entries.qty IS 'Shares or contracts to enter';
COMMENT ON COLUMN api.waiting_entries.reference IS 'The close, or the limit, from which it is sized, in the instrument''s quote unit';
COMMENT ON COLUMN api.waiting_entries."limit" IS 'Price of a limit entry; NULL: at market';
COMMENT ON COLUMN api.waiting_entries.stop IS 'Planned stop price';
COMMENT ON COLUMN api.waiting_entries.target IS 'Planned target price; NULL: none';
COMMENT ON COLUMN api.waiting_entries.score IS 'The composite score that it rests on';
COMMENT ON COLUMN api.waiting_entries.currency IS 'Currency of the instrument';
COMMENT ON COLUMN api.waiting_entries.as_of IS 'The instant of the decision';
COMMENT ON COLUMN api.waiting_entries.expires IS 'An entry that is not sent by then is never sent';
COMMENT ON COLUMN api.waiting_entries.approved IS 'Whether it has its yes: the next run checks every gate again and sends it';
COMMENT ON COLUMN api.waiting_entries.approved_by IS 'By whom; NULL: nobody yet';
COMMENT ON COLUMN api.waiting_entries.approved_at IS 'When';
COMMENT ON COLUMN api.waiting_entries.reason IS 'Why';
COMMENT ON COLUMN api.waiting_entries.trade_id IS 'Identity of the trade';
COMMENT ON COLUMN api.waiting_entries.run_id IS 'The run that decided: api.run_history';
COMMENT ON COLUMN api.waiting_entries.addition IS 'Whether it adds to an open position';

CREATE VIEW api.closed_trades AS
SELECT book, strategy, symbol, contract, side, entry_qty AS qty, entry_price AS entry, entry_at, exit_price AS exit,
       exit_at, close_reason, realised, fees, trade_id
FROM trading.trade WHERE state = 'CLOSED';
COMMENT ON VIEW api.closed_trades IS 'Closed trades and their results; one that never entered has qty 0';
COMMENT ON COLUMN api.closed_trades.book IS 'The account';
COMMENT ON COLUMN api.closed_trades.strategy IS 'One strategy per book';
COMMENT ON COLUMN api.closed_trades.symbol IS 'The underlying, as config.ini names it';
COMMENT ON COLUMN api.closed_trades.contract IS 'The futures contract; empty for spot';
COMMENT ON COLUMN api.closed_trades.side IS 'LONG or SHORT';
COMMENT ON COLUMN api.closed_trades.qty IS 'Shares or contracts that were open';
COMMENT ON COLUMN api.closed_trades.entry IS 'Average entry price in the instrument''s quote unit';
COMMENT ON COLUMN api.closed_trades.entry_at IS 'When it was filled';
COMMENT ON COLUMN api.closed_trades.exit IS 'Average exit price';
COMMENT ON COLUMN api.closed_trades.exit_at IS 'When it was closed';
COMMENT ON COLUMN api.closed_trades.close_reason IS 'stop, target, contract_rolled, ...';
COMMENT ON COLUMN api.closed_trades.realised IS 'Profit after fees, in the book''s currency';
COMMENT ON COLUMN api.closed_trades.fees IS 'In the book''s currency';
COMMENT ON COLUMN api.closed_trades.trade_id IS 'Identity of the trade';

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
COMMENT ON COLUMN api.fills.reference IS 'The expected price: of a market order the last close before it, in a market that has ended the price itself, else the order''s own price; NULL: unknown';
COMMENT ON COLUMN api.fills.fx IS 'Book currency per unit of the instrument''s: that of a spot fill, else as known when the trade was decided';
COMMENT ON COLUMN api.fills.commission IS 'In the book''s currency';
COMMENT ON COLUMN api.fills.slippage IS 'Cost against reference, in the book''s currency; negative: better than reference';
COMMENT ON COLUMN api.fills.slippage_bps IS 'The same in basis points of reference';
COMMENT ON COLUMN api.fills.notional IS '|price x quantity| in the book''s currency';
COMMENT ON COLUMN api.fills.cash IS 'Change of cash before commission: cost for spot, realised profit for futures';
COMMENT ON COLUMN api.fills.ordered_at IS 'When the order was created';

CREATE VIEW api.marks AS
SELECT DISTINCT ON (book, as_of) book, as_of, currency, equity, cash, gross, net, gross / nullif(equity, 0) AS leverage,
       open_trades, run_id
FROM trading.mark ORDER BY book, as_of, mark_id DESC;
COMMENT ON VIEW api.marks IS 'Every book at the end of every run: filter by book and as_of';
COMMENT ON COLUMN api.marks.book IS 'The account, or a backtest''s own';
COMMENT ON COLUMN api.marks.as_of IS 'The instant for which the run decides';
COMMENT ON COLUMN api.marks.currency IS 'Currency of the book and of all money here';
COMMENT ON COLUMN api.marks.equity IS 'Cash and positions at their last price';
COMMENT ON COLUMN api.marks.cash IS 'Cash';
COMMENT ON COLUMN api.marks.gross IS 'Sum of |quantity x price| of the positions; NULL: a price or a rate was missing';
COMMENT ON COLUMN api.marks.net IS 'The same with shorts negative';
COMMENT ON COLUMN api.marks.leverage IS 'gross / equity';
COMMENT ON COLUMN api.marks.open_trades IS 'Trades with a position';
COMMENT ON COLUMN api.marks.run_id IS 'The run: api.run_history';

CREATE VIEW api.risk AS
SELECT book, as_of, name, grouped, alone, part, share, part / nullif(equity, 0)::float8 AS of_equity, currency
FROM trading.risk_part;
COMMENT ON VIEW api.risk IS 'What each instrument and group adds to the volatility that a book expects, at the end of each run: filter by book and as_of';
COMMENT ON COLUMN api.risk.book IS 'The account';
COMMENT ON COLUMN api.risk.as_of IS 'The instant for which the run decides';
COMMENT ON COLUMN api.risk.name IS 'An instrument''s symbol, or a group''s name if grouped';
COMMENT ON COLUMN api.risk.grouped IS 'True for a group of instruments';
COMMENT ON COLUMN api.risk.alone IS 'Its own volatility of a year';
COMMENT ON COLUMN api.risk.part IS 'What it adds to the book''s; negative: it hedges. Those of the instruments sum to the whole';
COMMENT ON COLUMN api.risk.share IS 'part / the book''s volatility';
COMMENT ON COLUMN api.risk.of_equity IS 'part / equity';
COMMENT ON COLUMN api.risk.currency IS 'Currency of the book and of all money here';

CREATE VIEW api.equity AS
SELECT book, day, currency, start_equity, equity, cash, deposits, earned,
       earned - greatest(max(earned) OVER days, 0) AS drawdown
FROM (
    SELECT r.book, r.day, r.currency, r.start_equity, r.equity, r.cash, c.deposits,
           r.equity - first_value(r.start_equity) OVER sofar - sum(c.deposits) OVER sofar AS earned
    FROM trading.risk_day r
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount), 0) AS deposits FROM trading.external_cash b
        WHERE b.book = r.book AND b.at > coalesce(r.start_at, r.day::timestamp AT TIME ZONE 'UTC')
          AND b.at <= coalesce(r.seen_at, (r.day + 1)::timestamp AT TIME ZONE 'UTC')
    ) c
    WINDOW sofar AS (PARTITION BY r.book ORDER BY r.day)
) d
WINDOW days AS (PARTITION BY book ORDER BY day);
COMMENT ON VIEW api.equity IS 'Equity of each book by risk day';
COMMENT ON COLUMN api.equity.book IS 'The account';
COMMENT ON COLUMN api.equity.day IS 'Risk day';
COMMENT ON COLUMN api.equity.currency IS 'Currency of the book and of all money here';
COMMENT ON COLUMN api.equity.start_equity IS 'The last equity seen before the day began';
COMMENT ON COLUMN api.equity.equity IS 'The last equity seen on that day';
COMMENT ON COLUMN api.equity.cash IS 'The last cash seen on that day';
COMMENT ON COLUMN api.equity.deposits IS 'Deposits between the instants of start_equity and equity; withdrawals are negative';
COMMENT ON COLUMN api.equity.earned IS 'Profit since the book''s first day, deposits excluded';
COMMENT ON COLUMN api.equity.drawdown IS 'earned minus its highest so far, the start included: 0 or negative';

CREATE VIEW api.accounts AS
SELECT s.number AS account, CASE WHEN s.book <> s.number THEN s.book END AS book, s.share, s.equity, s.cash, s.currency,
       s.at AS seen_at, t.open_trades, sum(s.equity) OVER (PARTITION BY s.number) AS account_equity, s.differs
FROM trading.account_seen s
CROSS JOIN LATERAL (
    SELECT count(*) AS open_trades FROM trading.trade t WHERE t.book = s.book AND t.state <> 'CLOSED'
) t;
COMMENT ON VIEW api.accounts IS 'Accounts that several books trade: what each book has, as the newest run of any of them saw it';
COMMENT ON COLUMN api.accounts.account IS 'The broker''s account number';
COMMENT ON COLUMN api.accounts.book IS 'The book; NULL: what no book has';
COMMENT ON COLUMN api.accounts.share IS 'Its share of cash that moves without a trade, and of what it was given at the start';
COMMENT ON COLUMN api.accounts.equity IS 'What it has; all of an account add up to the broker''s equity';
COMMENT ON COLUMN api.accounts.cash IS 'Its cash';
COMMENT ON COLUMN api.accounts.currency IS 'Currency of all money here';
COMMENT ON COLUMN api.accounts.seen_at IS 'The instant of the run that saw it';
COMMENT ON COLUMN api.accounts.open_trades IS 'Its trades that are not closed, now';
COMMENT ON COLUMN api.accounts.account_equity IS 'The broker''s equity of the whole account';
COMMENT ON COLUMN api.accounts.differs IS 'Where the sum of the books'' positions is not the broker''s; NULL: nowhere';

-- Data and runs -------------------------------------------------------------------------------------------------------

CREATE VIEW api.data_freshness AS
WITH RECURSIVE found AS (
    (SELECT symbol, market, contract, interval FROM market.bar ORDER BY symbol, market, contract, interval LIMIT 1)
    UNION ALL
    SELECT n.symbol, n.market, n.contract, n.interval
    FROM found f CROSS JOIN LATERAL (
        SELECT b.symbol, b.market, b.contract, b.interval FROM market.bar b
        WHERE (b.symbol, b.market, b.contract, b.interval) > (f.symbol, f.market, f.contract, f.interval)
        ORDER BY b.symbol, b.market, b.contract, b.interval LIMIT 1
    ) n
), newest AS (
    SELECT DISTINCT ON (b.symbol, b.market, b.interval)
           b.symbol, b.market, b.interval, b.contract, b.ts, b.close, b.source, b.ingested_at
    FROM found f
    CROSS JOIN LATERAL (
        SELECT * FROM market.bar b
        WHERE (b.symbol, b.market, b.contract, b.interval) = (f.symbol, f.market, f.contract, f.interval)
        ORDER BY b.ts DESC LIMIT 1
    ) b
    ORDER BY b.symbol, b.market, b.interval, b.ts DESC, b.contract DESC
)
SELECT n.symbol, n.market, n.interval, n.contract, n.ts AS newest, n.close, now() - n.ts AS age, n.source,
       n.ingested_at, coalesce(i.issues, 0) AS open_issues
FROM newest n
LEFT JOIN (
    SELECT symbol, market, count(*) AS issues FROM market.quality_issue WHERE decision IS NULL GROUP BY symbol, market
) i USING (symbol, market);
COMMENT ON VIEW api.data_freshness IS 'The newest bar of each series; `alphapivot status` also shows which bar is due';
COMMENT ON COLUMN api.data_freshness.symbol IS 'The underlying, as config.ini names it';
COMMENT ON COLUMN api.data_freshness.market IS 'spot or futures';
COMMENT ON COLUMN api.data_freshness.interval IS '1m 5m 15m 30m 1h 4h 1d 1w';
COMMENT ON COLUMN api.data_freshness.contract IS 'The futures contract of the newest bar; empty for spot';
COMMENT ON COLUMN api.data_freshness.newest IS 'End of the newest bar';
COMMENT ON COLUMN api.data_freshness.close IS 'Its close, in the instrument''s quote unit';
COMMENT ON COLUMN api.data_freshness.age IS 'Wall-clock time since then; weekends count';
COMMENT ON COLUMN api.data_freshness.source IS 'The feed, or resampled';
COMMENT ON COLUMN api.data_freshness.ingested_at IS 'When the hub first had it';
COMMENT ON COLUMN api.data_freshness.open_issues IS 'Quality issues of this symbol and market that nobody has decided';

CREATE VIEW api.run_history AS
SELECT r.run_id, r.kind, r.scope, r.as_of, r.known_at, r.state, r.attempts, r.message, r.started_at, r.finished_at,
       r.finished_at - r.started_at AS took, b.steps, b.rows_written, r.code_version, r.config_hash
FROM ops.run r
LEFT JOIN LATERAL (
    SELECT count(DISTINCT batch.batch_id) AS steps,
           sum(value::bigint) FILTER (WHERE key LIKE '% new' OR key LIKE '% changed') AS rows_written
    FROM ops.batch LEFT JOIN LATERAL jsonb_each_text(batch.rows) ON true WHERE batch.run_id = r.run_id
) b ON true;
COMMENT ON VIEW api.run_history IS 'Every run: its instant, how it ended, what it wrote';
COMMENT ON COLUMN api.run_history.run_id IS 'Identity of the run, the same on Retry';
COMMENT ON COLUMN api.run_history.kind IS 'ingest, signals, trade, pipeline, backtest ...';
COMMENT ON COLUMN api.run_history.scope IS 'live, or the name of a backtest or replay';
COMMENT ON COLUMN api.run_history.as_of IS 'The instant for which it decides';
COMMENT ON COLUMN api.run_history.known_at IS 'It read the database as of this instant';
COMMENT ON COLUMN api.run_history.state IS 'running, completed, failed, cancelled, skipped';
COMMENT ON COLUMN api.run_history.attempts IS '1, and one more for each Retry';
COMMENT ON COLUMN api.run_history.message IS 'How it ended, in a sentence';
COMMENT ON COLUMN api.run_history.started_at IS 'Start of its first attempt';
COMMENT ON COLUMN api.run_history.finished_at IS 'End of its last attempt; NULL: it is running, or crashed';
COMMENT ON COLUMN api.run_history.took IS 'From the first start to the last end';
COMMENT ON COLUMN api.run_history.steps IS 'Steps executed; those found done are not counted';
COMMENT ON COLUMN api.run_history.rows_written IS 'Rows new or changed in the hub';
COMMENT ON COLUMN api.run_history.code_version IS 'Version of the code that ran';
COMMENT ON COLUMN api.run_history.config_hash IS 'Hash of its whole config';

CREATE VIEW api.steps AS
SELECT b.batch_id, b.run_id, r.kind, r.as_of, b.step, b.started_at, b.finished_at - b.started_at AS took, b.rows,
       array_to_string(c.notes, '; ') AS notes
FROM ops.batch b
JOIN ops.run r USING (run_id)
LEFT JOIN ops.receipt c USING (run_id, step, inputs_hash);
COMMENT ON VIEW api.steps IS 'Every execution of a step that was committed';
COMMENT ON COLUMN api.steps.batch_id IS 'Identity of the execution, which signals and composites name';
COMMENT ON COLUMN api.steps.run_id IS 'The run: api.run_history';
COMMENT ON COLUMN api.steps.kind IS 'The kind of the run';
COMMENT ON COLUMN api.steps.as_of IS 'The instant for which the run decides';
COMMENT ON COLUMN api.steps.step IS 'Such as pillar trend 0';
COMMENT ON COLUMN api.steps.started_at IS 'When it began to write; the computation before is not counted';
COMMENT ON COLUMN api.steps.took IS 'Time to write';
COMMENT ON COLUMN api.steps.rows IS 'Rows new, changed and unchanged, by table, as JSON';
COMMENT ON COLUMN api.steps.notes IS 'What the operator should read';

CREATE VIEW api.alerts AS SELECT at, kind, subject, message, sent_at, attempts, failure FROM ops.alert;
COMMENT ON VIEW api.alerts IS 'Every alert, received or not';
COMMENT ON COLUMN api.alerts.at IS 'When it was noticed';
COMMENT ON COLUMN api.alerts.kind IS 'run failed, run crashed, feed stale, feed stand-in, calendar ends, price jump, position break, foreign order, order refused, order moved, market ended, cash unexplained, kill switch, login missing, approval, daily loss, hub away';
COMMENT ON COLUMN api.alerts.subject IS 'The run, feed, book or symbol';
COMMENT ON COLUMN api.alerts.message IS 'What happened and what to do, in a sentence or two';
COMMENT ON COLUMN api.alerts.sent_at IS 'When it was received; NULL: not yet';
COMMENT ON COLUMN api.alerts.attempts IS 'Number of attempts to send it';
COMMENT ON COLUMN api.alerts.failure IS 'Why, or by whom, it was not received';

-- Research ------------------------------------------------------------------------------------------------------------

CREATE VIEW api.tune_searches AS
SELECT t.tune_id, t.made_at, t.keys, t.since, t.until, t.engine, t.trials,
       (SELECT count(*) FROM research.tune_trial r WHERE r.tune_id = t.tune_id) AS done,
       t.objective, t.walk_forward, t.folds, t.best, t.inside, t.outside, t.deflated, t.overfit, t.verdict, t.judged_at
FROM research.tune t;
COMMENT ON VIEW api.tune_searches IS 'Searches by `alphapivot tune`, and their verdicts';
COMMENT ON COLUMN api.tune_searches.tune_id IS 'Identity of the search';
COMMENT ON COLUMN api.tune_searches.made_at IS 'When it was first requested';
COMMENT ON COLUMN api.tune_searches.keys IS 'The keys that vary, as given to --set';
COMMENT ON COLUMN api.tune_searches.since IS 'Start of the period';
COMMENT ON COLUMN api.tune_searches.until IS 'End of the period';
COMMENT ON COLUMN api.tune_searches.engine IS 'core: the screening engine; full: alphapivot backtest';
COMMENT ON COLUMN api.tune_searches.trials IS 'Number of configs to try';
COMMENT ON COLUMN api.tune_searches.done IS 'Number of configs done';
COMMENT ON COLUMN api.tune_searches.objective IS 'What was maximised';
COMMENT ON COLUMN api.tune_searches.walk_forward IS 'anchored or rolling';
COMMENT ON COLUMN api.tune_searches.folds IS 'Folds of the walk-forward';
COMMENT ON COLUMN api.tune_searches.best IS 'The trial that is best over the whole period';
COMMENT ON COLUMN api.tune_searches.inside IS 'Mean objective of the chosen trials in sample';
COMMENT ON COLUMN api.tune_searches.outside IS 'Objective of the chosen trials out of sample, one fold after the other';
COMMENT ON COLUMN api.tune_searches.deflated IS 'Deflated Sharpe ratio: probability that the best has any skill';
COMMENT ON COLUMN api.tune_searches.overfit IS 'Probability of backtest overfitting';
COMMENT ON COLUMN api.tune_searches.verdict IS 'Whether the best is more than luck, and why';
COMMENT ON COLUMN api.tune_searches.judged_at IS 'When the verdict was made; NULL: interrupted, run it again';

CREATE VIEW api.tune_trials AS
SELECT r.tune_id, r.trial, r.values, r.sharpe, r.growth, r.drawdown, r.trades, r.held, r.halted_at, r.config_hash,
       CASE t.engine WHEN 'full' THEN format('bt-tune%s-%s', r.tune_id, r.trial) END AS book
FROM research.tune_trial r JOIN research.tune t USING (tune_id);
COMMENT ON VIEW api.tune_trials IS 'Every config that a search tried, and its result';
COMMENT ON COLUMN api.tune_trials.tune_id IS 'api.tune_searches';
COMMENT ON COLUMN api.tune_trials.trial IS 'Its number, from 0';
COMMENT ON COLUMN api.tune_trials.values IS 'Values of the keys, as in config.ini';
COMMENT ON COLUMN api.tune_trials.sharpe IS 'Annual Sharpe ratio over the whole period; NULL: it never traded';
COMMENT ON COLUMN api.tune_trials.growth IS 'Compound annual growth of equity';
COMMENT ON COLUMN api.tune_trials.drawdown IS 'Largest fall from the highest equity, as a share of it';
COMMENT ON COLUMN api.tune_trials.trades IS 'Trades entered';
COMMENT ON COLUMN api.tune_trials.held IS 'Days within which 95 % of them were over';
COMMENT ON COLUMN api.tune_trials.halted_at IS 'When a loss first reached its limit';
COMMENT ON COLUMN api.tune_trials.config_hash IS 'Of the whole config of the trial';
COMMENT ON COLUMN api.tune_trials.book IS 'The book of its trades, with engine full; NULL: the screening engine keeps none';

CREATE VIEW api.tune_folds AS
SELECT tune_id, fold, train_from, train_to, test_from, test_to, trial, inside, outside FROM research.tune_fold;
COMMENT ON VIEW api.tune_folds IS 'The walk-forward: the trial chosen in training, and how it did in the test after it';
COMMENT ON COLUMN api.tune_folds.tune_id IS 'api.tune_searches';
COMMENT ON COLUMN api.tune_folds.fold IS 'Number of the fold, from 1';
COMMENT ON COLUMN api.tune_folds.train_from IS 'First day of training';
COMMENT ON COLUMN api.tune_folds.train_to IS 'Last day of training';
COMMENT ON COLUMN api.tune_folds.test_from IS 'First day of the test';
COMMENT ON COLUMN api.tune_folds.test_to IS 'Last day of the test';
COMMENT ON COLUMN api.tune_folds.trial IS 'The best of training';
COMMENT ON COLUMN api.tune_folds.inside IS 'Its objective in training';
COMMENT ON COLUMN api.tune_folds.outside IS 'Its objective in the test';
