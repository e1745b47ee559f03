-- $1: the plan of privileges.sql. Records what was granted, so that it may be revoked one day.
WITH columns AS (
    INSERT INTO integratedb.granted_column
        (stakeholder_id, relation, relation_oid, attnum, column_name)
    SELECT x.stakeholder_id, x.relation::oid::regclass, x.relation::oid, u.attnum, u.column_name
    FROM jsonb_to_recordset($1::jsonb -> 'grant_columns')
        AS x (stakeholder_id bigint, relation bigint, columns name[], numbers smallint[])
    CROSS JOIN LATERAL unnest(x.numbers, x.columns) AS u (attnum, column_name)
    ON CONFLICT (stakeholder_id, relation_oid, attnum)
        DO UPDATE SET relation = excluded.relation, column_name = excluded.column_name
)
INSERT INTO integratedb.granted_schema (stakeholder_id, schema_oid, schema_name)
SELECT stakeholder_id, schema_oid::oid, schema_name
FROM jsonb_to_recordset($1::jsonb -> 'grant_schemas')
    AS x (stakeholder_id bigint, schema_oid bigint, schema_name name)
ON CONFLICT (stakeholder_id, schema_oid) DO UPDATE SET schema_name = excluded.schema_name
