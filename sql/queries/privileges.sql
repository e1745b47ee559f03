-- $1: ids of stakeholders. What to grant to and to revoke from their roles, one row a role and table (or
-- schema). Granted is whatever a claim names and exists, all alternatives alike; revoked only what sync
-- itself once granted. The owner of a relation needs no grant. A role that is gone is passed over.
WITH holder AS MATERIALIZED (
    SELECT s.id, s.name, r.oid AS role
    FROM integratedb.stakeholder s
    JOIN pg_roles r ON r.rolname = s.name
    WHERE s.id IN (SELECT value::bigint FROM jsonb_array_elements_text($1::jsonb))
),
claimed AS MATERIALIZED (
    SELECT DISTINCT h.id, h.name, h.role, n.oid AS schema_oid, n.nspname, c.oid AS relation, c.relname,
           c.relowner, col.column_name
    FROM holder h
    JOIN integratedb.spec ON spec.stakeholder_id = h.id AND spec.type = 'CLAIMS'
    JOIN integratedb.claim cl ON cl.spec_id = spec.id
    JOIN integratedb.claim_alternative a ON a.claim_id = cl.id
    JOIN pg_namespace n ON n.nspname = a.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = a.table_name
    LEFT JOIN integratedb.claim_column col
           ON col.claim_id = a.claim_id AND col.alternative = a.position
),
wanted AS MATERIALIZED (
    SELECT k.id, k.name, k.role, k.nspname, k.relation, k.relname, att.attnum, att.attname, att.attacl
    FROM claimed k
    JOIN pg_attribute att ON att.attrelid = k.relation AND att.attname = k.column_name
    WHERE att.attnum > 0 AND NOT att.attisdropped AND k.relowner <> k.role
),
-- Each list is taken apart once: one of a thousand roles is long.
held AS MATERIALIZED (
    SELECT c.relation, c.attnum, x.grantee
    FROM (SELECT DISTINCT ON (relation, attnum) relation, attnum, attacl FROM wanted) c
    CROSS JOIN LATERAL aclexplode(c.attacl) x
    WHERE x.privilege_type = 'SELECT'
),
missing AS (
    SELECT * FROM wanted w
    WHERE NOT EXISTS (SELECT FROM held h
                      WHERE h.relation = w.relation AND h.attnum = w.attnum AND h.grantee = w.role)
),
ours AS MATERIALIZED (
    SELECT g.stakeholder_id, h.name, h.role, n.nspname, c.oid AS relation, c.relname, att.attnum,
           att.attname
    FROM integratedb.granted_column g
    JOIN holder h ON h.id = g.stakeholder_id
    JOIN pg_class c ON c.oid = g.relation
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute att ON att.attrelid = c.oid AND att.attnum > 0 AND NOT att.attisdropped
     AND CASE WHEN g.relation::oid = g.relation_oid THEN att.attnum = g.attnum
              ELSE att.attname = g.column_name END
),
surplus AS (
    SELECT * FROM ours o
    WHERE NOT EXISTS (SELECT FROM wanted w
                      WHERE w.id = o.stakeholder_id AND w.relation = o.relation
                        AND w.attnum = o.attnum)
),
wanted_schema AS MATERIALIZED (
    SELECT DISTINCT k.id, k.name, k.role, k.schema_oid, k.nspname
    FROM claimed k
    JOIN pg_namespace n ON n.oid = k.schema_oid
    WHERE n.nspowner <> k.role
),
held_schema AS MATERIALIZED (
    SELECT n.oid AS schema_oid, x.grantee
    FROM pg_namespace n
    CROSS JOIN LATERAL aclexplode(n.nspacl) x
    WHERE n.oid IN (SELECT schema_oid FROM wanted_schema) AND x.privilege_type = 'USAGE'
),
missing_schema AS (
    SELECT * FROM wanted_schema k
    WHERE NOT EXISTS (SELECT FROM held_schema h
                      WHERE h.schema_oid = k.schema_oid AND h.grantee = k.role)
),
surplus_schema AS (
    SELECT g.stakeholder_id AS id, h.name, n.oid AS schema_oid, n.nspname
    FROM integratedb.granted_schema g
    JOIN holder h ON h.id = g.stakeholder_id
    JOIN pg_namespace n ON n.nspname = g.schema_name
                        OR (n.oid = g.schema_oid
                            AND NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = g.schema_name))
    WHERE NOT EXISTS (SELECT FROM claimed k
                      WHERE k.id = g.stakeholder_id AND k.schema_oid = n.oid)
)
SELECT jsonb_build_object(
    'grant_columns', (SELECT coalesce(jsonb_agg(x), '[]') FROM (
        SELECT id AS stakeholder_id, name AS role, relation::bigint, nspname AS schema_name,
               relname AS table_name, array_agg(attname ORDER BY attnum) AS columns,
               array_agg(attnum ORDER BY attnum) AS numbers
        FROM missing GROUP BY 1, 2, 3, 4, 5) x),
    'revoke_columns', (SELECT coalesce(jsonb_agg(x), '[]') FROM (
        SELECT stakeholder_id, name AS role, relation::bigint, nspname AS schema_name,
               relname AS table_name, array_agg(attname ORDER BY attnum) AS columns,
               array_agg(attnum ORDER BY attnum) AS numbers
        FROM surplus GROUP BY 1, 2, 3, 4, 5) x),
    'grant_schemas', (SELECT coalesce(jsonb_agg(x), '[]') FROM (
        SELECT id AS stakeholder_id, name AS role, schema_oid::bigint, nspname AS schema_name
        FROM missing_schema) x),
    'revoke_schemas', (SELECT coalesce(jsonb_agg(x), '[]') FROM (
        SELECT id AS stakeholder_id, name AS role, schema_oid::bigint, nspname AS schema_name
        FROM surplus_schema) x))::text
