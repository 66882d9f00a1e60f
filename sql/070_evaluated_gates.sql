-- Gates foretell no direction: they are measured against how far prices moved, and how far against the composite's side.

ALTER TABLE research.evaluation_score ADD COLUMN outcome text NOT NULL DEFAULT 'return'
    CHECK (outcome IN ('return', 'move', 'against'));
ALTER TABLE research.evaluation_score DROP CONSTRAINT evaluation_score_pkey;
ALTER TABLE research.evaluation_score ADD PRIMARY KEY (evaluation_id, subject, outcome, interval, horizon, slice);
COMMENT ON COLUMN research.evaluation_score.subject IS 'composite, a pillar (a gating one: its gate), or a part as trend.stack';
COMMENT ON COLUMN research.evaluation_score.outcome IS
    'What followed: the return; or, for gates, its size (move), and the farthest way against the composite''s side in ATR';
COMMENT ON COLUMN research.evaluation_score.ic IS
    'Rank correlation of score and outcome within symbols; of a gate that is worth something it is negative';

ALTER TABLE research.evaluation_decile ADD COLUMN outcome text NOT NULL DEFAULT 'return'
    CHECK (outcome IN ('return', 'move', 'against'));
ALTER TABLE research.evaluation_decile DROP CONSTRAINT evaluation_decile_pkey;
ALTER TABLE research.evaluation_decile ADD PRIMARY KEY (evaluation_id, subject, outcome, interval, horizon, decile);
ALTER TABLE research.evaluation_decile RENAME COLUMN mean_return TO mean_outcome;
COMMENT ON COLUMN research.evaluation_decile.mean_outcome IS 'Return or its size as a share of the price; against: ATR';
