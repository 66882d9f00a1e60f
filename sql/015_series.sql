-- How far each series that a feed brings has come, and how its feed last answered: so that ingestion need not look
-- through the bars for it, and an outage shows. Kept in the transactions that write the bars.
CREATE TABLE market.series (
    symbol      text COLLATE "C" NOT NULL CHECK (symbol <> ''),
    market      text COLLATE "C" NOT NULL CHECK (market IN ('spot', 'futures')),
    interval    text COLLATE "C" NOT NULL CHECK (interval <> ''),
    source      text COLLATE "C" NOT NULL,
    newest      timestamptz      CHECK (isfinite(newest)),
    answered_at timestamptz,
    failed_at   timestamptz,
    reason      text             NOT NULL DEFAULT '',
    PRIMARY KEY (symbol, market, interval)
);
COMMENT ON TABLE market.series IS 'The watermark of each series that a feed brings; a run asks for what comes after it';
COMMENT ON COLUMN market.series.source IS 'The feed';
COMMENT ON COLUMN market.series.newest IS 'End of the newest bar that came; of a futures market over all its contracts; NULL: none yet';
COMMENT ON COLUMN market.series.answered_at IS 'When the feed last answered, be it that there is nothing new';
COMMENT ON COLUMN market.series.failed_at IS 'When it last did not; it is stale where this is later than answered_at';

INSERT INTO market.series (symbol, market, interval, source, newest)
SELECT symbol, market, interval, max(source), max(ts) FROM market.bar WHERE source <> 'resampled'
GROUP BY symbol, market, interval;
