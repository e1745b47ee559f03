-- How integratedb.read_as reads: the same row gives the same JSON whoever asks, as a session of the stakeholder itself
-- would see it. Nothing waits for long behind a migration. Who asks may plan for look-ups by key alone, which the policies of a
-- table may need more than.
ALTER FUNCTION integratedb.read_as(bigint, text)
    SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET bytea_output = 'hex'
    SET extra_float_digits = 3 SET row_security = on SET search_path = "$user", public
    SET lock_timeout = '2s' SET jit = off SET max_parallel_workers_per_gather = 0
    SET enable_seqscan = on SET enable_hashjoin = on SET enable_mergejoin = on;

COMMENT ON FUNCTION integratedb.read_as IS
    'What a statement reads with the rights of a stakeholder, and under the policies for it; for the sidecar';
