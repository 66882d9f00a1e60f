-- [execution] approve = entries: entries wait for an operator's yes.
ALTER TABLE trading.intent ADD COLUMN to_approve boolean NOT NULL DEFAULT false;
CREATE TABLE trading.approval (
    trade_id bigint PRIMARY KEY REFERENCES trading.trade,
    reason text NOT NULL CHECK (reason <> ''),
    by text NOT NULL CHECK (by <> ''),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE trading.approval IS 'The yes of `alphapivot approve` to an entry, where [execution] approve = entries: without one it is never sent';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.approval FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.approval FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE VIEW api.waiting_entries AS
SELECT t.book, t.strategy, t.symbol, t.contract, t.side, t.qty, t.reference, o.price AS "limit", t.stop, t.target, i.score,
       t.currency, i.as_of, i.expires, a.trade_id IS NOT NULL AS approved, a.by AS approved_by, a.at AS approved_at,
       a.reason, t.trade_id, d.run_id
FROM trading.trade t
JOIN trading.intent i USING (intent_id)
JOIN trading.decision d USING (decision_id)
JOIN trading.orders o ON o.trade_id = t.trade_id AND o.leg = 'ENTRY' AND o.state = 'CREATED'
LEFT JOIN trading.approval a ON a.trade_id = t.trade_id
WHERE t.state = 'PENDING' AND i.to_approve;
COMMENT ON VIEW api.waiting_entries IS 'Entries of [execution] approve = entries that have not been sent, approved or not';
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

COMMENT ON COLUMN api.alerts.kind IS 'run failed, run crashed, feed stale, feed stand-in, calendar ends, price jump, position break, foreign order, order refused, order moved, market ended, cash unexplained, kill switch, approval, daily loss, hub away';
