-- Forgets the fingerprints of what no spec names any more.
DELETE FROM integratedb.relation r
WHERE NOT EXISTS (SELECT FROM integratedb.spec_target t
                  WHERE t.schema_name = r.schema_name
                    AND (r.table_name = '' OR t.table_name IN ('', r.table_name)))
