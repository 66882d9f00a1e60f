-- What each instrument and group adds to a book's expected volatility, kept by run.
CREATE TABLE trading.risk_part (
    book     text             NOT NULL CHECK (book <> ''),
    as_of    timestamptz      NOT NULL CHECK (isfinite(as_of)),
    name     text             NOT NULL CHECK (name <> ''),
    grouped  boolean          NOT NULL,
    alone    double precision NOT NULL CHECK (alone >= 0 AND alone < 'Infinity'),
    part     double precision NOT NULL CHECK (abs(part) < 'Infinity'),
    share    double precision NOT NULL CHECK (abs(share) < 'Infinity'),
    currency text             NOT NULL,
    equity   numeric          NOT NULL CHECK (equity <> 'NaN' AND abs(equity) < 'Infinity'),
    PRIMARY KEY (book, as_of, name, grouped)
);
COMMENT ON TABLE trading.risk_part IS 'What each instrument and group adds to the volatility that a book expects, by run; as `alphapivot risk` shows it';
COMMENT ON COLUMN trading.risk_part.name IS 'An instrument''s symbol, or a group''s name if grouped';
COMMENT ON COLUMN trading.risk_part.alone IS 'Its own volatility of a year, in the book''s currency';
COMMENT ON COLUMN trading.risk_part.part IS 'What it adds to the book''s; negative: it hedges. Those of the instruments sum to the whole';
COMMENT ON COLUMN trading.risk_part.share IS 'part / the book''s volatility';
CREATE VIEW api.risk AS
SELECT book, as_of, name, grouped, alone, part, share, part / nullif(equity, 0)::float8 AS of_equity, currency
FROM trading.risk_part;
COMMENT ON VIEW api.risk IS 'What each instrument and group adds to the volatility that a book expects, at the end of each run: filter by book and as_of';
COMMENT ON COLUMN api.risk.book IS 'The account';
COMMENT ON COLUMN api.risk.as_of IS 'The instant for which the run decides';
COMMENT ON COLUMN api.risk.name IS 'An instrument''s symbol, or a group''s name if grouped';
COMMENT ON COLUMN api.risk.grouped IS 'True for a group of instruments';
COMMENT ON COLUMN api.risk.alone IS 'Its own volatility of a year';
COMMENT ON COLUMN api.risk.part IS 'What it adds to the book''s; negative: it hedges. Those of the instruments sum to the whole';
COMMENT ON COLUMN api.risk.share IS 'part / the book''s volatility';
COMMENT ON COLUMN api.risk.of_equity IS 'part / equity';
COMMENT ON COLUMN api.risk.currency IS 'Currency of the book and of all money here';
