-- Mergers and delistings: each share becomes its value in cash, and trades no more.
ALTER TABLE market.corporate_action DROP CONSTRAINT corporate_action_kind_check,
    ADD CONSTRAINT corporate_action_kind_check
        CHECK (kind IN ('split', 'dividend', 'distribution', 'merger', 'delisting'));
ALTER TABLE trading.adjustment DROP CONSTRAINT adjustment_kind_check,
    ADD CONSTRAINT adjustment_kind_check CHECK (kind IN ('split', 'dividend', 'distribution', 'merger', 'delisting'));
ALTER TABLE paper.action DROP CONSTRAINT action_kind_check,
    ADD CONSTRAINT action_kind_check CHECK (kind IN ('split', 'dividend', 'distribution', 'merger', 'delisting'));
COMMENT ON TABLE market.corporate_action IS 'Splits, dividends, distributions, mergers and delistings of spot markets, in their current version: bars after ts are ex; written by ingestion';
COMMENT ON COLUMN market.corporate_action.value IS 'split: new shares per old share; else amount per share in the quote unit, as paid, or what a share is worth at its end';
