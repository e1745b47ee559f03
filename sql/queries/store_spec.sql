-- $1: stakeholder id, $2: type, $3: document. The id of the spec.
INSERT INTO integratedb.spec (stakeholder_id, type, document)
VALUES ($1::bigint, $2, $3::jsonb)
ON CONFLICT (stakeholder_id, type) DO UPDATE SET document = excluded.document, updated_at = now()
RETURNING id::text
