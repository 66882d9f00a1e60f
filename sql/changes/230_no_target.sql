-- A trade may have no target: [execution] reward_to_risk = off.
ALTER TABLE trading.trade ALTER COLUMN target DROP NOT NULL,
    DROP CONSTRAINT trade_stop_and_target,
    ADD CONSTRAINT trade_stop_and_target
        CHECK (target IS NULL OR (side = 'LONG' AND stop < target) OR (side = 'SHORT' AND stop > target));
COMMENT ON COLUMN api.decisions.target IS 'Planned target price; NULL: none';
COMMENT ON COLUMN api.open_trades.target IS 'Target price; NULL: none';
