-- `alphapivot tune`: the best trial beside its own entries at other times.
ALTER TABLE research.tune ADD COLUMN shifted double precision[], ADD COLUMN shifted_trial integer;
COMMENT ON COLUMN research.tune.shifted IS 'Sharpe ratios of shifted_trial with its scores shifted in time: NULL where it did not trade';
