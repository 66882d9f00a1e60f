-- A feed that stands in for another is told.
COMMENT ON COLUMN api.alerts.kind IS 'run failed, run crashed, feed stale, feed stand-in, calendar ends, price jump, position break, foreign order, order refused, order moved, market ended, cash unexplained, kill switch, daily loss, hub away';
