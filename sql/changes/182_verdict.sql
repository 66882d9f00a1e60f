-- The verdict weighs luck, losses and the walk-forward.
COMMENT ON COLUMN api.tune_searches.verdict IS 'Whether the best is more than luck, and why';
