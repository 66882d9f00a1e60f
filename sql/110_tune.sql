-- Searches over config.ini's keys: what each trial was and made, and what of it held out of sample.

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

CREATE VIEW api.tune_searches AS
SELECT t.tune_id, t.made_at, t.keys, t.since, t.until, t.engine, t.trials,
       (SELECT count(*) FROM research.tune_trial r WHERE r.tune_id = t.tune_id) AS done,
       t.objective, t.walk_forward, t.folds, t.best, t.inside, t.outside, t.deflated, t.overfit, t.verdict, t.judged_at
FROM research.tune t;
COMMENT ON VIEW api.tune_searches IS 'Searches of `alphapivot tune`, and whether they can be believed';
COMMENT ON COLUMN api.tune_searches.tune_id IS 'Identity of the search';
COMMENT ON COLUMN api.tune_searches.made_at IS 'When it was asked first';
COMMENT ON COLUMN api.tune_searches.keys IS 'What was tried, as --set says it';
COMMENT ON COLUMN api.tune_searches.since IS 'Begin of the period';
COMMENT ON COLUMN api.tune_searches.until IS 'End of the period';
COMMENT ON COLUMN api.tune_searches.engine IS 'core: the screening engine; full: alphapivot backtest';
COMMENT ON COLUMN api.tune_searches.trials IS 'How many configs are tried';
COMMENT ON COLUMN api.tune_searches.done IS 'How many of them are done';
COMMENT ON COLUMN api.tune_searches.objective IS 'What was maximised';
COMMENT ON COLUMN api.tune_searches.walk_forward IS 'anchored or rolling';
COMMENT ON COLUMN api.tune_searches.folds IS 'Folds of the walk-forward';
COMMENT ON COLUMN api.tune_searches.best IS 'The trial that is best over the whole period';
COMMENT ON COLUMN api.tune_searches.inside IS 'Mean objective of the chosen trials in sample';
COMMENT ON COLUMN api.tune_searches.outside IS 'Objective of the chosen trials out of sample, one fold after the other';
COMMENT ON COLUMN api.tune_searches.deflated IS 'Deflated Sharpe ratio: probability that the best has any skill';
COMMENT ON COLUMN api.tune_searches.overfit IS 'Probability of backtest overfitting';
COMMENT ON COLUMN api.tune_searches.verdict IS 'The same in words';
COMMENT ON COLUMN api.tune_searches.judged_at IS 'When that was said; NULL: it was interrupted, ask again';

CREATE VIEW api.tune_trials AS
SELECT tune_id, trial, values, sharpe, growth, drawdown, trades, held, halted_at, config_hash FROM research.tune_trial;
COMMENT ON VIEW api.tune_trials IS 'Every config that a search tried, and what came of it';
COMMENT ON COLUMN api.tune_trials.tune_id IS 'api.tune_searches';
COMMENT ON COLUMN api.tune_trials.trial IS 'Its number, from 0';
COMMENT ON COLUMN api.tune_trials.values IS 'The keys as config.ini writes them';
COMMENT ON COLUMN api.tune_trials.sharpe IS 'Annual Sharpe ratio over the whole period; NULL: it never traded';
COMMENT ON COLUMN api.tune_trials.growth IS 'Compound annual growth of equity';
COMMENT ON COLUMN api.tune_trials.drawdown IS 'Largest fall from the highest equity, as a share of it';
COMMENT ON COLUMN api.tune_trials.trades IS 'Trades entered';
COMMENT ON COLUMN api.tune_trials.held IS 'Days within which 95 % of them were over';
COMMENT ON COLUMN api.tune_trials.halted_at IS 'The first loss at its limit';
COMMENT ON COLUMN api.tune_trials.config_hash IS 'Of the whole config of the trial';

CREATE VIEW api.tune_folds AS
SELECT tune_id, fold, train_from, train_to, test_from, test_to, trial, inside, outside FROM research.tune_fold;
COMMENT ON VIEW api.tune_folds IS 'The walk-forward: what was chosen on which days, and how it did on the next';
COMMENT ON COLUMN api.tune_folds.tune_id IS 'api.tune_searches';
COMMENT ON COLUMN api.tune_folds.fold IS 'From 1 on';
COMMENT ON COLUMN api.tune_folds.train_from IS 'First day of training';
COMMENT ON COLUMN api.tune_folds.train_to IS 'Last day of training';
COMMENT ON COLUMN api.tune_folds.test_from IS 'First day of the test';
COMMENT ON COLUMN api.tune_folds.test_to IS 'Last day of the test';
COMMENT ON COLUMN api.tune_folds.trial IS 'The best of training';
COMMENT ON COLUMN api.tune_folds.inside IS 'Its objective in training';
COMMENT ON COLUMN api.tune_folds.outside IS 'Its objective in the test';
