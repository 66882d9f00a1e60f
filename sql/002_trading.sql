-- Orders and money. Nothing here is ever deleted; history is append-only; every state change of an order is kept.
-- `paper` below is the paper broker's own memory: it plays the remote system, so it shares no transaction and no key with `trading`.

CREATE SCHEMA trading;
CREATE SCHEMA paper;

CREATE FUNCTION trading.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% keeps its rows as they are: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TABLE trading.decision (
    decision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book text NOT NULL,
    strategy text NOT NULL,
    symbol text NOT NULL,
    as_of timestamptz NOT NULL,
    batch_id bigint,                            -- the composite's version; null where there was no composite
    run_id text NOT NULL,
    action text NOT NULL CHECK (action IN ('ENTER_LONG', 'ENTER_SHORT', 'HOLD', 'EXIT', 'NONE', 'DENIED')),
    reasons text[] NOT NULL,
    gates jsonb NOT NULL,                       -- every gate that was asked: {name: {passed, value, limit}}
    score_ts timestamptz,
    score real,
    raw real,
    gate real,
    veto text,
    terms jsonb,                                -- the composite's parts, as the caller computed them
    bars jsonb NOT NULL,                        -- which bars, by key and version
    plan jsonb,                                 -- quantity, prices, distance, what capped it
    decided_at timestamptz NOT NULL,
    UNIQUE NULLS NOT DISTINCT (book, strategy, symbol, as_of, batch_id),
    CHECK (action <> 'DENIED' OR cardinality(reasons) > 0),
    CHECK (score BETWEEN -100 AND 100),         -- NaN sorts above every number, so it fails here too
    CHECK (raw BETWEEN -100 AND 100),
    CHECK (gate BETWEEN 0 AND 1)
);
CREATE INDEX ON trading.decision (book, as_of);

CREATE TABLE trading.intent (
    intent_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    decision_id bigint NOT NULL REFERENCES trading.decision,
    book text NOT NULL,
    strategy text NOT NULL,
    symbol text NOT NULL,
    as_of timestamptz NOT NULL,
    action text NOT NULL CHECK (action IN ('ENTER_LONG', 'ENTER_SHORT', 'EXIT')),
    score real CHECK (score BETWEEN -100 AND 100),
    created_at timestamptz NOT NULL,
    UNIQUE (book, strategy, symbol, as_of, action),
    CHECK (action = 'EXIT' OR score IS NOT NULL)
);

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
    reference numeric NOT NULL,                 -- the close on which the decision stood
    stop numeric NOT NULL,
    target numeric NOT NULL,
    currency text NOT NULL,
    multiplier numeric NOT NULL CHECK (multiplier > 0),
    quote_unit numeric NOT NULL CHECK (quote_unit > 0),
    entry_qty numeric NOT NULL DEFAULT 0 CHECK (entry_qty BETWEEN 0 AND qty),
    entry_price numeric,
    entry_at timestamptz,
    exit_qty numeric NOT NULL DEFAULT 0,
    exit_price numeric,
    exit_at timestamptz,
    realised numeric,                           -- book currency, after fees; when closed
    fees numeric NOT NULL DEFAULT 0,
    close_reason text,
    created_at timestamptz NOT NULL,
    CHECK (exit_qty BETWEEN 0 AND entry_qty),
    CHECK ((side = 'LONG' AND stop < target) OR (side = 'SHORT' AND stop > target)),
    CHECK ((state = 'CLOSED') = (close_reason IS NOT NULL)),
    CHECK (state <> 'CLOSED' OR exit_qty = entry_qty)
);
CREATE UNIQUE INDEX trade_one_open ON trading.trade (book, strategy, symbol) WHERE state <> 'CLOSED';

CREATE TABLE trading.lease (
    book text PRIMARY KEY,
    fence bigint NOT NULL
);

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

CREATE FUNCTION trading.is_terminal(state text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
    $$ SELECT state IN ('FILLED', 'CANCELED', 'REPLACED', 'REJECTED', 'EXPIRED', 'DENIED', 'ABANDONED') $$;

CREATE UNIQUE INDEX orders_one_working ON trading.orders (trade_id, leg) WHERE NOT trading.is_terminal(state);
CREATE INDEX orders_working ON trading.orders (book) WHERE NOT trading.is_terminal(state);

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
CREATE INDEX ON trading.order_event (client_order_id);

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
    IF trading.is_terminal(OLD.state) AND NEW.state <> OLD.state THEN
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

CREATE FUNCTION trading.record_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
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
    exec_id text NOT NULL,                      -- the broker's: a fill that arrives twice counts once
    client_order_id text NOT NULL REFERENCES trading.orders,
    symbol text NOT NULL,
    market text NOT NULL,
    contract text NOT NULL,
    side text NOT NULL CHECK (side IN ('BUY', 'SELL')),
    qty numeric NOT NULL CHECK (qty > 0),
    price numeric NOT NULL,
    fee numeric NOT NULL,                       -- book currency
    cash numeric NOT NULL,                      -- change of cash before the fee, book currency: cost for spot, realised P&L for futures
    ts timestamptz NOT NULL,                    -- complete time of the bar that filled it, or the broker's own
    PRIMARY KEY (book, exec_id)
);
CREATE INDEX ON trading.fill (client_order_id);

CREATE TABLE trading.journal (
    journal_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    book text NOT NULL,
    run_id text NOT NULL,
    as_of timestamptz NOT NULL,
    kind text NOT NULL,                         -- such as sent, filled, closed, expired, locked
    symbol text,
    client_order_id text,
    message text NOT NULL                       -- one sentence for a person
);
CREATE INDEX ON trading.journal (book, as_of);

CREATE TABLE trading.control (
    control_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope text NOT NULL,                        -- a book, or * for all; the newest row counts
    state text NOT NULL CHECK (state IN ('ACTIVE', 'REDUCE_ONLY', 'HALTED')),
    reason text NOT NULL CHECK (reason <> ''),
    by text NOT NULL CHECK (by <> ''),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON trading.control (scope, control_id);

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
CREATE UNIQUE INDEX instrument_lock_one ON trading.instrument_lock (book, symbol) WHERE cleared_at IS NULL;

CREATE TABLE trading.risk_day (
    book text NOT NULL,
    day date NOT NULL,
    currency text NOT NULL,
    start_equity numeric NOT NULL,              -- the last equity seen before the day began
    equity numeric NOT NULL,                    -- the last seen
    cash numeric NOT NULL,
    messages int NOT NULL DEFAULT 0 CHECK (messages >= 0),
    PRIMARY KEY (book, day)
);

CREATE TABLE trading.book_cash (
    book text NOT NULL,
    at timestamptz NOT NULL,
    amount numeric NOT NULL CHECK (amount <> 0), -- a withdrawal is negative
    note text NOT NULL,
    PRIMARY KEY (book, at)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['decision', 'intent', 'order_event', 'fill', 'journal', 'control', 'book_cash'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON trading.%I FOR EACH ROW EXECUTE FUNCTION trading.refuse()', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['trade', 'orders', 'lease', 'instrument_lock', 'risk_day'] LOOP
        EXECUTE format('CREATE TRIGGER never_deleted BEFORE DELETE ON trading.%I FOR EACH ROW EXECUTE FUNCTION trading.refuse()', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['decision', 'intent', 'trade', 'orders', 'order_event', 'fill', 'journal', 'control', 'book_cash',
                                'lease', 'instrument_lock', 'risk_day'] LOOP
        EXECUTE format('CREATE TRIGGER never_emptied BEFORE TRUNCATE ON trading.%I FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse()', name);
    END LOOP;
END $$;

-- The paper broker ---------------------------------------------------------------------------------------------------

CREATE TABLE paper.account (
    book text PRIMARY KEY,
    currency text NOT NULL,
    deposited numeric NOT NULL,
    cash numeric NOT NULL                       -- deposited + sum(fill.cash) - sum(fill.fee)
);

CREATE TABLE paper.position (
    book text NOT NULL REFERENCES paper.account,
    symbol text NOT NULL,
    market text NOT NULL,
    contract text NOT NULL,
    qty numeric NOT NULL,                       -- signed
    avg_price numeric NOT NULL,
    mark numeric,                               -- last close seen
    fx numeric NOT NULL CHECK (fx > 0),         -- last known: book currency for one unit of the instrument's
    seen_until timestamptz NOT NULL,            -- bars up to here were replayed
    PRIMARY KEY (book, symbol, market, contract)
);

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
    state text NOT NULL CHECK (state IN ('HELD', 'WORKING', 'FILLED', 'CANCELED')),
    reason text,
    active_from timestamptz NOT NULL,
    UNIQUE (book, client_order_id)
);
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
    FOREIGN KEY (book, client_order_id) REFERENCES paper.orders (book, client_order_id),
    UNIQUE (book, client_order_id)              -- the paper broker fills an order whole or not at all
);
CREATE INDEX paper_fill_since ON paper.fill (book, ts);
