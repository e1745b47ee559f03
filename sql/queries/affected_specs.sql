-- $1: rows as changed.sql gives them; $2: ids of specs to include anyway. The specs that name a changed
-- schema or relation, with their stakeholder, document, targets and the claims they were last expanded to.
WITH changed AS MATERIALIZED (
    SELECT DISTINCT schema_name, table_name
    FROM jsonb_to_recordset($1::jsonb) AS x (schema_name name, table_name name)
),
affected AS MATERIALIZED (
    SELECT t.spec_id FROM integratedb.spec_target t JOIN changed USING (schema_name, table_name)
    UNION
    SELECT t.spec_id FROM integratedb.spec_target t
    WHERE t.table_name = '' AND t.schema_name IN (SELECT schema_name FROM changed)
    UNION
    -- What is changed in a schema's own privileges concerns all who claim a table in it.
    SELECT t.spec_id FROM integratedb.spec_target t
    WHERE t.schema_name IN (SELECT schema_name FROM changed WHERE table_name = '')
    UNION
    SELECT value::bigint FROM jsonb_array_elements_text($2::jsonb)
)
SELECT coalesce(jsonb_agg(jsonb_build_object(
    'id', s.id,
    'kind', s.type,
    'stakeholder_id', s.stakeholder_id,
    'stakeholder', (SELECT h.name FROM integratedb.stakeholder h WHERE h.id = s.stakeholder_id),
    'document', s.document,
    'targets', (SELECT jsonb_agg(jsonb_build_object(
                           'schema_name', t.schema_name, 'table_name', t.table_name))
                FROM integratedb.spec_target t WHERE t.spec_id = s.id),
    'claims', (SELECT coalesce(jsonb_agg(integratedb.claim_json(c)), '[]')
               FROM integratedb.claim c WHERE c.spec_id = s.id))), '[]')::text
FROM integratedb.spec s
JOIN affected a ON a.spec_id = s.id
