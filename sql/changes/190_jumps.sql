-- A jump holds its series until it is explained; a spike that following bars confirm stops entries until a date.
ALTER TABLE market.quality_issue DROP CONSTRAINT quality_issue_outcome_check;
ALTER TABLE market.quality_issue ADD CONSTRAINT quality_issue_outcome_check CHECK (outcome IN ('quarantined', 'held', 'flagged', 'halted'));
ALTER TABLE market.quality_issue ADD COLUMN stops_until timestamptz CHECK (isfinite(stops_until));
COMMENT ON COLUMN market.quality_issue.outcome IS 'quarantined: the bar is not in market.bar; held: nor is any newer one, so no entries in the instrument; halted: the bar is stored, and no entries in the instrument until the series passes, stops_until, or someone accepts it; flagged: reported only';
COMMENT ON COLUMN market.quality_issue.stops_until IS 'End of the last bar on which a halt stops entries, in the market''s time; NULL: until the series passes';
COMMENT ON COLUMN market.quality_issue.ended_at IS 'When the series passed the check again, or the bar came in';
COMMENT ON COLUMN api.alerts.kind IS 'run failed, run crashed, feed stale, calendar ends, price jump, position break, foreign order, order refused, order moved, market ended, cash unexplained, kill switch, daily loss, hub away';
