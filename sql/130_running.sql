-- A book's positions as they stand, and its newest rows by index: what a run asks does not grow with a book's history.

CREATE TABLE trading.position (
    book text NOT NULL,
    symbol text NOT NULL,
    market text NOT NULL,
    contract text NOT NULL,
    qty numeric NOT NULL,
    PRIMARY KEY (book, symbol, market, contract)
);
COMMENT ON TABLE trading.position IS 'What the orders of a book make, signed: of each the fills that were read, or what the broker says of it where that is more, and what splits made of them. Kept by triggers';
CREATE TRIGGER never_deleted BEFORE DELETE ON trading.position FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.position FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

INSERT INTO trading.position (book, symbol, market, contract, qty)
SELECT book, symbol, market, contract, sum(qty)
FROM (
    SELECT book, symbol, market, contract, CASE side WHEN 'LONG' THEN adjusted ELSE -adjusted END AS qty
    FROM trading.trade WHERE adjusted <> 0
    UNION ALL
    SELECT o.book, o.symbol, o.market, o.contract,
           greatest(o.cum_qty, coalesce(sum(f.qty), 0)) * CASE o.side WHEN 'BUY' THEN 1 ELSE -1 END
    FROM trading.orders o LEFT JOIN trading.fill f USING (client_order_id)
    WHERE o.cum_qty > 0 OR f.qty > 0 GROUP BY o.client_order_id
) done
GROUP BY book, symbol, market, contract;

CREATE FUNCTION trading.hold(a_book text, a_symbol text, a_market text, a_contract text, more numeric) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO trading.position AS p (book, symbol, market, contract, qty)
    SELECT a_book, a_symbol, a_market, a_contract, more WHERE more <> 0
    ON CONFLICT (book, symbol, market, contract) DO UPDATE SET qty = p.qty + excluded.qty
$$;

CREATE FUNCTION trading.hold_counted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    filled numeric := coalesce((SELECT sum(qty) FROM trading.fill WHERE client_order_id = NEW.client_order_id), 0);
    before numeric := CASE TG_OP WHEN 'INSERT' THEN 0 ELSE greatest(OLD.cum_qty, filled) END;
    more numeric := greatest(NEW.cum_qty, filled) - before;
BEGIN
    PERFORM trading.hold(NEW.book, NEW.symbol, NEW.market, NEW.contract, CASE NEW.side WHEN 'BUY' THEN more ELSE -more END);
    RETURN NULL;
END $$;
CREATE TRIGGER hold_new AFTER INSERT ON trading.orders FOR EACH ROW WHEN (NEW.cum_qty > 0)
    EXECUTE FUNCTION trading.hold_counted();
CREATE TRIGGER hold_more AFTER UPDATE OF cum_qty ON trading.orders FOR EACH ROW WHEN (NEW.cum_qty <> OLD.cum_qty)
    EXECUTE FUNCTION trading.hold_counted();

CREATE FUNCTION trading.hold_filled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN -- by statement: it may bring several fills of one order
    PERFORM trading.hold(o.book, o.symbol, o.market, o.contract,
        (greatest(o.cum_qty, n.filled) - greatest(o.cum_qty, n.filled - n.qty)) * CASE o.side WHEN 'BUY' THEN 1 ELSE -1 END)
    FROM (
        SELECT a.client_order_id, sum(a.qty) AS qty,
               (SELECT sum(f.qty) FROM trading.fill f WHERE f.client_order_id = a.client_order_id) AS filled
        FROM added a GROUP BY a.client_order_id
    ) n JOIN trading.orders o USING (client_order_id);
    RETURN NULL;
END $$;
CREATE TRIGGER hold AFTER INSERT ON trading.fill REFERENCING NEW TABLE AS added FOR EACH STATEMENT
    EXECUTE FUNCTION trading.hold_filled();

CREATE FUNCTION trading.hold_adjusted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM trading.hold(NEW.book, NEW.symbol, NEW.market, NEW.contract,
        (NEW.adjusted - OLD.adjusted) * CASE NEW.side WHEN 'LONG' THEN 1 ELSE -1 END);
    RETURN NULL;
END $$;
CREATE TRIGGER hold AFTER UPDATE OF adjusted ON trading.trade FOR EACH ROW WHEN (NEW.adjusted <> OLD.adjusted)
    EXECUTE FUNCTION trading.hold_adjusted();

CREATE INDEX trade_open ON trading.trade (book) WHERE state <> 'CLOSED';
CREATE INDEX trade_ended ON trading.trade (book, exit_at);
CREATE INDEX orders_updated ON trading.orders (book, updated_at);
CREATE INDEX orders_decided ON trading.orders (book, as_of);
CREATE INDEX intent_decided ON trading.intent (book, as_of);
CREATE INDEX fill_since ON trading.fill (book, ts);
