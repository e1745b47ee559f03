-- $1: {"claims","alternatives","columns"}: the claims to insert or to write anew, known by spec, item and
-- table, with all their rows. Earlier rows of the same claims were removed by clear_claims.sql.
WITH claims AS (
    INSERT INTO integratedb.claim (spec_id, item, table_name, optional, met)
    SELECT spec_id, item, claim_table, optional, met
    FROM jsonb_to_recordset($1::jsonb -> 'claims')
        AS x (spec_id bigint, item integer, claim_table name, optional boolean, met boolean)
    ON CONFLICT (spec_id, item, table_name)
        DO UPDATE SET optional = excluded.optional, met = excluded.met
    RETURNING id, spec_id, item, table_name
),
alternatives AS (
    INSERT INTO integratedb.claim_alternative (claim_id, position, schema_name, table_name)
    SELECT c.id, x.position, x.schema_name, x.table_name
    FROM jsonb_to_recordset($1::jsonb -> 'alternatives')
        AS x (spec_id bigint, item integer, claim_table name, position integer,
              schema_name name, table_name name)
    JOIN claims c ON (c.spec_id, c.item, c.table_name) = (x.spec_id, x.item, x.claim_table)
    RETURNING claim_id
)
INSERT INTO integratedb.claim_column
    (claim_id, alternative, position, shape, field, column_name, data_type, min_length, is_nullable,
     optional)
SELECT c.id, x.alternative, x.position, x.shape, x.field, x.column_name, x.data_type, x.min_length,
       x.is_nullable, x.optional
FROM jsonb_to_recordset($1::jsonb -> 'columns')
    AS x (spec_id bigint, item integer, claim_table name, alternative integer, position integer,
          shape integer, field integer, column_name name, data_type text, min_length integer,
          is_nullable boolean, optional boolean)
JOIN claims c ON (c.spec_id, c.item, c.table_name) = (x.spec_id, x.item, x.claim_table)
