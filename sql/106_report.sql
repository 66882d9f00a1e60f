-- The numbers of a book's report as tables: what the page draws, for whoever would rather query.

-- Books from before trading.mark: what they were worth before their first day, on which their returns begin.
INSERT INTO trading.mark (book, as_of, run_id, currency, equity, cash)
SELECT DISTINCT ON (r.book) r.book, (r.day - 1)::timestamp AT TIME ZONE 'UTC', 'risk_day', r.currency, r.start_equity, r.start_equity
FROM trading.risk_day r
WHERE EXISTS (SELECT FROM trading.mark m WHERE m.book = r.book AND m.run_id = 'risk_day')
ORDER BY r.book, r.day;

CREATE TABLE research.report (
    report_id    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    book         text        NOT NULL CHECK (book <> ''),
    since        timestamptz NOT NULL,
    until        timestamptz NOT NULL,
    currency     text        NOT NULL,
    config_hash  text,
    code_version text,
    warnings     text[]      NOT NULL,
    digest       text        NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (book, digest),
    CHECK (since <= until)
);
COMMENT ON TABLE research.report IS 'How a book did up to an instant, as `alphapivot report` found it; the same numbers again are not kept twice';
COMMENT ON COLUMN research.report.report_id IS 'Its number';
COMMENT ON COLUMN research.report.book IS 'The account, or a backtest''s own';
COMMENT ON COLUMN research.report.since IS 'The first mark';
COMMENT ON COLUMN research.report.until IS 'The last mark';
COMMENT ON COLUMN research.report.currency IS 'Of the book: all money of the report is in it';
COMMENT ON COLUMN research.report.config_hash IS 'Of the newest run that decided; NULL: none did';
COMMENT ON COLUMN research.report.code_version IS 'Of the same run';
COMMENT ON COLUMN research.report.warnings IS 'What to know before believing it';
COMMENT ON COLUMN research.report.digest IS 'Of all its numbers';
COMMENT ON COLUMN research.report.made_at IS 'When it was found first';

CREATE TABLE research.report_figure (
    report_id  bigint  NOT NULL REFERENCES research.report ON DELETE CASCADE,
    name       text    NOT NULL,
    label      text    NOT NULL,
    form       text    NOT NULL CHECK (form IN ('money', 'share', 'ratio', 'days', 'count', 'r')),
    value      double precision CHECK (value < 'Infinity' AND value > '-Infinity'),
    definition text    NOT NULL,
    PRIMARY KEY (report_id, name)
);
COMMENT ON TABLE research.report_figure IS 'Every figure of a report';
COMMENT ON COLUMN research.report_figure.report_id IS 'Its report';
COMMENT ON COLUMN research.report_figure.name IS 'Such as sharpe';
COMMENT ON COLUMN research.report_figure.label IS 'As the page has it';
COMMENT ON COLUMN research.report_figure.form IS 'money: in the book''s currency; share: 0.01 is one percent; r: multiples of what was risked';
COMMENT ON COLUMN research.report_figure.value IS 'NULL: it cannot be known';
COMMENT ON COLUMN research.report_figure.definition IS 'How it is reckoned, and whose definition that is';

CREATE TABLE research.report_month (
    report_id bigint NOT NULL REFERENCES research.report ON DELETE CASCADE,
    month     date   NOT NULL,
    value     double precision NOT NULL CHECK (value >= -1 AND value < 'Infinity'),
    PRIMARY KEY (report_id, month)
);
COMMENT ON TABLE research.report_month IS 'Returns by month';
COMMENT ON COLUMN research.report_month.report_id IS 'Its report';
COMMENT ON COLUMN research.report_month.month IS 'Its first day';
COMMENT ON COLUMN research.report_month.value IS 'Compounded return, deposits left out';

CREATE TABLE research.report_trade (
    report_id bigint  NOT NULL REFERENCES research.report ON DELETE CASCADE,
    trade_id  bigint  NOT NULL,
    result    numeric NOT NULL,
    r         double precision CHECK (r < 'Infinity' AND r > '-Infinity'),
    mae       double precision CHECK (mae >= 0 AND mae < 'Infinity'),
    mfe       double precision CHECK (mfe >= 0 AND mfe < 'Infinity'),
    days_held double precision NOT NULL CHECK (days_held < 'Infinity' AND days_held > '-Infinity'),
    closed    boolean NOT NULL,
    PRIMARY KEY (report_id, trade_id)
);
COMMENT ON TABLE research.report_trade IS 'Every trade that entered';
COMMENT ON COLUMN research.report_trade.report_id IS 'Its report';
COMMENT ON COLUMN research.report_trade.trade_id IS 'api.closed_trades, api.open_trades';
COMMENT ON COLUMN research.report_trade.result IS 'After costs; of an open one at its last price';
COMMENT ON COLUMN research.report_trade.r IS 'result over what was risked; NULL: nothing was';
COMMENT ON COLUMN research.report_trade.mae IS 'Maximum adverse excursion, in R';
COMMENT ON COLUMN research.report_trade.mfe IS 'Maximum favourable excursion, in R';
COMMENT ON COLUMN research.report_trade.days_held IS 'Calendar days from entry to exit, or to the report''s end';
COMMENT ON COLUMN research.report_trade.closed IS 'Has it left?';

CREATE TABLE research.report_contribution (
    report_id bigint  NOT NULL REFERENCES research.report ON DELETE CASCADE,
    kind      text    NOT NULL CHECK (kind IN ('pillar', 'symbol', 'side')),
    name      text    NOT NULL,
    result    numeric NOT NULL,
    won       numeric NOT NULL CHECK (won >= 0),
    lost      numeric NOT NULL CHECK (lost <= 0),
    trades    integer NOT NULL CHECK (trades > 0),
    PRIMARY KEY (report_id, kind, name)
);
COMMENT ON TABLE research.report_contribution IS 'What each pillar, symbol and side brought: the results of a kind sum to those of all trades';
COMMENT ON COLUMN research.report_contribution.report_id IS 'Its report';
COMMENT ON COLUMN research.report_contribution.kind IS 'pillar, symbol or side';
COMMENT ON COLUMN research.report_contribution.name IS 'Such as trend, SP500 or LONG; unknown: trades whose decision kept no votes';
COMMENT ON COLUMN research.report_contribution.result IS 'After costs; a pillar''s: its share of the score at the entry times what the trade brought';
COMMENT ON COLUMN research.report_contribution.won IS 'Sum of what is positive';
COMMENT ON COLUMN research.report_contribution.lost IS 'Sum of what is negative';
COMMENT ON COLUMN research.report_contribution.trades IS 'How many trades it had a part in';

CREATE TABLE research.report_cost (
    report_id  bigint  NOT NULL REFERENCES research.report ON DELETE CASCADE,
    symbol     text    NOT NULL,
    commission numeric NOT NULL,
    slippage   numeric NOT NULL,
    delay      numeric NOT NULL,
    notional   numeric NOT NULL,
    fills      integer NOT NULL CHECK (fills > 0),
    PRIMARY KEY (report_id, symbol)
);
COMMENT ON TABLE research.report_cost IS 'What trading each symbol cost';
COMMENT ON COLUMN research.report_cost.report_id IS 'Its report';
COMMENT ON COLUMN research.report_cost.symbol IS 'The underlying';
COMMENT ON COLUMN research.report_cost.commission IS 'Fees';
COMMENT ON COLUMN research.report_cost.slippage IS 'From the open that filled, or an order''s own price, to the price; negative: better';
COMMENT ON COLUMN research.report_cost.delay IS 'From the close that was decided on to that open; negative: better';
COMMENT ON COLUMN research.report_cost.notional IS 'Sum of |price x quantity|';
COMMENT ON COLUMN research.report_cost.fills IS 'Executions';
