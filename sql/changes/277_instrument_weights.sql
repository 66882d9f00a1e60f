-- `alphapivot fit weights --of instruments`: a fit says whose weights it has, and its rows name pillars or instruments.
ALTER TABLE research.weight_fit ADD COLUMN kind text NOT NULL DEFAULT 'pillars' CHECK (kind IN ('pillars', 'instruments'));
COMMENT ON TABLE research.weight_fit IS 'One run of `alphapivot fit weights`: weights from the scores of a scope up to as_of';
COMMENT ON COLUMN research.weight_fit.kind IS 'Whose weights: [composite] weights of pillars, or [sizing] weights of instruments';
-- made anew: constraints are named after the column
CREATE TEMP TABLE weight_fit_weight_before ON COMMIT DROP AS TABLE research.weight_fit_weight;
DROP TABLE research.weight_fit_weight;
CREATE TABLE research.weight_fit_weight (
    fit_id    bigint           NOT NULL REFERENCES research.weight_fit ON DELETE CASCADE,
    fitted_at timestamptz      NOT NULL,
    name      text             NOT NULL CHECK (name <> ''),
    weight    double precision NOT NULL CHECK (weight BETWEEN 0 AND 1),
    PRIMARY KEY (fit_id, fitted_at, name)
);
COMMENT ON TABLE research.weight_fit_weight IS 'Weights by the day whose result was the last that they know';
INSERT INTO research.weight_fit_weight SELECT fit_id, fitted_at, pillar, weight FROM pg_temp.weight_fit_weight_before;
