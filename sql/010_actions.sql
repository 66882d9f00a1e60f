-- Splits and dividends of spot markets, versioned like bars: raw prices stay as traded, adjusted ones are made of these.

CREATE TABLE market.corporate_action (
    symbol      text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    kind        text COLLATE "C" NOT NULL CHECK (kind IN ('split', 'dividend')),
    ts          timestamptz      NOT NULL CHECK (isfinite(ts)),
    value       double precision NOT NULL CHECK (value > 0 AND value < 'Infinity'),
    factor      double precision NOT NULL CHECK (factor > 0 AND factor < 'Infinity'),
    source      text COLLATE "C" NOT NULL,
    ingested_at timestamptz      NOT NULL,
    PRIMARY KEY (symbol, kind, ts)
);
CREATE TABLE market.corporate_action_revision (
    LIKE market.corporate_action,
    superseded_at timestamptz NOT NULL,
    superseded_by bigint      NOT NULL,
    PRIMARY KEY (symbol, kind, ts, superseded_at),
    CHECK (ingested_at < superseded_at)
);
COMMENT ON TABLE market.corporate_action IS 'Splits and dividends: bars complete after ts are without what they gave';
COMMENT ON COLUMN market.corporate_action.ts IS 'The open of the first session ex';
COMMENT ON COLUMN market.corporate_action.value IS 'split: new shares for one old; dividend: per share, in quoted units, as paid then';
COMMENT ON COLUMN market.corporate_action.factor IS 'Adjusted prices after ts are multiplied by it, anchored at the first bar, so that history never changes';
COMMENT ON TABLE market.corporate_action_revision IS 'Splits and dividends as they were before a change';
