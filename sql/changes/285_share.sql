-- Several books may trade one account, each with a share of it.
ALTER TABLE trading.account DROP CONSTRAINT account_number_key;
CREATE INDEX account_number ON trading.account (number);
CREATE TABLE trading.share (
    share_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book text NOT NULL,                         -- or the number, for what no book has
    number text NOT NULL,                       -- the broker's account number
    share numeric NOT NULL CHECK (share BETWEEN 0 AND 1),
    opening numeric NOT NULL CHECK (abs(opening) < 'Infinity'), -- its cash besides its fills and movements
    at timestamptz NOT NULL
);
COMMENT ON TABLE trading.share IS 'Shares of the books in an account that several trade, each time [execution] share changes; the newest row of a book counts';
CREATE INDEX share_book ON trading.share (number, book, share_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.share FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.share FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();
