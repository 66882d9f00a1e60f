-- Which receivers have an alert, and when the others are tried again.
ALTER TABLE ops.alert
    ADD COLUMN received text[]      NOT NULL DEFAULT '{}',
    ADD COLUMN next_at  timestamptz NOT NULL DEFAULT clock_timestamp();
COMMENT ON TABLE ops.alert IS 'Alerts, one row per event; later passes send what a receiver has missed, ever more rarely, for a week';
COMMENT ON COLUMN ops.alert.received IS 'The receivers that have it: scheme and host';
COMMENT ON COLUMN ops.alert.next_at IS 'When those that have missed it are tried again';
COMMENT ON COLUMN api.alerts.kind IS 'run failed, run crashed, feed stale, calendar ends, position break, foreign order, kill switch, daily loss';
