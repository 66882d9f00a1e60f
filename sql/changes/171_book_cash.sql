-- What kind of movement it was, and the broker's id. Two payments may share an instant.
ALTER TABLE trading.book_cash
    DROP CONSTRAINT book_cash_pkey,
    ADD COLUMN cash_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ADD COLUMN kind text CONSTRAINT book_cash_kind
        CHECK (kind IN ('deposit', 'withdrawal', 'journal', 'dividend', 'interest', 'fee', 'other')),
    ADD COLUMN flow_id text,
    ADD COLUMN revision int NOT NULL DEFAULT 1,
    ADD COLUMN dated date,
    ADD COLUMN recorded_at timestamptz NOT NULL DEFAULT clock_timestamp();
-- no UPDATE: history is append-only
ALTER TABLE trading.book_cash
    ALTER COLUMN kind TYPE text USING CASE WHEN amount < 0 THEN 'withdrawal' ELSE 'deposit' END,
    ALTER COLUMN kind SET NOT NULL;
ALTER TABLE trading.book_cash
    ADD COLUMN external boolean NOT NULL GENERATED ALWAYS AS (kind IN ('deposit', 'withdrawal', 'journal')) STORED,
    ADD CONSTRAINT book_cash_once UNIQUE (book, flow_id, revision);
CREATE INDEX book_cash_at ON trading.book_cash (book, at);
COMMENT ON TABLE trading.book_cash IS 'Cash that moved without a trade, in the book''s currency: told by the broker or typed with `alphapivot cash`';
COMMENT ON COLUMN trading.book_cash.external IS 'Paid in or out: neither profit nor loss. Dividends, interest, fees and other movements are results of the account';
CREATE VIEW trading.external_cash AS
SELECT book, at, amount, note FROM trading.book_cash WHERE external;
COMMENT ON VIEW trading.external_cash IS 'Paid in or out: equity seen later includes it, so profit and loss are measured without it';
