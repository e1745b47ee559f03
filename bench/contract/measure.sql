CREATE TEMP TABLE sample (what text, run integer, ms double precision);
-- psql's variables do not reach into a function body.
SELECT set_config('bench.runs', :'runs', false), set_config('bench.claims', :'claims', false) \gset

DO $$
DECLARE
    began timestamptz;
    found bigint;
BEGIN
    FOR run IN 0..current_setting('bench.runs')::integer LOOP
        began := clock_timestamp();
        PERFORM integratedb_validate_migration();
        INSERT INTO sample VALUES ('validate', run, extract(epoch FROM clock_timestamp() - began) * 1000);

        -- What a careful person would write: every claimed column that the catalog does not have as claimed.
        began := clock_timestamp();
        SELECT count(*) INTO found
        FROM integratedb.claim_column c
        JOIN integratedb.claim_alternative a ON a.claim_id = c.claim_id AND a.position = c.alternative
        WHERE NOT EXISTS (
            SELECT
            FROM pg_namespace n
            JOIN pg_class r ON r.relnamespace = n.oid
            JOIN pg_attribute t ON t.attrelid = r.oid
            WHERE n.nspname = a.schema_name AND r.relname = a.table_name AND t.attname = c.column_name
              AND NOT t.attisdropped AND (c.is_nullable OR t.attnotnull));
        INSERT INTO sample VALUES ('antijoin', run, extract(epoch FROM clock_timestamp() - began) * 1000);
        IF found <> 0 THEN RAISE EXCEPTION 'the anti-join finds % unmet', found; END IF;

        -- A real migration of one claimed table, with its claims and grants.
        EXECUTE format('ALTER TABLE t%s ALTER c1 TYPE varchar(%s)', run + 11, 50 + run + current_setting('bench.claims')::integer / 100);
        began := clock_timestamp();
        PERFORM integratedb_validate_migration();
        INSERT INTO sample VALUES ('validate_one_change', run, extract(epoch FROM clock_timestamp() - began) * 1000);
        COMMIT;
    END LOOP;
END
$$;
-- The first run warms the caches.
DELETE FROM sample WHERE run = 0;

CREATE TEMP TABLE figure (name text, value numeric, unit text, low numeric, high numeric);
INSERT INTO figure
SELECT what || '_ms', percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), 'ms', min(ms), max(ms)
FROM sample GROUP BY what;
INSERT INTO figure
SELECT 'validate_vs_antijoin', percentile_cont(0.5) WITHIN GROUP (ORDER BY v.ms / a.ms), 'ratio', min(v.ms / a.ms), max(v.ms / a.ms)
FROM sample v JOIN sample a USING (run) WHERE v.what = 'validate' AND a.what = 'antijoin';

BEGIN;
CREATE TEMP VIEW written AS
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) AS rows
FROM pg_stat_xact_all_tables WHERE schemaname IN ('integratedb', 'pg_catalog');
SELECT rows AS before FROM written \gset
SELECT integratedb_sync() \gset ignored_
INSERT INTO figure SELECT 'sync_noop_rows_written', rows - :before, 'rows', rows - :before, rows - :before FROM written;
COMMIT;

SELECT format('%s_at_%s %s %s (%s…%s of %s)', name, current_setting('bench.claims'), round(value, 3), unit, round(low, 3), round(high, 3),
              current_setting('bench.runs'))
FROM figure ORDER BY name;
