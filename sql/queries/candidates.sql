-- $1: rows as changed.sql gives them. The claims that could be unmet: those on a changed relation, and those
-- that were unmet at the last sync.
WITH changed AS MATERIALIZED (
    SELECT DISTINCT schema_name, table_name
    FROM jsonb_to_recordset($1::jsonb) AS x (schema_name name, table_name name)
),
candidates AS MATERIALIZED (
    SELECT a.claim_id FROM integratedb.claim_alternative a JOIN changed USING (schema_name, table_name)
    UNION
    SELECT id FROM integratedb.claim WHERE NOT met
)
SELECT coalesce(jsonb_agg(jsonb_build_object(
           'stakeholder', s.name, 'claim', integratedb.claim_json(c)) ORDER BY c.id), '[]')::text
FROM candidates k
JOIN integratedb.claim c ON c.id = k.claim_id
JOIN integratedb.spec ON spec.id = c.spec_id
JOIN integratedb.stakeholder s ON s.id = spec.stakeholder_id
