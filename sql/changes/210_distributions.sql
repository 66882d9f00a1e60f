-- Distributions: what a share gives away besides dividends (a spin-off, a right, a special dividend), at its value.
ALTER TABLE market.corporate_action DROP CONSTRAINT corporate_action_kind_check,
    ADD CONSTRAINT corporate_action_kind_check CHECK (kind IN ('split', 'dividend', 'distribution'));
ALTER TABLE trading.adjustment DROP CONSTRAINT adjustment_kind_check,
    ADD CONSTRAINT adjustment_kind_check CHECK (kind IN ('split', 'dividend', 'distribution'));
ALTER TABLE paper.action DROP CONSTRAINT action_kind_check,
    ADD CONSTRAINT action_kind_check CHECK (kind IN ('split', 'dividend', 'distribution'));
COMMENT ON TABLE market.corporate_action IS 'Splits, dividends and distributions of spot markets, in their current version: bars after ts are ex; written by ingestion';
COMMENT ON COLUMN market.corporate_action.value IS 'split: new shares per old share; dividend, distribution: amount per share in the quote unit, as paid';
