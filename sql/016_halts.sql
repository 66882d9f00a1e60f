-- A gate that a whole series fails stops entries in its instrument, until the series mends or a person accepts it.
ALTER TABLE market.quality_issue DROP CONSTRAINT quality_issue_outcome_check;
ALTER TABLE market.quality_issue ADD CONSTRAINT quality_issue_outcome_check
    CHECK (outcome IN ('quarantined', 'flagged', 'halted'));
ALTER TABLE market.quality_issue ADD COLUMN ended_at timestamptz;
COMMENT ON COLUMN market.quality_issue.outcome IS 'quarantined: the bar is not in market.bar; halted: no entries meanwhile; flagged: told, no more';
COMMENT ON COLUMN market.quality_issue.ended_at IS 'From when on the series passed the check again';
CREATE INDEX quality_issue_open ON market.quality_issue (symbol, found_at) WHERE decision IS NULL AND ended_at IS NULL;
