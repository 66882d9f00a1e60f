-- Schema research: evaluations of scores, backtests, reports and searches over config.ini's keys.

CREATE SCHEMA research;

-- Evaluations: how well each pillar, part, timeframe and the composite foretold what prices did next ------------------

-- Gates foretell no direction: they are measured against how far prices moved, and how far against the composite's side.

CREATE TABLE research.evaluation (
    evaluation_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope         text        NOT NULL CHECK (scope <> ''),
    as_of         timestamptz NOT NULL,
    config_hash   text        NOT NULL,
    code_version  text        NOT NULL,
    made_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE research.evaluation IS 'One run of `alphapivot evaluate` over the scores of a scope up to as_of';

CREATE TABLE research.evaluation_score (
    evaluation_id   bigint  NOT NULL REFERENCES research.evaluation ON DELETE CASCADE,
    subject         text    NOT NULL CHECK (subject <> ''),
    interval        text    NOT NULL,
    horizon         integer NOT NULL CHECK (horizon > 0),
    slice           text    NOT NULL,
    observations    bigint  NOT NULL,
    ic              double precision CHECK (ic BETWEEN -1 AND 1),
    t               double precision CHECK (t < 'Infinity' AND t > '-Infinity'),
    hit_rate        double precision CHECK (hit_rate BETWEEN 0 AND 1),
    turnover        double precision CHECK (turnover >= 0 AND turnover < 'Infinity'),
    autocorrelation double precision CHECK (autocorrelation BETWEEN -1.000001 AND 1.000001),
    outcome         text    NOT NULL DEFAULT 'return' CHECK (outcome IN ('return', 'move', 'against')),
    PRIMARY KEY (evaluation_id, subject, outcome, interval, horizon, slice)
);
COMMENT ON COLUMN research.evaluation_score.horizon IS 'Bars of the interval over which the following return is taken';
COMMENT ON COLUMN research.evaluation_score.slice IS 'all, a symbol, or a year';
COMMENT ON COLUMN research.evaluation_score.t IS 'Of ic, corrected for overlapping returns and for symbols that move together';
COMMENT ON COLUMN research.evaluation_score.subject IS 'composite, a pillar (a gating one: its gate), or a part as trend.stack';
COMMENT ON COLUMN research.evaluation_score.outcome IS
    'What followed: the return; or, for gates, its size (move), and the farthest way against the composite''s side in ATR';
COMMENT ON COLUMN research.evaluation_score.ic IS
    'Rank correlation of score and outcome within symbols; of a gate that is worth something it is negative';

CREATE TABLE research.evaluation_decile (
    evaluation_id bigint   NOT NULL REFERENCES research.evaluation ON DELETE CASCADE,
    subject       text     NOT NULL,
    interval      text     NOT NULL,
    horizon       integer  NOT NULL,
    decile        smallint NOT NULL CHECK (decile BETWEEN 1 AND 10),
    observations  bigint   NOT NULL,
    mean_score    double precision CHECK (mean_score BETWEEN -100 AND 100),
    mean_outcome  double precision CHECK (mean_outcome < 'Infinity' AND mean_outcome > '-Infinity'),
    hit_rate      double precision CHECK (hit_rate BETWEEN 0 AND 1),
    outcome       text     NOT NULL DEFAULT 'return' CHECK (outcome IN ('return', 'move', 'against')),
    PRIMARY KEY (evaluation_id, subject, outcome, interval, horizon, decile)
);
COMMENT ON COLUMN research.evaluation_decile.mean_outcome IS 'Return or its size as a share of the price; against: ATR';

CREATE TABLE research.evaluation_correlation (
    evaluation_id bigint NOT NULL REFERENCES research.evaluation ON DELETE CASCADE,
    interval      text   NOT NULL,
    subject       text   NOT NULL,
    other         text   NOT NULL,
    correlation   double precision CHECK (correlation BETWEEN -1.000001 AND 1.000001),
    PRIMARY KEY (evaluation_id, interval, subject, other)
);

-- Backtests -----------------------------------------------------------------------------------------------------------

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
COMMENT ON COLUMN research.backtest.book IS 'In trading.*; also the scope of its scores in signals.*, but for the trials of a search, which share theirs: ops.run names it';
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

-- Reports -------------------------------------------------------------------------------------------------------------

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

-- Searches ------------------------------------------------------------------------------------------------------------

CREATE TABLE research.tune (
    tune_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    question_hash text        NOT NULL UNIQUE,
    config        jsonb       NOT NULL,
    config_hash   text        NOT NULL,
    code_version  text        NOT NULL,
    keys          text[]      NOT NULL,
    since         timestamptz NOT NULL,
    until         timestamptz NOT NULL CHECK (until > since),
    known_at      timestamptz NOT NULL,
    seed          bigint      NOT NULL,
    engine        text        NOT NULL CHECK (engine IN ('core', 'full')),
    trials        integer     NOT NULL CHECK (trials > 0),
    made_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    objective     text,
    walk_forward  text,
    folds         integer,
    embargo       integer,
    purge         integer,
    best          integer,
    deflated      double precision CHECK (deflated BETWEEN 0 AND 1),
    overfit       double precision CHECK (overfit BETWEEN 0 AND 1),
    inside        double precision CHECK (inside < 'Infinity' AND inside > '-Infinity'),
    outside       double precision CHECK (outside < 'Infinity' AND outside > '-Infinity'),
    verdict       text,
    judged_at     timestamptz
);
COMMENT ON TABLE research.tune IS 'One question to `alphapivot tune`, and how it was judged last';
COMMENT ON COLUMN research.tune.known_at IS 'All trials read the hub as it was then, also those after an interruption';

CREATE TABLE research.tune_trial (
    tune_id     bigint  NOT NULL REFERENCES research.tune ON DELETE CASCADE,
    trial       integer NOT NULL CHECK (trial >= 0),
    values      jsonb   NOT NULL,
    config_hash text    NOT NULL,
    sharpe      double precision CHECK (sharpe < 'Infinity' AND sharpe > '-Infinity'),
    growth      double precision CHECK (growth < 'Infinity' AND growth > '-Infinity'),
    drawdown    double precision NOT NULL CHECK (drawdown BETWEEN 0 AND 1e9),
    trades      integer NOT NULL CHECK (trades >= 0),
    held        integer NOT NULL CHECK (held >= 0),
    halted_at   timestamptz,
    returns     double precision[] NOT NULL,
    days        date[]  NOT NULL,
    PRIMARY KEY (tune_id, trial)
);
COMMENT ON COLUMN research.tune_trial.values IS 'The keys as config.ini writes them';
COMMENT ON COLUMN research.tune_trial.held IS 'Days within which 95 % of the trades were over';
COMMENT ON COLUMN research.tune_trial.returns IS 'Of the equity, from day to day';

CREATE TABLE research.tune_fold (
    tune_id    bigint  NOT NULL REFERENCES research.tune ON DELETE CASCADE,
    fold       integer NOT NULL CHECK (fold > 0),
    train_from date    NOT NULL,
    train_to   date    NOT NULL,
    test_from  date    NOT NULL,
    test_to    date    NOT NULL,
    trial      integer NOT NULL,
    inside     double precision,
    outside    double precision,
    PRIMARY KEY (tune_id, fold),
    FOREIGN KEY (tune_id, trial) REFERENCES research.tune_trial ON DELETE CASCADE,
    CHECK (train_from < train_to AND train_to < test_from AND test_from <= test_to)
);
