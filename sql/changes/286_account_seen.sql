-- What each book has of an account that several trade, and whether the sum is the broker's.
CREATE TABLE trading.account_seen (
    number text NOT NULL,                       -- the broker's account number
    book text NOT NULL,                         -- or the number, for what no book has
    share numeric NOT NULL,
    currency text NOT NULL,
    equity numeric NOT NULL CHECK (abs(equity) < 'Infinity'), -- all of an account add up to the broker's
    cash numeric NOT NULL CHECK (abs(cash) < 'Infinity'),
    differs text,                               -- where the books' positions are not the broker's; NULL: nowhere
    at timestamptz NOT NULL,                    -- as_of of the run that saw it
    PRIMARY KEY (number, book)
);
COMMENT ON TABLE trading.account_seen IS 'An account that several books trade, and what each has of it, as the newest run of any of them saw it';
CREATE TRIGGER never_deleted BEFORE DELETE ON trading.account_seen FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.account_seen FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

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
