-- A book is one account: brokers net positions, so that two books of one account would take each other's trades for breaks,
-- and a book that wakes up at another account would find nothing of what it holds.
CREATE TABLE trading.account (
    book text PRIMARY KEY,
    number text NOT NULL UNIQUE,                -- the broker's own name of the account
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.account FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.account FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();
