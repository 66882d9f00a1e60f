-- Schema research: evaluations of scores, backtests, reports and searches over config.ini's keys.

CREATE SCHEMA research;

-- Evaluations ---------------------------------------------------------------------------------------------------------

-- Gates predict no direction: they are measured against how far prices moved, and how far against the composite's side.

CREATE TABLE research.evaluation (
    evaluation_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope         text        NOT NULL CHECK (scope <> ''),
    as_of         timestamptz NOT NULL,
    config_hash   text        NOT NULL,
    code_version  text        NOT NULL,
    made_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE research.evaluation IS 'One run of `alphapivot evaluate`: how well scores of a scope up to as_of predicted prices';

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
COMMENT ON TABLE research.evaluation_score IS 'How well each score predicted its outcome: by timeframe, horizon and slice';
COMMENT ON COLUMN research.evaluation_score.subject IS 'composite, a pillar (a gating one: its gate), or a part such as trend.stack';
COMMENT ON COLUMN research.evaluation_score.horizon IS 'Bars of the interval over which the outcome is measured';
COMMENT ON COLUMN research.evaluation_score.slice IS 'all, a symbol, or a year';
COMMENT ON COLUMN research.evaluation_score.ic IS 'Rank correlation of score and outcome within symbols; negative for a useful gate';
COMMENT ON COLUMN research.evaluation_score.t IS 't-statistic of ic, corrected for overlapping returns and for symbols that move together';
COMMENT ON COLUMN research.evaluation_score.outcome IS 'return; for gates: move, the size of the return, or against, the farthest move against the composite''s side in ATR';

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
COMMENT ON TABLE research.evaluation_decile IS 'Mean outcome by decile of each score';
COMMENT ON COLUMN research.evaluation_decile.mean_outcome IS 'return and move: as a share of the price; against: in ATR';

CREATE TABLE research.evaluation_correlation (
    evaluation_id bigint NOT NULL REFERENCES research.evaluation ON DELETE CASCADE,
    interval      text   NOT NULL,
    subject       text   NOT NULL,
    other         text   NOT NULL,
    correlation   double precision CHECK (correlation BETWEEN -1.000001 AND 1.000001),
    PRIMARY KEY (evaluation_id, interval, subject, other)
);
COMMENT ON TABLE research.evaluation_correlation IS 'Correlations between the scores of two pillars on one timeframe';

CREATE TABLE research.weight_fit (
    fit_id       bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope        text             NOT NULL CHECK (scope <> ''),
    as_of        timestamptz      NOT NULL,
    config_hash  text             NOT NULL,
    code_version text             NOT NULL,
    gap          double precision NOT NULL CHECK (gap > '-Infinity' AND gap < 'Infinity'),
    low          double precision NOT NULL CHECK (low > '-Infinity' AND low < 'Infinity'),
    high         double precision NOT NULL CHECK (high > '-Infinity' AND high < 'Infinity'),
    made_at      timestamptz      NOT NULL DEFAULT clock_timestamp(),
    kind         text             NOT NULL DEFAULT 'pillars' CHECK (kind IN ('pillars', 'instruments'))
);
COMMENT ON TABLE research.weight_fit IS 'One run of `alphapivot fit weights`: weights from the scores of a scope up to as_of';
COMMENT ON COLUMN research.weight_fit.kind IS 'Whose weights: [composite] weights of pillars, or [sizing] weights of instruments';
COMMENT ON COLUMN research.weight_fit.gap IS 'Sharpe ratio out of sample of the fitted weights less that of equal ones; low to high in nine of ten samples drawn again';

CREATE TABLE research.weight_fit_weight (
    fit_id    bigint           NOT NULL REFERENCES research.weight_fit ON DELETE CASCADE,
    fitted_at timestamptz      NOT NULL,
    name      text             NOT NULL CHECK (name <> ''),
    weight    double precision NOT NULL CHECK (weight BETWEEN 0 AND 1),
    PRIMARY KEY (fit_id, fitted_at, name)
);
COMMENT ON TABLE research.weight_fit_weight IS 'Weights by the day whose result was the last that they know';

-- Backtests -----------------------------------------------------------------------------------------------------------

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
    engine       text        CONSTRAINT backtest_engine CHECK (engine IN ('kernel', 'memory', 'live')),
    audited      integer     CONSTRAINT backtest_audited CHECK (audited >= 0),
    CHECK (since < until)
);
COMMENT ON TABLE research.backtest IS 'One backtest: its period and result; its decisions, orders and fills are in schema trading under its book';
COMMENT ON COLUMN research.backtest.book IS 'Its book in schema trading, and the scope of its scores in schema signals; trials of a search share scores, under the scope in ops.run';
COMMENT ON COLUMN research.backtest.begins IS 'First instant that counts: no score is known before it';
COMMENT ON COLUMN research.backtest.done_until IS 'Traded and committed up to here; an interrupted backtest continues after it';
COMMENT ON COLUMN research.backtest.instants IS 'Number of instants at which it decided';
COMMENT ON COLUMN research.backtest.engine IS 'kernel: the engine decided and filled where the compiled kernel saw something happen; memory: it did at every instant, without the database; live: with it';
COMMENT ON COLUMN research.backtest.audited IS 'Number of instants that the trading engine traded again, with the same result';
COMMENT ON COLUMN research.backtest.net_return IS 'end_equity / start_equity - 1, after all costs';
COMMENT ON COLUMN research.backtest.max_drawdown IS 'The largest fall from a peak of equity, as a share of the peak';
COMMENT ON COLUMN research.backtest.digest IS 'Digest of decisions, orders, fills, trades and equity, without ids and wall-clock times: equal inputs, equal digest';
COMMENT ON COLUMN research.backtest.seconds IS 'Seconds by stage';

CREATE TABLE research.backtest_warning (
    run_id  text    NOT NULL REFERENCES research.backtest ON DELETE CASCADE,
    number  integer NOT NULL,
    code    text    NOT NULL,
    symbol  text,
    message text    NOT NULL,
    PRIMARY KEY (run_id, number)
);
COMMENT ON TABLE research.backtest_warning IS 'Caveats of a backtest''s result: survivorship, data, warm-up, halts';

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
COMMENT ON TABLE research.report IS 'Performance of a book up to an instant, by `alphapivot report`; identical numbers are stored once';
COMMENT ON COLUMN research.report.report_id IS 'Identity of the report';
COMMENT ON COLUMN research.report.book IS 'The account, or a backtest''s own';
COMMENT ON COLUMN research.report.since IS 'The first mark';
COMMENT ON COLUMN research.report.until IS 'The last mark';
COMMENT ON COLUMN research.report.currency IS 'Currency of the book and of all money in the report';
COMMENT ON COLUMN research.report.config_hash IS 'Config of the newest run that decided; NULL: none';
COMMENT ON COLUMN research.report.code_version IS 'Code of the same run';
COMMENT ON COLUMN research.report.warnings IS 'Caveats';
COMMENT ON COLUMN research.report.digest IS 'Digest of all its numbers';
COMMENT ON COLUMN research.report.made_at IS 'When it was first computed';

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
COMMENT ON COLUMN research.report_figure.report_id IS 'The report: research.report';
COMMENT ON COLUMN research.report_figure.name IS 'Such as sharpe';
COMMENT ON COLUMN research.report_figure.label IS 'As the page shows it';
COMMENT ON COLUMN research.report_figure.form IS 'money: in the book''s currency; share: 0.01 is one percent; r: multiples of what was risked';
COMMENT ON COLUMN research.report_figure.value IS 'NULL: unknown';
COMMENT ON COLUMN research.report_figure.definition IS 'How it is computed, and by whose definition';

CREATE TABLE research.report_month (
    report_id bigint NOT NULL REFERENCES research.report ON DELETE CASCADE,
    month     date   NOT NULL,
    value     double precision NOT NULL CHECK (value >= -1 AND value < 'Infinity'),
    PRIMARY KEY (report_id, month)
);
COMMENT ON TABLE research.report_month IS 'Returns by month';
COMMENT ON COLUMN research.report_month.report_id IS 'The report: research.report';
COMMENT ON COLUMN research.report_month.month IS 'First day of the month';
COMMENT ON COLUMN research.report_month.value IS 'Compounded return, deposits excluded';

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
COMMENT ON TABLE research.report_trade IS 'Every trade of a report that entered';
COMMENT ON COLUMN research.report_trade.report_id IS 'The report: research.report';
COMMENT ON COLUMN research.report_trade.trade_id IS 'api.closed_trades, api.open_trades';
COMMENT ON COLUMN research.report_trade.result IS 'After costs, book currency; an open trade at its last price';
COMMENT ON COLUMN research.report_trade.r IS 'result / amount risked; NULL: nothing was risked';
COMMENT ON COLUMN research.report_trade.mae IS 'Maximum adverse excursion, in R';
COMMENT ON COLUMN research.report_trade.mfe IS 'Maximum favourable excursion, in R';
COMMENT ON COLUMN research.report_trade.days_held IS 'Calendar days from entry to exit, or to the report''s end';
COMMENT ON COLUMN research.report_trade.closed IS 'True if the trade is closed';

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
COMMENT ON TABLE research.report_contribution IS 'Contribution of each pillar, symbol and side; the results of a kind sum to those of all trades';
COMMENT ON COLUMN research.report_contribution.report_id IS 'The report: research.report';
COMMENT ON COLUMN research.report_contribution.kind IS 'pillar, symbol or side';
COMMENT ON COLUMN research.report_contribution.name IS 'Such as trend, SP500 or LONG; unknown: trades whose decision has no terms';
COMMENT ON COLUMN research.report_contribution.result IS 'After costs; of a pillar: its share of the score at entry times the trade''s result';
COMMENT ON COLUMN research.report_contribution.won IS 'Sum of the positive results';
COMMENT ON COLUMN research.report_contribution.lost IS 'Sum of the negative results';
COMMENT ON COLUMN research.report_contribution.trades IS 'Number of trades it took part in';

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
COMMENT ON TABLE research.report_cost IS 'Trading costs by symbol, in the book''s currency';
COMMENT ON COLUMN research.report_cost.report_id IS 'The report: research.report';
COMMENT ON COLUMN research.report_cost.symbol IS 'The underlying';
COMMENT ON COLUMN research.report_cost.commission IS 'Fees';
COMMENT ON COLUMN research.report_cost.slippage IS 'From the open that filled, or the order''s own price, to the fill price; negative: better';
COMMENT ON COLUMN research.report_cost.delay IS 'From the close of the decision to that open; negative: better';
COMMENT ON COLUMN research.report_cost.notional IS 'Sum of |price x quantity|';
COMMENT ON COLUMN research.report_cost.fills IS 'Number of executions';

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
    judged_at     timestamptz,
    shifted       double precision[],
    shifted_trial integer,
    guided        boolean NOT NULL DEFAULT false
);
COMMENT ON COLUMN research.tune.guided IS 'Trials were proposed from the results so far; trial n is that of fold n modulo (folds + 1), counted from 0, the last of the whole period';
COMMENT ON COLUMN research.tune.shifted IS 'Sharpe ratios of shifted_trial with its scores shifted in time: NULL where it did not trade';
COMMENT ON TABLE research.tune IS 'One search by `alphapivot tune`, and its latest verdict';
COMMENT ON COLUMN research.tune.known_at IS 'All trials read the hub as of this instant, also those after an interruption';

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
COMMENT ON TABLE research.tune_trial IS 'One config that a search tried, and its result over the whole period';
COMMENT ON COLUMN research.tune_trial.values IS 'Values of the keys, as in config.ini';
COMMENT ON COLUMN research.tune_trial.held IS 'Days within which 95 % of the trades closed';
COMMENT ON COLUMN research.tune_trial.returns IS 'Daily returns of equity';

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
COMMENT ON TABLE research.tune_fold IS 'One fold of the walk-forward: the best trial of training, and its objective in training and test';
