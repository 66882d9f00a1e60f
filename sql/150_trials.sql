-- Trials of `alphapivot tune --engine full` are backtests, each in a book of its own; those that score alike share scores.

COMMENT ON COLUMN research.backtest.book IS 'In trading.*; also the scope of its scores in signals.*, but for the trials of a search, which share theirs: ops.run names it';

CREATE OR REPLACE VIEW api.tune_trials AS
SELECT r.tune_id, r.trial, r.values, r.sharpe, r.growth, r.drawdown, r.trades, r.held, r.halted_at, r.config_hash,
       CASE t.engine WHEN 'full' THEN format('bt-tune%s-%s', r.tune_id, r.trial) END AS book
FROM research.tune_trial r JOIN research.tune t USING (tune_id);
COMMENT ON COLUMN api.tune_trials.book IS 'Where its trades are, with engine full; NULL: the screening engine keeps none';
