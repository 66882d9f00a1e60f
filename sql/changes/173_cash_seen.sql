-- Cash that changes without a fill or a known movement is a possible payment that nobody recorded.
CREATE TABLE trading.cash_seen (
    book text PRIMARY KEY,
    at timestamptz NOT NULL,                    -- as_of of the last run that compared
    cash numeric NOT NULL,                      -- of the account
    booked numeric NOT NULL,                    -- by then: cash of fills less fees, and book_cash
    gap numeric NOT NULL DEFAULT 0,             -- change of cash that neither explains; 0: none
    gap_at timestamptz,                         -- equity seen later includes the gap
    gap_seen timestamptz,                       -- as_of of the first run that saw it
    CONSTRAINT cash_seen_gap CHECK ((gap = 0) = (gap_at IS NULL) AND (gap = 0) = (gap_seen IS NULL))
);
COMMENT ON TABLE trading.cash_seen IS 'The account''s cash as each book last saw it, and what of its change nothing explains: entries wait until `alphapivot cash` does';
CREATE TRIGGER never_deleted BEFORE DELETE ON trading.cash_seen FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.cash_seen FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();
CREATE OR REPLACE VIEW trading.external_cash AS
SELECT book, at, amount, note FROM trading.book_cash WHERE external
UNION ALL
SELECT book, gap_at, gap, 'unexplained' FROM trading.cash_seen WHERE gap <> 0;
COMMENT ON VIEW trading.external_cash IS 'Paid in or out, and cash whose change is unexplained as yet: equity seen later includes it, so profit and loss are measured without it';
COMMENT ON COLUMN api.alerts.kind IS 'run failed, run crashed, feed stale, calendar ends, position break, foreign order, order refused, order moved, cash unexplained, kill switch, daily loss, hub away';
