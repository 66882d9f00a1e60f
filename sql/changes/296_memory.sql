-- A backtest that the kernel leaves out is decided at every instant, in memory.
ALTER TABLE research.backtest DROP CONSTRAINT backtest_engine,
    ADD CONSTRAINT backtest_engine CHECK (engine IN ('kernel', 'memory', 'live'));
COMMENT ON COLUMN research.backtest.engine IS 'kernel: the engine decided and filled where the compiled kernel saw something happen; memory: it did at every instant, without the database; live: with it';
