-- Schema trading: decisions, orders and money of each book. Schema paper: the paper broker's own memory; it plays the remote
-- system, so it shares no transaction and no key with trading.
-- No row is ever deleted, history is append-only, and every state change of an order is kept: triggers enforce it.

CREATE SCHEMA trading;
CREATE SCHEMA paper;

CREATE FUNCTION trading.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% keeps its rows as they are: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- Decisions -----------------------------------------------------------------------------------------------------------

CREATE TABLE trading.decision (
    decision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book text NOT NULL,
    strategy text NOT NULL,
    symbol text NOT NULL,
    as_of timestamptz NOT NULL,
    batch_id bigint,                            -- the composite's version; NULL: there was none
    run_id text NOT NULL,
    action text NOT NULL
        CHECK (action IN ('ENTER_LONG', 'ENTER_SHORT', 'HOLD', 'AMEND', 'ADD', 'REDUCE', 'ROLL', 'EXIT', 'NONE', 'DENIED')),
    reasons text[] NOT NULL,
    gates jsonb NOT NULL,                       -- every gate that was checked: {name: {passed, value, limit}}
    score_ts timestamptz,
    score real CHECK (score BETWEEN -100 AND 100), -- NaN sorts above every number, so it fails here too
    raw real CHECK (raw BETWEEN -100 AND 100),
    gate real CHECK (gate BETWEEN 0 AND 1),
    veto text,
    terms jsonb,                                -- the composite's parts, as the run computed them
    bars jsonb NOT NULL,                        -- the bars it rests on, by key and version
    plan jsonb,                                 -- quantity, prices, distance, what capped it
    decided_at timestamptz NOT NULL,
    stop numeric,                               -- where an AMEND, an ADD or a REDUCE moves the stop
    CHECK (action <> 'DENIED' OR cardinality(reasons) > 0),
    CONSTRAINT decision_amend
        CHECK (CASE action WHEN 'AMEND' THEN stop IS NOT NULL WHEN 'ADD' THEN true WHEN 'REDUCE' THEN true ELSE stop IS NULL END)
);
COMMENT ON TABLE trading.decision IS 'Every decision of a book, HOLD and NONE included: its reasons, gates, score and plan; written by trade runs before any order';
-- one decision for each version of the composite, and one without; UNIQUE NULLS NOT DISTINCT takes PostgreSQL 15
CREATE UNIQUE INDEX decision_once ON trading.decision (book, strategy, symbol, as_of, coalesce(batch_id, -1));
CREATE INDEX ON trading.decision (book, as_of);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.decision FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.decision FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE TABLE trading.intent (
    intent_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    decision_id bigint NOT NULL REFERENCES trading.decision,
    book text NOT NULL,
    strategy text NOT NULL,
    symbol text NOT NULL,
    as_of timestamptz NOT NULL,
    action text NOT NULL CHECK (action IN ('ENTER_LONG', 'ENTER_SHORT', 'ADD', 'ROLL', 'REDUCE', 'EXIT')),
    score real CHECK (score BETWEEN -100 AND 100),
    created_at timestamptz NOT NULL,
    valid_from timestamptz,                     -- the first instant of a session strictly after as_of
    expires timestamptz,                        -- an entry not sent by then is never sent
    to_approve boolean NOT NULL DEFAULT false, -- [execution] approve: it is not sent without a row in trading.approval
    UNIQUE (book, strategy, symbol, as_of, action),
    CONSTRAINT intent_score CHECK (action IN ('ROLL', 'REDUCE', 'EXIT') OR score IS NOT NULL)
);
COMMENT ON TABLE trading.intent IS 'The orders that a decision calls for: at most one per symbol, as_of and action';
CREATE INDEX intent_decided ON trading.intent (book, as_of);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.intent FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.intent FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

-- Positions and trades ------------------------------------------------------------------------------------------------

CREATE TABLE trading.position (
    book text NOT NULL,
    symbol text NOT NULL,
    market text NOT NULL,
    contract text NOT NULL,
    qty numeric NOT NULL,
    PRIMARY KEY (book, symbol, market, contract)
);
COMMENT ON TABLE trading.position IS 'Positions of a book, signed, kept by triggers: of each order its fills, or the broker''s filled quantity where that is more, and the effect of splits';
CREATE TRIGGER never_deleted BEFORE DELETE ON trading.position FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.position FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE FUNCTION trading.hold(a_book text, a_symbol text, a_market text, a_contract text, more numeric) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO trading.position AS p (book, symbol, market, contract, qty)
    SELECT a_book, a_symbol, a_market, a_contract, more WHERE more <> 0
    ON CONFLICT (book, symbol, market, contract) DO UPDATE SET qty = p.qty + excluded.qty
$$;

CREATE TABLE trading.trade (
    trade_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    intent_id bigint NOT NULL UNIQUE REFERENCES trading.intent,
    book text NOT NULL,
    strategy text NOT NULL,
    symbol text NOT NULL,
    market text NOT NULL CHECK (market IN ('spot', 'futures')),
    contract text NOT NULL,
    side text NOT NULL CHECK (side IN ('LONG', 'SHORT')),
    state text NOT NULL CHECK (state IN ('PENDING', 'OPEN', 'CLOSED')),
    qty numeric NOT NULL CHECK (qty > 0),       -- as ordered
    reference numeric NOT NULL,                 -- the close that the decision rests on
    stop numeric NOT NULL,
    target numeric,                             -- NULL: [execution] reward_to_risk = off
    currency text NOT NULL,
    multiplier numeric NOT NULL CHECK (multiplier > 0),
    quote_unit numeric NOT NULL CHECK (quote_unit > 0),
    entry_qty numeric NOT NULL DEFAULT 0 CHECK (entry_qty BETWEEN 0 AND qty),
    entry_price numeric,
    entry_at timestamptz,
    -- it may exceed entry_qty: without OCO at the broker both legs of a bracket may fill; the symbol is locked, the excess flattened
    exit_qty numeric NOT NULL DEFAULT 0 CONSTRAINT trade_exit_qty CHECK (exit_qty >= 0),
    exit_price numeric,
    exit_at timestamptz,
    realised numeric,                           -- book currency, after fees; when closed
    fees numeric NOT NULL DEFAULT 0,
    close_reason text,
    created_at timestamptz NOT NULL,
    -- a roll is two orders of one intent: the old trade leaves, and a new one, linked to it, enters the next contract
    rolled boolean NOT NULL DEFAULT false,              -- it only exits: the trade that follows it exists
    rolled_from bigint UNIQUE REFERENCES trading.trade, -- the trade that this one continues
    spread numeric,                                     -- by which stop, target and basis were shifted at the roll
    spread_at timestamptz,                              -- since then it is the spread of the fills, before of the closes
    basis numeric,                                      -- the first trade's entry price, shifted by the rolls since
    opened_at timestamptz,                              -- when the first trade entered
    -- what splits made of it: quantities are of today's shares, as is the entry price
    adjusted numeric NOT NULL DEFAULT 0,                -- shares gained (or lost) without a fill
    ratio numeric NOT NULL DEFAULT 1 CHECK (ratio > 0), -- today's shares per share at entry
    paid numeric NOT NULL DEFAULT 0,                    -- dividends and cash for fractions, book currency
    adjusted_at timestamptz,                            -- the last split
    CONSTRAINT trade_stop_and_target
        CHECK (target IS NULL OR (side = 'LONG' AND stop < target) OR (side = 'SHORT' AND stop > target)),
    CONSTRAINT trade_close_reason CHECK ((state = 'CLOSED') = (close_reason IS NOT NULL)),
    CONSTRAINT trade_closed_is_flat CHECK (state <> 'CLOSED' OR exit_qty = entry_qty),
    CONSTRAINT trade_rolled_from CHECK (rolled_from IS NULL OR (spread IS NOT NULL AND basis IS NOT NULL))
);
COMMENT ON TABLE trading.trade IS 'One position from entry to exit, with its stop and target: prices in the instrument''s quote unit, money in the book''s currency';
-- one current trade per symbol; those that a roll replaces only exit
CREATE UNIQUE INDEX trade_one_open ON trading.trade (book, strategy, symbol) WHERE state <> 'CLOSED' AND NOT rolled;
CREATE INDEX trade_open ON trading.trade (book) WHERE state <> 'CLOSED';
CREATE INDEX trade_ended ON trading.trade (book, exit_at);
CREATE TRIGGER never_deleted BEFORE DELETE ON trading.trade FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.trade FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE FUNCTION trading.hold_adjusted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM trading.hold(NEW.book, NEW.symbol, NEW.market, NEW.contract,
        (NEW.adjusted - OLD.adjusted) * CASE NEW.side WHEN 'LONG' THEN 1 ELSE -1 END);
    RETURN NULL;
END $$;
CREATE TRIGGER hold AFTER UPDATE OF adjusted ON trading.trade FOR EACH ROW WHEN (NEW.adjusted <> OLD.adjusted)
    EXECUTE FUNCTION trading.hold_adjusted();

CREATE TABLE trading.adjustment (
    book text NOT NULL,
    trade_id bigint NOT NULL REFERENCES trading.trade,
    symbol text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('split', 'dividend', 'distribution', 'merger', 'delisting')),
    ts timestamptz NOT NULL,                    -- the open of the first session ex
    value numeric NOT NULL CHECK (value > 0),   -- new shares per old share; or dividend per share, in the quote unit
    before numeric NOT NULL,                    -- the position, signed
    after numeric NOT NULL,
    cash numeric NOT NULL,                      -- book currency
    run_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (trade_id, kind, ts)
);
COMMENT ON TABLE trading.adjustment IS 'Splits and dividends booked on open trades';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.adjustment FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.adjustment FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

-- Orders and fills ----------------------------------------------------------------------------------------------------

CREATE TABLE trading.lease (
    book text PRIMARY KEY,
    fence bigint NOT NULL
);
COMMENT ON TABLE trading.lease IS 'The fence of each book''s executor: a newer executor raises it, and orders written with an older one are refused';
CREATE TRIGGER never_deleted BEFORE DELETE ON trading.lease FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.lease FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE FUNCTION trading.is_terminal(state text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
    $$ SELECT state IN ('FILLED', 'CANCELED', 'REPLACED', 'REJECTED', 'EXPIRED', 'DENIED', 'ABANDONED') $$;

CREATE TABLE trading.orders (
    client_order_id text PRIMARY KEY CHECK (length(client_order_id) BETWEEN 1 AND 20),
    trade_id bigint NOT NULL REFERENCES trading.trade,
    intent_id bigint NOT NULL REFERENCES trading.intent,
    leg text NOT NULL CHECK (leg IN ('ENTRY', 'STOP', 'TARGET', 'EXIT')),
    version int NOT NULL CHECK (version > 0),
    book text NOT NULL,
    symbol text NOT NULL,
    market text NOT NULL CHECK (market IN ('spot', 'futures')),
    contract text NOT NULL,
    side text NOT NULL CHECK (side IN ('BUY', 'SELL')),
    kind text NOT NULL CHECK (kind IN ('MARKET', 'LIMIT', 'STOP')),
    qty numeric NOT NULL CHECK (qty > 0 AND qty < 'Infinity'),
    price numeric,
    cum_qty numeric NOT NULL DEFAULT 0,
    avg_price numeric,
    state text NOT NULL CHECK (state IN (
        'CREATED', 'PENDING_NEW', 'NEW', 'PARTIALLY_FILLED', 'PENDING_CANCEL', 'PENDING_REPLACE', 'SUSPENDED', 'UNKNOWN',
        'FILLED', 'CANCELED', 'REPLACED', 'REJECTED', 'EXPIRED', 'DENIED', 'ABANDONED')),
    reason text,
    as_of timestamptz NOT NULL,                 -- of the decision
    active_from timestamptz NOT NULL,           -- no bar that opened earlier fills it
    attempts int NOT NULL DEFAULT 0,
    fence bigint NOT NULL,
    broker_order_id text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (trade_id, leg, version),
    UNIQUE (book, broker_order_id),
    CHECK (cum_qty BETWEEN 0 AND qty),
    CHECK ((kind = 'MARKET') = (price IS NULL)),
    CHECK (state <> 'FILLED' OR cum_qty = qty),
    CHECK (state NOT IN ('REJECTED', 'DENIED', 'ABANDONED') OR reason IS NOT NULL)
);
COMMENT ON TABLE trading.orders IS 'Orders, written before they are sent; their state follows the broker''s';
CREATE UNIQUE INDEX orders_one_working ON trading.orders (trade_id, leg) WHERE NOT trading.is_terminal(state);
CREATE INDEX orders_working ON trading.orders (book) WHERE NOT trading.is_terminal(state);
CREATE INDEX orders_updated ON trading.orders (book, updated_at);
CREATE INDEX orders_decided ON trading.orders (book, as_of);
CREATE TRIGGER never_deleted BEFORE DELETE ON trading.orders FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.orders FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE FUNCTION trading.guard_order() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    newest bigint;
BEGIN
    -- the lock makes a newer executor wait until this write is either committed or gone
    SELECT fence INTO newest FROM trading.lease WHERE book = NEW.book FOR SHARE;
    IF newest IS NULL OR NEW.fence < newest THEN
        RAISE EXCEPTION 'order %: fence % is older than %, a newer executor has taken over book %',
            NEW.client_order_id, NEW.fence, newest, NEW.book USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF TG_OP = 'INSERT' THEN
        RETURN NEW;
    END IF;
    -- a broker may accept a replacement and reject it later: then the old order works on
    IF trading.is_terminal(OLD.state) AND NEW.state <> OLD.state AND
       NOT (OLD.state = 'REPLACED' AND NEW.state IN ('NEW', 'PARTIALLY_FILLED'))
    THEN
        RAISE EXCEPTION 'order %: % is final, % refused', OLD.client_order_id, OLD.state, NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.cum_qty < OLD.cum_qty THEN
        RAISE EXCEPTION 'order %: the filled quantity % cannot shrink to %', OLD.client_order_id, OLD.cum_qty, NEW.cum_qty
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF (NEW.client_order_id, NEW.trade_id, NEW.leg, NEW.version, NEW.book, NEW.symbol, NEW.market, NEW.contract, NEW.side, NEW.kind)
        IS DISTINCT FROM
       (OLD.client_order_id, OLD.trade_id, OLD.leg, OLD.version, OLD.book, OLD.symbol, OLD.market, OLD.contract, OLD.side, OLD.kind)
    THEN
        RAISE EXCEPTION 'order %: what was ordered cannot change', OLD.client_order_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON trading.orders FOR EACH ROW EXECUTE FUNCTION trading.guard_order();

CREATE FUNCTION trading.guard_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- what the broker has acknowledged it cannot un-know: sent again, it would be there twice
    IF NEW.state IN ('CREATED', 'PENDING_NEW', 'DENIED') AND
       OLD.state NOT IN ('CREATED', 'PENDING_NEW', 'UNKNOWN', 'DENIED') AND
       NOT (OLD.state = 'SUSPENDED' AND OLD.broker_order_id IS NULL)
    THEN
        RAISE EXCEPTION 'order %: the broker has it (%), % refused', OLD.client_order_id, OLD.state, NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.qty <> OLD.qty AND NEW.qty < OLD.cum_qty THEN
        RAISE EXCEPTION 'order %: % have filled, it cannot be made %', OLD.client_order_id, OLD.cum_qty, NEW.qty
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_state BEFORE UPDATE ON trading.orders FOR EACH ROW EXECUTE FUNCTION trading.guard_state();

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

CREATE TABLE trading.order_event (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_order_id text NOT NULL REFERENCES trading.orders,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    old_state text,
    new_state text NOT NULL,
    cum_qty numeric NOT NULL,
    avg_price numeric,
    price numeric,
    fence bigint NOT NULL,
    reason text
);
COMMENT ON TABLE trading.order_event IS 'Every change of an order''s state, filled quantity and price; written by a trigger';
CREATE INDEX ON trading.order_event (client_order_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.order_event FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.order_event FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE FUNCTION trading.record_order() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER record AFTER INSERT OR UPDATE ON trading.orders FOR EACH ROW EXECUTE FUNCTION trading.record_order();

CREATE TABLE trading.fill (
    book text NOT NULL,
    exec_id text NOT NULL,                      -- the broker's: a fill reported twice counts once
    client_order_id text NOT NULL REFERENCES trading.orders,
    symbol text NOT NULL,
    market text NOT NULL,
    contract text NOT NULL,
    side text NOT NULL CHECK (side IN ('BUY', 'SELL')),
    qty numeric NOT NULL CHECK (qty > 0),
    price numeric NOT NULL,
    fee numeric NOT NULL,                       -- book currency
    cash numeric NOT NULL,                      -- change of cash before the fee, book currency: cost for spot, realised P&L for futures
    ts timestamptz NOT NULL,                    -- end of the bar that filled it, or the broker's own time
    PRIMARY KEY (book, exec_id)
);
COMMENT ON TABLE trading.fill IS 'Executions, as the broker reports them';
CREATE INDEX ON trading.fill (client_order_id);
CREATE INDEX fill_since ON trading.fill (book, ts);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.fill FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.fill FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

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

CREATE TABLE trading.foreign_order (
    book text NOT NULL,
    broker_order_id text NOT NULL,
    symbol text,
    market text,
    contract text,
    side text,
    qty numeric,
    seen_at timestamptz NOT NULL,
    -- adopted: left working, its symbol locked; cancelling: asked for at each run until it is gone
    what text NOT NULL CONSTRAINT foreign_order_what CHECK (what IN ('adopted', 'cancelling', 'cancelled')),
    PRIMARY KEY (book, broker_order_id)
);
COMMENT ON TABLE trading.foreign_order IS 'Orders found at the broker that this book never sent';
CREATE TRIGGER never_deleted BEFORE DELETE ON trading.foreign_order FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.foreign_order FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

-- Books ---------------------------------------------------------------------------------------------------------------

-- A book keeps its account: one that moves to another would find none of its positions there. Several books may share one.
CREATE TABLE trading.account (
    book text PRIMARY KEY,
    number text NOT NULL,                       -- the broker's account number
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE trading.account IS 'The broker''s account of each book';
CREATE INDEX account_number ON trading.account (number);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.account FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.account FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

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

CREATE TABLE trading.journal (
    journal_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    book text NOT NULL,
    run_id text NOT NULL,
    as_of timestamptz NOT NULL,
    kind text NOT NULL,                         -- sent, filled, closed, expired, locked ...
    symbol text,
    client_order_id text,
    message text NOT NULL                       -- one sentence
);
COMMENT ON TABLE trading.journal IS 'What happened in a book, one sentence each';
CREATE INDEX ON trading.journal (book, as_of);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.journal FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.journal FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE TABLE trading.control (
    control_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope text NOT NULL,                        -- a book, or * for all; the newest row counts
    state text NOT NULL CHECK (state IN ('ACTIVE', 'REDUCE_ONLY', 'HALTED')),
    reason text NOT NULL CHECK (reason <> ''),
    by text NOT NULL CHECK (by <> ''),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    flatten boolean NOT NULL DEFAULT false      -- exit every open trade at market
);
COMMENT ON TABLE trading.control IS 'The kill switch: every halt and resume, by whom and why; the newest row of a scope counts';
CREATE INDEX ON trading.control (scope, control_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.control FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.control FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE TABLE trading.close_request (
    request_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    trade_id bigint NOT NULL REFERENCES trading.trade,
    qty numeric CHECK (qty > 0),                -- NULL: all of it
    reason text NOT NULL CHECK (reason <> ''),
    by text NOT NULL CHECK (by <> ''),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE trading.close_request IS 'What `alphapivot close` asked for; the exit order of a request has the reason "close " and its id';
CREATE INDEX ON trading.close_request (trade_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.close_request FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.close_request FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE TABLE trading.approval (
    intent_id bigint PRIMARY KEY REFERENCES trading.intent,
    trade_id bigint NOT NULL REFERENCES trading.trade,
    reason text NOT NULL CHECK (reason <> ''),
    by text NOT NULL CHECK (by <> ''),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE trading.approval IS 'The yes of `alphapivot approve` to an entry or an addition, where [execution] approve = entries: without one it is never sent';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.approval FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.approval FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE TABLE trading.repair (
    repair_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book text NOT NULL,
    decision_id bigint NOT NULL,                -- the newest decision by then
    reason text NOT NULL CHECK (reason <> ''),
    by text NOT NULL CHECK (by <> ''),
    at timestamptz NOT NULL                     -- decisions up to decision_id for later instants no longer count
);
COMMENT ON TABLE trading.repair IS 'When `alphapivot repair` let a book go on that had decided for instants to come';
CREATE INDEX ON trading.repair (book);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.repair FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.repair FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE TABLE trading.instrument_lock (
    lock_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book text NOT NULL,
    symbol text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL,
    cleared_at timestamptz,
    cleared_by text,
    cleared_reason text,
    CHECK ((cleared_at IS NULL) = (cleared_by IS NULL) AND (cleared_at IS NULL) = (cleared_reason IS NULL))
);
COMMENT ON TABLE trading.instrument_lock IS 'Symbols in which trading is blocked until someone runs `alphapivot unlock`, and former locks';
CREATE UNIQUE INDEX instrument_lock_one ON trading.instrument_lock (book, symbol) WHERE cleared_at IS NULL;
CREATE TRIGGER never_deleted BEFORE DELETE ON trading.instrument_lock FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.instrument_lock FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE TABLE trading.book_cash (
    cash_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book text NOT NULL,
    at timestamptz NOT NULL,                    -- equity seen later includes it, equity seen earlier does not
    amount numeric NOT NULL CHECK (amount <> 0), -- a withdrawal is negative
    note text NOT NULL,
    kind text NOT NULL CONSTRAINT book_cash_kind
        CHECK (kind IN ('deposit', 'withdrawal', 'journal', 'dividend', 'interest', 'fee', 'other')),
    external boolean NOT NULL GENERATED ALWAYS AS (kind IN ('deposit', 'withdrawal', 'journal')) STORED,
    flow_id text,                               -- the broker's id; NULL: typed
    revision int NOT NULL DEFAULT 1,            -- the broker corrected the amount: the difference is a row of its own
    dated date,                                 -- as the broker dates it
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT book_cash_once UNIQUE (book, flow_id, revision)
);
CREATE INDEX book_cash_at ON trading.book_cash (book, at);
COMMENT ON TABLE trading.book_cash IS 'Cash that moved without a trade, in the book''s currency: told by the broker or typed with `alphapivot cash`';
COMMENT ON COLUMN trading.book_cash.external IS 'Paid in or out: neither profit nor loss. Dividends, interest, fees and other movements are results of the account';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.book_cash FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.book_cash FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

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

CREATE VIEW trading.external_cash AS
SELECT book, at, amount, note FROM trading.book_cash WHERE external
UNION ALL
SELECT book, gap_at, gap, 'unexplained' FROM trading.cash_seen WHERE gap <> 0;
COMMENT ON VIEW trading.external_cash IS 'Paid in or out, and cash whose change is unexplained as yet: equity seen later includes it, so profit and loss are measured without it';

CREATE TABLE trading.risk_day (
    book text NOT NULL,
    day date NOT NULL,
    currency text NOT NULL,
    start_equity numeric NOT NULL,              -- the last equity before the day began
    equity numeric NOT NULL,                    -- the newest of the day
    cash numeric NOT NULL,
    messages int NOT NULL DEFAULT 0 CHECK (messages >= 0),
    start_at timestamptz,                       -- when start_equity was seen: deposits after it are not profit
    seen_at timestamptz,                        -- when equity was seen
    PRIMARY KEY (book, day)
);
COMMENT ON TABLE trading.risk_day IS 'Equity of each book by risk day, in its currency: what the loss limits are measured against';
CREATE TRIGGER never_deleted BEFORE DELETE ON trading.risk_day FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.risk_day FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

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
COMMENT ON TABLE trading.risk_trip IS 'Each time a loss stopped a book: losses are measured from there on, and trading waits for `alphapivot resume`';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.risk_trip FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.risk_trip FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE TABLE trading.mark (
    mark_id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book        text        NOT NULL CHECK (book <> ''),
    as_of       timestamptz NOT NULL CHECK (isfinite(as_of)),
    run_id      text        NOT NULL,
    currency    text        NOT NULL,
    equity      numeric     NOT NULL CHECK (equity <> 'NaN' AND abs(equity) < 'Infinity'),
    cash        numeric     NOT NULL CHECK (cash <> 'NaN' AND abs(cash) < 'Infinity'),
    gross       numeric     CHECK (gross >= 0 AND gross < 'Infinity'),
    net         numeric     CHECK (abs(net) <= gross),
    open_trades int         CHECK (open_trades >= 0),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((gross IS NULL) = (net IS NULL))
);
CREATE INDEX mark_book ON trading.mark (book, as_of, mark_id);
COMMENT ON TABLE trading.mark IS 'Equity of a book at the end of a run, in its currency: the equity curve. Unchanged figures add no row; the newest row of an as_of counts';
COMMENT ON COLUMN trading.mark.gross IS 'Sum of |quantity x price| of the positions; NULL: a price or a rate was missing';
COMMENT ON COLUMN trading.mark.net IS 'The same with shorts negative';
COMMENT ON COLUMN trading.mark.open_trades IS 'Trades with a position; NULL: unknown, the row was made from a risk day';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.mark FOR EACH ROW EXECUTE FUNCTION trading.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.mark FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse();

CREATE TABLE trading.risk_part (
    book     text             NOT NULL CHECK (book <> ''),
    as_of    timestamptz      NOT NULL CHECK (isfinite(as_of)),
    name     text             NOT NULL CHECK (name <> ''),
    grouped  boolean          NOT NULL,
    alone    double precision NOT NULL CHECK (alone >= 0 AND alone < 'Infinity'),
    part     double precision NOT NULL CHECK (abs(part) < 'Infinity'),
    share    double precision NOT NULL CHECK (abs(share) < 'Infinity'),
    currency text             NOT NULL,
    equity   numeric          NOT NULL CHECK (equity <> 'NaN' AND abs(equity) < 'Infinity'),
    PRIMARY KEY (book, as_of, name, grouped)
);
COMMENT ON TABLE trading.risk_part IS 'What each instrument and group adds to the volatility that a book expects, by run; as `alphapivot risk` shows it';
COMMENT ON COLUMN trading.risk_part.name IS 'An instrument''s symbol, or a group''s name if grouped';
COMMENT ON COLUMN trading.risk_part.alone IS 'Its own volatility of a year, in the book''s currency';
COMMENT ON COLUMN trading.risk_part.part IS 'What it adds to the book''s; negative: it hedges. Those of the instruments sum to the whole';
COMMENT ON COLUMN trading.risk_part.share IS 'part / the book''s volatility';

-- The paper broker ----------------------------------------------------------------------------------------------------

CREATE TABLE paper.account (
    book text PRIMARY KEY,
    currency text NOT NULL,
    deposited numeric NOT NULL,
    cash numeric NOT NULL                       -- deposited + sum(fill.cash) - sum(fill.fee)
);
COMMENT ON TABLE paper.account IS 'Accounts of the paper broker: cash in the book''s currency';

CREATE TABLE paper.position (
    book text NOT NULL REFERENCES paper.account,
    symbol text NOT NULL,
    market text NOT NULL,
    contract text NOT NULL,
    qty numeric NOT NULL,                       -- signed
    avg_price numeric NOT NULL,
    mark numeric,                               -- last close
    fx numeric NOT NULL CHECK (fx > 0),         -- last known: book currency per unit of the instrument's
    seen_until timestamptz NOT NULL,            -- bars up to here are replayed
    PRIMARY KEY (book, symbol, market, contract)
);
COMMENT ON TABLE paper.position IS 'Positions at the paper broker, one per book and contract';

CREATE TABLE paper.orders (
    broker_order_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book text NOT NULL REFERENCES paper.account,
    client_order_id text NOT NULL,
    bracket text NOT NULL,                      -- client_order_id of the entry: its orders cancel each other
    leg text NOT NULL CHECK (leg IN ('ENTRY', 'STOP', 'TARGET', 'EXIT')),
    symbol text NOT NULL,
    market text NOT NULL,
    contract text NOT NULL,
    side text NOT NULL CHECK (side IN ('BUY', 'SELL')),
    qty numeric NOT NULL CHECK (qty > 0),
    price numeric,
    state text NOT NULL CHECK (state IN ('HELD', 'WORKING', 'FILLED', 'CANCELED', 'REPLACED')),
    reason text,
    active_from timestamptz NOT NULL,
    was numeric,                                -- its price until active_from, where it replaces an order
    triggered boolean NOT NULL DEFAULT false,   -- a stop that was reached and now exits at market
    UNIQUE (book, client_order_id)
);
COMMENT ON TABLE paper.orders IS 'Orders at the paper broker, filled by the bars that come after them';
CREATE INDEX paper_working ON paper.orders (book) WHERE state IN ('HELD', 'WORKING');

CREATE TABLE paper.fill (
    exec_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book text NOT NULL,
    client_order_id text NOT NULL,
    ts timestamptz NOT NULL,
    qty numeric NOT NULL CHECK (qty > 0),
    price numeric NOT NULL,
    fee numeric NOT NULL,
    cash numeric NOT NULL,
    FOREIGN KEY (book, client_order_id) REFERENCES paper.orders (book, client_order_id)
);
COMMENT ON TABLE paper.fill IS 'Executions of the paper broker; cash and fee in the book''s currency';
CREATE INDEX paper_fill_order ON paper.fill (book, client_order_id);
CREATE INDEX paper_fill_since ON paper.fill (book, ts);

CREATE TABLE paper.action (
    book text NOT NULL,
    symbol text NOT NULL,
    market text NOT NULL,
    contract text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('split', 'dividend', 'distribution', 'merger', 'delisting')),
    ts timestamptz NOT NULL,
    value numeric NOT NULL,
    before numeric NOT NULL,
    after numeric NOT NULL,
    cash numeric NOT NULL,
    PRIMARY KEY (book, symbol, market, contract, kind, ts)
);
COMMENT ON TABLE paper.action IS 'Splits and dividends that the paper broker booked, each once; cash in the book''s currency';
