-- `alphapivot tune --guided`: trials proposed from the results so far.
ALTER TABLE research.tune ADD COLUMN guided boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN research.tune.guided IS 'Trials were proposed from the results so far; trial n is that of fold n modulo (folds + 1), counted from 0, the last of the whole period';
