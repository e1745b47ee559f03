-- $1: id of a spec, $2: [{"schema_name","table_name"}…].
INSERT INTO integratedb.spec_target (schema_name, table_name, spec_id)
SELECT DISTINCT schema_name, table_name, $1::bigint
FROM jsonb_to_recordset($2::jsonb) AS x (schema_name name, table_name name)
