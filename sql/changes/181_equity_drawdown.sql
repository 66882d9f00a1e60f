-- A loss on the first day is a drawdown too.
CREATE OR REPLACE VIEW api.equity AS
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
COMMENT ON COLUMN api.equity.drawdown IS 'earned minus its highest so far, the start included: 0 or negative';
