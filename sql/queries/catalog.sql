-- $1: [{"schema_name","table_name"}…], an empty table name for the whole schema. The schemas that exist and
-- the relations with their columns. Types are described as information_schema.columns does, one level
-- deeper: a domain counts as the type beneath it, however deep, and an array's length is its elements'.
-- $2: likewise; of these also how the log tells their changes.
WITH RECURSIVE named AS MATERIALIZED (
    SELECT DISTINCT schema_name, table_name
    FROM jsonb_to_recordset($1::jsonb) AS x (schema_name name, table_name name)
),
scope AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname, c.relnamespace
    FROM named t
    JOIN pg_namespace n ON n.nspname = t.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid
    WHERE (t.table_name = c.relname OR t.table_name = '') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    GROUP BY 1, 2, 3, 4
),
attributes AS MATERIALIZED (
    SELECT a.attrelid, a.attnum, a.attname, a.attnotnull, a.atttypid, a.atttypmod
    FROM scope s
    JOIN pg_attribute a ON a.attrelid = s.oid
    WHERE a.attnum > 0 AND NOT a.attisdropped
),
-- From each type in use down through domains to the base type; a domain's own modifier counts unless one
-- above it set one, and any NOT NULL on the way holds.
resolved AS (
    SELECT t.oid AS root, t.oid, t.typtype, t.typbasetype, -1 AS typmod, false AS not_null
    FROM pg_type t
    WHERE t.oid IN (SELECT atttypid FROM attributes)
    UNION ALL
    SELECT r.root, t.oid, t.typtype, t.typbasetype,
           CASE WHEN r.typmod >= 0 THEN r.typmod ELSE d.typtypmod END,
           r.not_null OR d.typnotnull
    FROM resolved r
    JOIN pg_type d ON d.oid = r.oid
    JOIN pg_type t ON t.oid = d.typbasetype
    WHERE r.typtype = 'd'
),
base AS MATERIALIZED (
    SELECT r.root, t.oid, t.typname, r.typmod, r.not_null,
           format_type(t.oid, NULL) AS formatted,
           CASE WHEN t.typelem <> 0 AND t.typsubscript = 'array_subscript_handler'::regproc
                    AND t.typlen = -1 THEN 'ARRAY'
                WHEN n.nspname = 'pg_catalog' THEN format_type(t.oid, NULL)
                ELSE 'USER-DEFINED' END AS data_type,
           CASE WHEN t.typelem <> 0 AND t.typlen = -1 THEN t.typelem ELSE t.oid END AS element
    FROM resolved r
    JOIN pg_type t ON t.oid = r.oid
    JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE r.typtype <> 'd'
),
columns AS (
    SELECT a.attrelid,
           jsonb_agg(jsonb_build_object(
               'name', a.attname,
               'formatted', b.formatted,
               'data_type', b.data_type,
               'bare', b.typname,
               'max_length',
               CASE
                   -- character, character varying: the modifier counts a four-byte header.
                   WHEN b.element IN (1042, 1043) THEN CASE WHEN m.typmod < 4 THEN 2147483647
                                                            ELSE m.typmod - 4 END
                   WHEN b.element IN (1560, 1562) THEN CASE WHEN m.typmod < 0 THEN 2147483647
                                                            ELSE m.typmod END
                   WHEN b.element IN (25, 17) THEN 2147483647
                   WHEN b.element = 21 THEN 16
                   WHEN b.element = 23 THEN 32
                   WHEN b.element = 20 THEN 64
                   WHEN b.element = 700 THEN 24
                   WHEN b.element = 701 THEN 53
                   -- numeric: the precision is the upper half of the modifier less its header.
                   WHEN b.element = 1700 THEN CASE WHEN m.typmod < 4 THEN 2147483647
                                                   ELSE ((m.typmod - 4) >> 16) & 65535 END
               END,
               'is_nullable', NOT (a.attnotnull OR b.not_null)) ORDER BY a.attnum) AS columns
    FROM attributes a
    JOIN base b ON b.root = a.atttypid
    CROSS JOIN LATERAL (SELECT CASE WHEN a.atttypmod >= 0 THEN a.atttypmod ELSE b.typmod END) AS m (typmod)
    GROUP BY a.attrelid
),
asked AS MATERIALIZED (
    SELECT DISTINCT schema_name, table_name
    FROM jsonb_to_recordset($2::jsonb) AS x (schema_name name, table_name name)
),
told AS MATERIALIZED (
    SELECT s.oid FROM asked t JOIN scope s ON s.nspname = t.schema_name AND s.relname = t.table_name
    UNION
    SELECT s.oid FROM asked t JOIN scope s ON s.nspname = t.schema_name WHERE t.table_name = ''
),
leaves AS MATERIALIZED (
    SELECT l.root, c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident,
           integratedb.publication_obstacle(c) IS NOT NULL AS is_obstacle
    FROM integratedb.leaves((SELECT array_agg(oid) FROM told)) l
    JOIN pg_class c ON c.oid = l.leaf
    JOIN pg_namespace n ON n.oid = c.relnamespace
),
logs AS MATERIALIZED (
    SELECT root,
           jsonb_agg(oid::bigint ORDER BY oid) AS leaves,
           jsonb_agg(jsonb_build_object(
               'leaf', CASE WHEN oid <> root THEN jsonb_build_object('schema', nspname, 'table', relname) END,
               'kind', relkind,
               'persistence', relpersistence,
               'identity', relreplident) ORDER BY nspname, relname) FILTER (WHERE is_obstacle) -> 0 AS obstacle
    FROM leaves
    GROUP BY root
)
SELECT jsonb_build_object(
    'schemas', (SELECT coalesce(jsonb_agg(DISTINCT n.nspname), '[]')
                FROM pg_namespace n
                WHERE n.nspname IN (SELECT schema_name FROM named)),
    'relations', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                             'schema', s.nspname,
                             'table', s.relname,
                             'columns', coalesce(c.columns, '[]'),
                             'log', CASE WHEN s.oid IN (SELECT oid FROM told) THEN jsonb_build_object(
                                 'leaves', coalesce(l.leaves, '[]'),
                                 'obstacle', l.obstacle,
                                 'is_partition', EXISTS (
                                     SELECT FROM pg_partition_ancestors(s.oid) a
                                     JOIN pg_class p ON p.oid = a.relid
                                     WHERE p.oid <> s.oid AND p.relnamespace = s.relnamespace))
                             END)), '[]')
                  FROM scope s
                  LEFT JOIN columns c ON c.attrelid = s.oid
                  LEFT JOIN logs l ON l.root = s.oid))::text
