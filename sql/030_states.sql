-- Orders that survive anything: when an intent holds, what the broker has that we never sent, and a state machine that never
-- goes back from the broker to our desk.

ALTER TABLE trading.intent
    ADD valid_from timestamptz,                 -- the first instant of a session strictly after as_of
    ADD expires timestamptz;                    -- an entry that was not sent by then is never sent

-- Both legs of a bracket may fill at once at a broker without OCO: the excess is seen, locked and flattened, not refused.
ALTER TABLE trading.trade DROP CONSTRAINT trade_check1, ADD CONSTRAINT trade_exit_qty CHECK (exit_qty >= 0);

CREATE TABLE trading.foreign_order (
    book text NOT NULL,
    broker_order_id text NOT NULL,
    symbol text,
    market text,
    contract text,
    side text,
    qty numeric,
    seen_at timestamptz NOT NULL,
    what text NOT NULL CHECK (what IN ('adopted', 'cancelled')), -- adopted: it stays, and its symbol is locked
    PRIMARY KEY (book, broker_order_id)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.foreign_order FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.foreign_order FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE FUNCTION trading.guard_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- what the broker has acknowledged it cannot un-know: sent again, it would be there twice
    IF NEW.state IN ('CREATED', 'PENDING_NEW', 'DENIED') AND
       OLD.state NOT IN ('CREATED', 'PENDING_NEW', 'UNKNOWN', 'DENIED') AND
       NOT (OLD.state = 'SUSPENDED' AND OLD.broker_order_id IS NULL)
    THEN
        RAISE EXCEPTION 'order %: the broker has it (%), % refused', OLD.client_order_id, OLD.state, NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.qty <> OLD.qty AND NEW.qty < OLD.cum_qty THEN
        RAISE EXCEPTION 'order %: % have filled, it cannot be made %', OLD.client_order_id, OLD.cum_qty, NEW.qty
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_state BEFORE UPDATE ON trading.orders FOR EACH ROW EXECUTE FUNCTION trading.guard_state();

ALTER TABLE trading.control ADD flatten boolean NOT NULL DEFAULT false; -- whatever is open leaves at market
