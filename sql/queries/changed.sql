-- Every schema (empty table name) and relation that a spec names, and one of whose fingerprints is not the one of the
-- last sync. The first covers what claims and grants depend on; the other, of what notifications name, what decides
-- whether the log tells its changes. New is what had none: nobody has relied on what it tells.
WITH named AS MATERIALIZED (
    SELECT DISTINCT schema_name, table_name FROM integratedb.spec_target
),
scope AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relowner
    FROM named t
    JOIN pg_namespace n ON n.nspname = t.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relowner
    FROM named t
    JOIN pg_namespace n ON n.nspname = t.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid
    WHERE t.table_name = '' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
),
attributes AS MATERIALIZED (
    SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attacl
    FROM scope s
    JOIN pg_attribute a ON a.attrelid = s.oid
    WHERE a.attnum > 0 AND NOT a.attisdropped
),
-- A column of a domain depends on the domain, and that on the domains beneath it.
domains AS MATERIALIZED (
    SELECT coalesce(bit_xor(hash_record_extended(
               ROW (oid, typbasetype, typtypmod, typnotnull), 0)), 0) AS fingerprint
    FROM pg_type
    WHERE typtype = 'd'
),
types AS MATERIALIZED (
    SELECT t.oid,
           hash_record_extended(
               ROW (t.typname, n.nspname,
                    CASE WHEN t.typtype = 'd' THEN (SELECT fingerprint FROM domains) END), 0)
               AS fingerprint
    FROM pg_type t
    JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.oid IN (SELECT atttypid FROM attributes)
),
columns AS (
    SELECT a.attrelid,
           bit_xor(hash_record_extended(
               ROW (a.attnum, a.attname, a.atttypmod, a.attnotnull, a.attacl, t.fingerprint),
               0)) AS fingerprint
    FROM attributes a
    JOIN types t ON t.oid = a.atttypid
    GROUP BY a.attrelid
),
told AS MATERIALIZED (
    SELECT s.oid
    FROM integratedb.spec
    JOIN integratedb.spec_target t ON t.spec_id = spec.id
    JOIN scope s ON s.nspname = t.schema_name AND s.relname = t.table_name
    WHERE spec.type = 'NOTIFICATIONS'
    UNION
    SELECT s.oid
    FROM integratedb.spec
    JOIN integratedb.spec_target t ON t.spec_id = spec.id
    JOIN scope s ON s.nspname = t.schema_name
    WHERE spec.type = 'NOTIFICATIONS' AND t.table_name = ''
),
-- What integratedb.publication_obstacle looks at, of each leaf, without a call for each.
logs AS (
    SELECT l.root,
           bit_xor(hash_record_extended(
               ROW (c.oid, c.relkind, c.relpersistence, c.relreplident, i.indexrelid), 0)) AS fingerprint
    FROM integratedb.leaves((SELECT array_agg(oid) FROM told)) l
    JOIN pg_class c ON c.oid = l.leaf
    LEFT JOIN pg_index i
           ON i.indrelid = c.oid
          AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
          AND i.indisvalid AND i.indislive AND i.indisunique AND i.indimmediate AND i.indpred IS NULL
    GROUP BY l.root
),
present AS (
    SELECT s.nspname AS schema_name,
           s.relname AS table_name,
           hash_record_extended(
               ROW (s.oid, s.relkind, s.relowner, coalesce(c.fingerprint, 0)), 0) AS fingerprint,
           CASE WHEN s.oid IN (SELECT oid FROM told) THEN coalesce(l.fingerprint, 0) END AS log_fingerprint
    FROM scope s
    LEFT JOIN columns c ON c.attrelid = s.oid
    LEFT JOIN logs l ON l.root = s.oid
    UNION ALL
    SELECT n.nspname, '',
           hash_record_extended(ROW (n.oid, n.nspowner, n.nspacl), 0), NULL
    FROM pg_namespace n
    WHERE n.nspname IN (SELECT schema_name FROM named)
)
SELECT coalesce(jsonb_agg(jsonb_build_object(
           'schema_name', schema_name,
           'table_name', table_name,
           'fingerprint', p.fingerprint,
           'log_fingerprint', p.log_fingerprint,
           'is_new', r.fingerprint IS NULL
                     OR (p.fingerprint IS NOT DISTINCT FROM r.fingerprint AND r.log_fingerprint IS NULL))), '[]')::text
FROM present p
FULL JOIN integratedb.relation r USING (schema_name, table_name)
WHERE p.fingerprint IS DISTINCT FROM r.fingerprint
   OR (p.log_fingerprint IS NOT NULL AND p.log_fingerprint IS DISTINCT FROM r.log_fingerprint)
