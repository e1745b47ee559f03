-- $1: [{"schema_name","table_name"}…], an empty table name for the whole schema. What has to join the publication so
-- that the changes of these tables are told: each table, or leaf of one, that can be a member and is none.
WITH named AS MATERIALIZED (
    SELECT DISTINCT schema_name, table_name
    FROM jsonb_to_recordset($1::jsonb) AS x (schema_name name, table_name name)
),
tables AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname
    FROM named t
    JOIN pg_namespace n ON n.nspname = t.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name
    WHERE c.relkind IN ('r', 'p')
    UNION
    SELECT c.oid, n.nspname, c.relname
    FROM named t
    JOIN pg_namespace n ON n.nspname = t.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid
    WHERE t.table_name = '' AND c.relkind IN ('r', 'p')
),
strangers AS MATERIALIZED (
    SELECT l.root, l.leaf
    FROM integratedb.leaves((SELECT array_agg(oid) FROM tables)) l
    WHERE NOT EXISTS (
        SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
        WHERE p.pubname = 'integratedb' AND r.prrelid = l.leaf)
)
SELECT coalesce(jsonb_agg(jsonb_build_object(
           'schema_name', t.nspname, 'table_name', t.relname, 'leaf', s.leaf::bigint) ORDER BY s.leaf), '[]')::text
FROM strangers s
JOIN tables t ON t.oid = s.root
JOIN pg_class c ON c.oid = s.leaf
WHERE integratedb.publication_obstacle(c) IS NULL
