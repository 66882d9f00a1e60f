-- Missing bars that are requested again.
CREATE TABLE market.hole (
    symbol   text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    market   text COLLATE "C" NOT NULL CHECK (market IN ('spot', 'futures')),
    interval text COLLATE "C" NOT NULL,
    after    timestamptz      NOT NULL CHECK (isfinite(after)),
    before   timestamptz      NOT NULL CHECK (before > after),
    missing  integer          NOT NULL CHECK (missing > 0),
    found_at timestamptz      NOT NULL,
    asked    integer          NOT NULL DEFAULT 0,
    asked_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (symbol, market, interval, after)
);
COMMENT ON TABLE market.hole IS 'Bars that the calendar has and a feed did not deliver; ingestion requests them again once a day for [quality] hole_days';
COMMENT ON COLUMN market.hole.after IS 'End of the stored bar before the hole';
COMMENT ON COLUMN market.hole.before IS 'End of the stored bar after it';
COMMENT ON COLUMN market.hole.missing IS 'Number of bars';
COMMENT ON COLUMN market.hole.found_at IS 'as_of of the run that found it';
COMMENT ON COLUMN market.hole.asked IS 'How often it was requested again';
COMMENT ON COLUMN market.hole.asked_at IS 'as_of of the last request';
COMMENT ON COLUMN market.hole.ended_at IS 'When its bars came';
