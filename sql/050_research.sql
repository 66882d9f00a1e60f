-- What came of scores: how well each pillar, part, timeframe and the composite foretold what prices did next.

CREATE SCHEMA research;

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
    PRIMARY KEY (evaluation_id, subject, interval, horizon, slice)
);
COMMENT ON COLUMN research.evaluation_score.subject IS 'composite, a pillar, or a part as trend.stack';
COMMENT ON COLUMN research.evaluation_score.horizon IS 'Bars of the interval over which the following return is taken';
COMMENT ON COLUMN research.evaluation_score.slice IS 'all, a symbol, or a year';
COMMENT ON COLUMN research.evaluation_score.ic IS 'Rank correlation of score and following return within symbols';
COMMENT ON COLUMN research.evaluation_score.t IS 'Of ic, corrected for overlapping returns and for symbols that move together';

CREATE TABLE research.evaluation_decile (
    evaluation_id bigint   NOT NULL REFERENCES research.evaluation ON DELETE CASCADE,
    subject       text     NOT NULL,
    interval      text     NOT NULL,
    horizon       integer  NOT NULL,
    decile        smallint NOT NULL CHECK (decile BETWEEN 1 AND 10),
    observations  bigint   NOT NULL,
    mean_score    double precision CHECK (mean_score BETWEEN -100 AND 100),
    mean_return   double precision CHECK (mean_return < 'Infinity' AND mean_return > '-Infinity'),
    hit_rate      double precision CHECK (hit_rate BETWEEN 0 AND 1),
    PRIMARY KEY (evaluation_id, subject, interval, horizon, decile)
);
CREATE TABLE research.evaluation_correlation (
    evaluation_id bigint NOT NULL REFERENCES research.evaluation ON DELETE CASCADE,
    interval      text   NOT NULL,
    subject       text   NOT NULL,
    other         text   NOT NULL,
    correlation   double precision CHECK (correlation BETWEEN -1.000001 AND 1.000001),
    PRIMARY KEY (evaluation_id, interval, subject, other)
);
