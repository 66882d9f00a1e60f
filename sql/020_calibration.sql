-- What a calibration was before a restated bar changed it: decisions stand on it too.

CREATE TABLE signals.calibration_revision (
    LIKE signals.calibration,
    superseded_at timestamptz NOT NULL,
    superseded_by bigint      NOT NULL,
    PRIMARY KEY (scope, kind, subject, effective_from, batch_id)
);
COMMENT ON TABLE signals.calibration_revision IS 'Calibrations as they were; a decision may stand on them';
COMMENT ON COLUMN signals.calibration.value IS 'A scalar, or a correlation; 1 where too little was known to fit it';
