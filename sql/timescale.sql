-- Makes hypertables of the bulk tables where TimescaleDB is preloaded. Idempotent; run at every migrate, so that the
-- extension may also come later. Plain PostgreSQL passes through untouched.
--
-- CREATE EXTENSION without the preload drops the connection. Which libraries are preloaded only pg_read_all_settings may
-- read; that the preloaded library has defined its own settings every role may see. The hypertable and its chunks are
-- Apache-licensed; columnstore and retention need the Timescale licence.
DO $timescale$
DECLARE
    bulk         record;
    version      integer[];
    community    boolean;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.disable_load') THEN
        RETURN;
    END IF;
    CREATE EXTENSION IF NOT EXISTS timescaledb;
    SELECT string_to_array(split_part(extversion, '-', 1), '.')::integer[] INTO version
    FROM pg_extension WHERE extname = 'timescaledb';
    community := current_setting('timescaledb.license', true) = 'timescale';

    FOR bulk IN
        SELECT * FROM (VALUES
            ('market.bar', interval '90 days', 'symbol, market, contract, interval')
        ) AS t (name, chunk, segments)
    LOOP
        PERFORM create_hypertable(bulk.name::regclass, 'ts', chunk_time_interval => bulk.chunk, if_not_exists => true,
                                  migrate_data => true, create_default_indexes => false);
        -- Bars are restated for months, and an upsert of many rows into the columnstore fails: only what is a
        -- year old is converted. Nothing expires by itself: decisions stand on these rows.
        IF community AND version >= '{2,18}' AND NOT EXISTS (
            SELECT FROM timescaledb_information.hypertables
            WHERE format('%I.%I', hypertable_schema, hypertable_name) = bulk.name AND compression_enabled
        ) THEN
            EXECUTE format('ALTER TABLE %s SET (timescaledb.enable_columnstore, timescaledb.segmentby = %L, '
                           'timescaledb.orderby = %L)', bulk.name, bulk.segments, 'ts');
            EXECUTE format('CALL add_columnstore_policy(%L, after => interval ''1 year'', if_not_exists => true)',
                           bulk.name);
        END IF;
    END LOOP;
END
$timescale$;
