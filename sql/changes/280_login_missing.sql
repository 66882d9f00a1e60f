-- An alert of a login that is missing before the open.
COMMENT ON COLUMN api.alerts.kind IS 'run failed, run crashed, feed stale, feed stand-in, calendar ends, price jump, position break, foreign order, order refused, order moved, market ended, cash unexplained, kill switch, login missing, approval, daily loss, hub away';
