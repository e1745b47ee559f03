-- What is told of: `id` has always ten digits, `sent_at` is when the row was written, in microseconds since 1970. About
-- 100 bytes a row, that are as hard to compress as hexadecimal digits are.
CREATE TABLE ticks (id bigint PRIMARY KEY, sent_at bigint NOT NULL, payload text NOT NULL);
CREATE TABLE ticks_1 (LIKE ticks INCLUDING ALL);
CREATE TABLE ticks_10 (LIKE ticks INCLUDING ALL);
CREATE TABLE ticks_100 (LIKE ticks INCLUDING ALL);
CREATE SEQUENCE tick_ids START 1000000000;
-- For pg_recvlogical it is published also while nobody is told of it.
SELECT integratedb.publish(ARRAY['ticks'::regclass::oid]);

CREATE FUNCTION now_us() RETURNS bigint LANGUAGE sql
    RETURN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- Rows as fast as it goes, `each` in a transaction.
CREATE PROCEDURE burst(target regclass, rows int, each int) LANGUAGE plpgsql AS $$
BEGIN
    FOR begins IN 0 .. rows - 1 BY each LOOP
        EXECUTE format(
            'INSERT INTO %s SELECT 1000000000 + n, public.now_us(), md5(n::text) || md5((-n)::text)
             FROM generate_series($1, $2) AS n', target)
            USING begins, least(begins + each, rows) - 1;
        COMMIT;
    END LOOP;
END
$$;

-- What has to come of a table, and when its first transaction was committed.
CREATE FUNCTION written(target regclass, OUT rows bigint, OUT sum numeric, OUT first_us bigint, OUT last_us bigint)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'SELECT count(*), sum(id),
                (extract(epoch FROM min(pg_xact_commit_timestamp(xmin))) * 1000000)::bigint,
                (extract(epoch FROM max(pg_xact_commit_timestamp(xmin))) * 1000000)::bigint
         FROM %s', target)
        INTO rows, sum, first_us, last_us;
END
$$;
