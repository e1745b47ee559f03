DO $$
DECLARE
    columns text := (SELECT string_agg(format('c%s %s', n, (ARRAY['bigint', 'varchar(40)', 'timestamptz'])[n % 3 + 1]), ', ')
                     FROM generate_series(1, 10) n);
BEGIN
    FOR n IN 1..2000 LOOP
        EXECUTE format('CREATE TABLE t%s (%s)', n, columns);
        -- A transaction may only hold so many locks.
        IF n % 100 = 0 THEN COMMIT; END IF;
    END LOOP;
END
$$;
VACUUM ANALYZE pg_catalog.pg_class, pg_catalog.pg_attribute, pg_catalog.pg_type;
