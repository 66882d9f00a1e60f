-- What a person should be told of, once each: whoever notices something again finds it here and keeps silent.

CREATE TABLE ops.alert (
    key      text        PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind     text        NOT NULL CHECK (kind <> ''),
    subject  text        NOT NULL,
    message  text        NOT NULL,
    sent_at  timestamptz,
    attempts integer     NOT NULL DEFAULT 0,
    failure  text        NOT NULL DEFAULT ''
);
CREATE INDEX alert_at ON ops.alert (at);
COMMENT ON TABLE ops.alert IS 'What a person was told of; an alert that nobody received is sent again by the next pass, for a day';
COMMENT ON COLUMN ops.alert.key IS 'Names the event itself, so that it is told once: lock:17, run:<run_id>:2';

CREATE VIEW api.alerts AS SELECT at, kind, subject, message, sent_at, attempts, failure FROM ops.alert;
COMMENT ON VIEW api.alerts IS 'What a person was told of, or should have been';
COMMENT ON COLUMN api.alerts.at IS 'When it was noticed';
COMMENT ON COLUMN api.alerts.kind IS 'run failed, run crashed, feed stale, position break, kill switch, daily loss';
COMMENT ON COLUMN api.alerts.subject IS 'The run, feed, book or symbol';
COMMENT ON COLUMN api.alerts.message IS 'What happened and what to do, in a sentence or two';
COMMENT ON COLUMN api.alerts.sent_at IS 'When somebody received it; NULL: nobody has';
COMMENT ON COLUMN api.alerts.attempts IS 'How often it was sent';
COMMENT ON COLUMN api.alerts.failure IS 'Why it was not received, or by whom it was not';
