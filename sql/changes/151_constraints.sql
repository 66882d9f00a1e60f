-- One rule from PostgreSQL 14 to 18: UNIQUE NULLS NOT DISTINCT takes 15, and 14 had an exclusion constraint in its place.
CREATE UNIQUE INDEX decision_once ON trading.decision (book, strategy, symbol, as_of, coalesce(batch_id, -1));
ALTER TABLE trading.decision
    DROP CONSTRAINT IF EXISTS decision_book_strategy_symbol_as_of_batch_id_key,
    DROP CONSTRAINT IF EXISTS decision_book_strategy_symbol_as_of_coalesce_excl;

-- Constraints are named for what they hold.
ALTER TABLE trading.trade RENAME CONSTRAINT trade_check2 TO trade_stop_and_target;
ALTER TABLE trading.trade RENAME CONSTRAINT trade_check3 TO trade_close_reason;
ALTER TABLE trading.trade RENAME CONSTRAINT trade_check4 TO trade_closed_is_flat;
ALTER TABLE research.evaluation_decile
    RENAME CONSTRAINT evaluation_decile_mean_return_check TO evaluation_decile_mean_outcome_check;
