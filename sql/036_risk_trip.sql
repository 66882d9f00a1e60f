-- Each time a loss stopped a book: from then on losses are measured anew, and trading waits for a person.

CREATE TABLE trading.risk_trip (
    book text NOT NULL,
    as_of timestamptz NOT NULL,
    day date NOT NULL,                          -- the risk day
    gate text NOT NULL CHECK (gate IN ('daily_loss', 'drawdown')),
    equity numeric NOT NULL,
    message text NOT NULL,
    run_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (book, as_of)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.risk_trip FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.risk_trip FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();
