-- Open trades outlive their contracts and their shares: rolls, splits, dividends; and losses leave deposits out.

-- A roll is two orders of one intent: the old trade leaves, and a new one, linked to it, enters the next contract.
ALTER TABLE trading.decision
    DROP CONSTRAINT decision_action_check,
    ADD CONSTRAINT decision_action_check
        CHECK (action IN ('ENTER_LONG', 'ENTER_SHORT', 'HOLD', 'AMEND', 'ROLL', 'EXIT', 'NONE', 'DENIED'));
ALTER TABLE trading.intent
    DROP CONSTRAINT intent_action_check,
    DROP CONSTRAINT intent_check,
    ADD CONSTRAINT intent_action_check CHECK (action IN ('ENTER_LONG', 'ENTER_SHORT', 'ROLL', 'EXIT')),
    ADD CONSTRAINT intent_score CHECK (action IN ('ROLL', 'EXIT') OR score IS NOT NULL);
ALTER TABLE trading.trade
    ADD rolled boolean NOT NULL DEFAULT false,              -- it is on its way out, and the trade that follows it is there
    ADD rolled_from bigint UNIQUE REFERENCES trading.trade, -- the trade that this one goes on with
    ADD spread numeric,                                     -- by which stop, target and basis were shifted at the roll
    ADD spread_at timestamptz,                              -- since when that is the spread of the fills; before, of the closes
    ADD basis numeric,                                      -- the first trade's entry price, shifted by the rolls since
    ADD opened_at timestamptz,                              -- when the first trade entered
    ADD CONSTRAINT trade_rolled_from CHECK (rolled_from IS NULL OR (spread IS NOT NULL AND basis IS NOT NULL)),
-- What splits made of it: quantities are of today's shares, as is the entry price.
    ADD adjusted numeric NOT NULL DEFAULT 0,                -- shares that came (or went) without a fill
    ADD ratio numeric NOT NULL DEFAULT 1 CHECK (ratio > 0), -- today's shares for one of the entry's
    ADD paid numeric NOT NULL DEFAULT 0,                    -- dividends and cash for fractions, book currency
    ADD adjusted_at timestamptz;                            -- the last split
-- one current trade per symbol; those that a roll leaves behind only exit
DROP INDEX trading.trade_one_open;
CREATE UNIQUE INDEX trade_one_open ON trading.trade (book, strategy, symbol) WHERE state <> 'CLOSED' AND NOT rolled;

CREATE TABLE trading.adjustment (
    book text NOT NULL,
    trade_id bigint NOT NULL REFERENCES trading.trade,
    symbol text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('split', 'dividend')),
    ts timestamptz NOT NULL,                                -- the open of the first session ex
    value numeric NOT NULL CHECK (value > 0),               -- new shares for one old; or per share, in quoted units
    before numeric NOT NULL,                                -- the position, signed
    after numeric NOT NULL,
    cash numeric NOT NULL,                                  -- book currency
    run_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (trade_id, kind, ts)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.adjustment FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.adjustment FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE TABLE paper.action (                                 -- each event booked once
    book text NOT NULL,
    symbol text NOT NULL,
    market text NOT NULL,
    contract text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('split', 'dividend')),
    ts timestamptz NOT NULL,
    value numeric NOT NULL,
    before numeric NOT NULL,
    after numeric NOT NULL,
    cash numeric NOT NULL,
    PRIMARY KEY (book, symbol, market, contract, kind, ts)
);

ALTER TABLE trading.risk_day
    ADD start_at timestamptz,                               -- when start_equity was seen: deposits since are no gain
    ADD seen_at timestamptz;                                -- when equity was
