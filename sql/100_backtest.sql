-- Backtests: what was asked, how far it has come, what came of it. Its decisions, orders and fills stand in schema trading
-- under its book, its scores in schema signals under the same name as scope; config and code version in ops.run.

CREATE TABLE research.backtest (
    run_id       text        PRIMARY KEY REFERENCES ops.run,
    book         text        NOT NULL UNIQUE CHECK (book LIKE 'bt-%'),
    since        timestamptz NOT NULL,
    until        timestamptz NOT NULL,
    begins       timestamptz,
    done_until   timestamptz,
    instants     integer     NOT NULL DEFAULT 0 CHECK (instants >= 0),
    currency     text,
    trades       integer,
    start_equity numeric,
    end_equity   numeric,
    net_return   double precision CHECK (net_return > '-Infinity' AND net_return < 'Infinity'),
    max_drawdown double precision CHECK (max_drawdown BETWEEN 0 AND 1000),
    digest       text,
    seconds      jsonb       NOT NULL DEFAULT '{}',
    made_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (since < until)
);
COMMENT ON TABLE research.backtest IS 'What each backtest was asked and what came of it; the rest stands under its book';
COMMENT ON COLUMN research.backtest.book IS 'In trading.*; also the scope of its scores in signals.*';
COMMENT ON COLUMN research.backtest.begins IS 'The first instant that counts: before it no score is known';
COMMENT ON COLUMN research.backtest.done_until IS 'Traded and committed up to here: a killed backtest goes on after it';
COMMENT ON COLUMN research.backtest.instants IS 'How often it decided';
COMMENT ON COLUMN research.backtest.net_return IS 'end_equity / start_equity - 1, after all costs';
COMMENT ON COLUMN research.backtest.max_drawdown IS 'The largest fall from a peak of equity, as a share of the peak';
COMMENT ON COLUMN research.backtest.digest IS 'Of decisions, orders, fills, trades and equity, without ids and wall-clock times: equal inputs, equal digest';
COMMENT ON COLUMN research.backtest.seconds IS 'Time by stage';

CREATE TABLE research.backtest_warning (
    run_id  text    NOT NULL REFERENCES research.backtest ON DELETE CASCADE,
    number  integer NOT NULL,
    code    text    NOT NULL,
    symbol  text,
    message text    NOT NULL,
    PRIMARY KEY (run_id, number)
);
COMMENT ON TABLE research.backtest_warning IS 'What a reader of a backtest must know before believing it: survivorship, data, warm-up, halts';
