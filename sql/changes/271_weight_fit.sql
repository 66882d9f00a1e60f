-- `alphapivot fit weights`.
CREATE TABLE research.weight_fit (
    fit_id       bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope        text             NOT NULL CHECK (scope <> ''),
    as_of        timestamptz      NOT NULL,
    config_hash  text             NOT NULL,
    code_version text             NOT NULL,
    gap          double precision NOT NULL CHECK (gap > '-Infinity' AND gap < 'Infinity'),
    low          double precision NOT NULL CHECK (low > '-Infinity' AND low < 'Infinity'),
    high         double precision NOT NULL CHECK (high > '-Infinity' AND high < 'Infinity'),
    made_at      timestamptz      NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE research.weight_fit IS 'One run of `alphapivot fit weights`: weights of the pillars from the scores of a scope up to as_of';
COMMENT ON COLUMN research.weight_fit.gap IS 'Sharpe ratio out of sample of the fitted weights less that of equal ones; low to high in nine of ten samples drawn again';

CREATE TABLE research.weight_fit_weight (
    fit_id    bigint           NOT NULL REFERENCES research.weight_fit ON DELETE CASCADE,
    fitted_at timestamptz      NOT NULL,
    pillar    text             NOT NULL CHECK (pillar <> ''),
    weight    double precision NOT NULL CHECK (weight BETWEEN 0 AND 1),
    PRIMARY KEY (fit_id, fitted_at, pillar)
);
COMMENT ON TABLE research.weight_fit_weight IS 'Weights by the day whose result was the last that they know';
