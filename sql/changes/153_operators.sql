-- Requests to close a trade, books that decided too early, cancels of foreign orders that were not confirmed, and orders
-- whose replacement was rejected after the fact.
CREATE TABLE trading.close_request (
    request_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    trade_id bigint NOT NULL REFERENCES trading.trade,
    qty numeric CHECK (qty > 0),                -- NULL: all of it
    reason text NOT NULL CHECK (reason <> ''),
    by text NOT NULL CHECK (by <> ''),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE trading.close_request IS 'What `alphapivot close` asked for; the exit order of a request has the reason "close " and its id';
CREATE INDEX ON trading.close_request (trade_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.close_request FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.close_request FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE TABLE trading.repair (
    repair_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book text NOT NULL,
    decision_id bigint NOT NULL,                -- the newest decision by then
    reason text NOT NULL CHECK (reason <> ''),
    by text NOT NULL CHECK (by <> ''),
    at timestamptz NOT NULL                     -- decisions up to decision_id for later instants no longer count
);
COMMENT ON TABLE trading.repair IS 'When `alphapivot repair` let a book go on that had decided for instants to come';
CREATE INDEX ON trading.repair (book);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.repair FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.repair FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

ALTER TABLE trading.foreign_order DROP CONSTRAINT foreign_order_what_check;
ALTER TABLE trading.foreign_order ADD CONSTRAINT foreign_order_what CHECK (what IN ('adopted', 'cancelling', 'cancelled'));
DROP TRIGGER append_only ON trading.foreign_order;
CREATE TRIGGER never_deleted BEFORE DELETE ON trading.foreign_order FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE OR REPLACE FUNCTION trading.guard_order() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    newest bigint;
BEGIN
    -- the lock makes a newer executor wait until this write is either committed or gone
    SELECT fence INTO newest FROM trading.lease WHERE book = NEW.book FOR SHARE;
    IF newest IS NULL OR NEW.fence < newest THEN
        RAISE EXCEPTION 'order %: fence % is older than %, a newer executor has taken over book %',
            NEW.client_order_id, NEW.fence, newest, NEW.book USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF TG_OP = 'INSERT' THEN
        RETURN NEW;
    END IF;
    -- a broker may accept a replacement and reject it later: then the old order works on
    IF trading.is_terminal(OLD.state) AND NEW.state <> OLD.state AND
       NOT (OLD.state = 'REPLACED' AND NEW.state IN ('NEW', 'PARTIALLY_FILLED'))
    THEN
        RAISE EXCEPTION 'order %: % is final, % refused', OLD.client_order_id, OLD.state, NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.cum_qty < OLD.cum_qty THEN
        RAISE EXCEPTION 'order %: the filled quantity % cannot shrink to %', OLD.client_order_id, OLD.cum_qty, NEW.cum_qty
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF (NEW.client_order_id, NEW.trade_id, NEW.leg, NEW.version, NEW.book, NEW.symbol, NEW.market, NEW.contract, NEW.side, NEW.kind)
        IS DISTINCT FROM
       (OLD.client_order_id, OLD.trade_id, OLD.leg, OLD.version, OLD.book, OLD.symbol, OLD.market, OLD.contract, OLD.side, OLD.kind)
    THEN
        RAISE EXCEPTION 'order %: what was ordered cannot change', OLD.client_order_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

-- The stop that works, and the one that is wanted.
CREATE OR REPLACE VIEW api.open_trades AS
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
COMMENT ON COLUMN api.open_trades.stop IS 'Price of the stop that works at the broker; NULL: none does; while pending, as planned';
COMMENT ON COLUMN api.open_trades.wanted_stop IS 'Price at which the stop should be, where it differs';
