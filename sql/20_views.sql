-- What each stakeholder claims, one row a column alternative; column_name is null where a claim is on the
-- existence of a table alone.
CREATE VIEW integratedb.claimed_columns AS
SELECT s.id AS stakeholder_id,
       s.name AS stakeholder,
       c.id AS claim_id,
       a.schema_name::text AS schema_name,
       a.table_name::text AS table_name,
       col.column_name::text AS column_name,
       col.data_type AS type,
       col.min_length,
       col.is_nullable,
       c.optional OR coalesce(col.optional, false) AS optional,
       a.position AS alternative,
       (SELECT count(*)::integer
        FROM integratedb.claim_alternative other
        WHERE other.claim_id = c.id) AS alternatives
FROM integratedb.stakeholder s
JOIN integratedb.spec ON spec.stakeholder_id = s.id
JOIN integratedb.claim c ON c.spec_id = spec.id
JOIN integratedb.claim_alternative a ON a.claim_id = c.id
LEFT JOIN integratedb.claim_column col
       ON col.claim_id = a.claim_id AND col.alternative = a.position;

-- The names alone, for those who may see claims but not the tables.
CREATE VIEW integratedb.stakeholder_names AS
SELECT id, name FROM integratedb.stakeholder;
