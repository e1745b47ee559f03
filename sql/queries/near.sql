-- $1: [{"schema_name","table_name"}…]. The names of relations that differ from these only in case.
WITH named AS MATERIALIZED (
    SELECT DISTINCT schema_name, lower(table_name) AS folded
    FROM jsonb_to_recordset($1::jsonb) AS x (schema_name name, table_name text)
    WHERE table_name <> ''
)
SELECT jsonb_build_object(
    'schemas', '[]'::jsonb,
    'relations', coalesce(jsonb_agg(jsonb_build_object(
        'schema', n.nspname, 'table', c.relname, 'columns', '[]'::jsonb)), '[]'))::text
FROM named t
JOIN pg_namespace n ON n.nspname = t.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND lower(c.relname) = t.folded
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
