-- $1: rows as changed.sql gives them. A null fingerprint means that the relation is gone.
WITH seen AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb)
        AS x (schema_name name, table_name name, fingerprint bigint, log_fingerprint bigint)
),
gone AS (
    DELETE FROM integratedb.relation r
    USING seen s
    WHERE (r.schema_name, r.table_name) = (s.schema_name, s.table_name) AND s.fingerprint IS NULL
)
INSERT INTO integratedb.relation (schema_name, table_name, fingerprint, log_fingerprint)
SELECT schema_name, table_name, fingerprint, log_fingerprint FROM seen WHERE fingerprint IS NOT NULL
ON CONFLICT (schema_name, table_name)
    DO UPDATE SET fingerprint = excluded.fingerprint, log_fingerprint = excluded.log_fingerprint
