-- $1: the plan of privileges.sql. Forgets what was revoked.
WITH columns AS (
    DELETE FROM integratedb.granted_column g
    USING jsonb_to_recordset($1::jsonb -> 'revoke_columns')
        AS x (stakeholder_id bigint, relation bigint, columns name[], numbers smallint[])
    WHERE g.stakeholder_id = x.stakeholder_id
      AND g.relation::oid = x.relation::oid
      AND CASE WHEN g.relation::oid = g.relation_oid THEN g.attnum = ANY (x.numbers)
               ELSE g.column_name = ANY (x.columns) END
)
DELETE FROM integratedb.granted_schema g
USING jsonb_to_recordset($1::jsonb -> 'revoke_schemas')
    AS x (stakeholder_id bigint, schema_oid bigint, schema_name name)
WHERE g.stakeholder_id = x.stakeholder_id
  AND (g.schema_name = x.schema_name OR g.schema_oid = x.schema_oid::oid)
