-- A backtest stores its orders in bulk, with the events of each: the trigger leaves them to it.
CREATE OR REPLACE FUNCTION trading.record_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('alphapivot.events', true) = 'brought' THEN -- a backtest stores the events of its orders itself
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' AND (NEW.state, NEW.cum_qty, NEW.price) IS NOT DISTINCT FROM (OLD.state, OLD.cum_qty, OLD.price) THEN
        RETURN NULL;
    END IF;
    INSERT INTO trading.order_event (client_order_id, old_state, new_state, cum_qty, avg_price, price, fence, reason)
    VALUES (NEW.client_order_id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state,
            NEW.cum_qty, NEW.avg_price, NEW.price, NEW.fence, NEW.reason);
    RETURN NULL;
END $$;
ALTER TABLE research.backtest
    ADD COLUMN engine text CONSTRAINT backtest_engine CHECK (engine IN ('kernel', 'live')),
    ADD COLUMN audited integer CONSTRAINT backtest_audited CHECK (audited >= 0);
COMMENT ON COLUMN research.backtest.engine IS 'kernel: the engine decided and filled where the compiled kernel saw something happen; live: it did at every instant';
COMMENT ON COLUMN research.backtest.audited IS 'Number of instants that the trading engine traded again, with the same result';
