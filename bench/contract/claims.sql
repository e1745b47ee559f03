-- Specs written straight into their tables, for 1,000 PUTs would take longer than what is measured. The sync
-- that follows is the real one: it expands and grants everything.
INSERT INTO integratedb.stakeholder (name)
SELECT format('s%s', n) FROM generate_series(1, :stakeholders) n
ON CONFLICT DO NOTHING;
SELECT format('CREATE ROLE %I', name) FROM integratedb.stakeholder
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
INSERT INTO integratedb.spec (stakeholder_id, type, document)
SELECT s.id, 'CLAIMS', jsonb_build_object('match', jsonb_agg(jsonb_build_object(
    'path', format('public.t%s', (s.id * 10 + k) % 2000 + 1),
    'fields', (SELECT jsonb_agg(format('c%s', c)) FROM generate_series(1, 10) c)) ORDER BY k))
FROM integratedb.stakeholder s, generate_series(1, 10) k
GROUP BY s.id
ON CONFLICT DO NOTHING;
INSERT INTO integratedb.spec_target (schema_name, table_name, spec_id)
SELECT 'public', format('t%s', (s.stakeholder_id * 10 + k) % 2000 + 1), s.id
FROM integratedb.spec s, generate_series(1, 10) k
ON CONFLICT DO NOTHING;
-- Everything is looked at anew.
DELETE FROM integratedb.relation;
SELECT integratedb_sync() \gset ignored_
VACUUM ANALYZE;
