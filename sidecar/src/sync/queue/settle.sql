-- Appends an entry for each of these updates, ends it, and makes the entry due wherever the model goes.
-- $1 models; $2 the leases they were fetched under; $3 whether they are gone; $4 data; $5 sealed data.
WITH held AS (
    SELECT u.model_id, u.tenant_id, d.is_gone, d.data, d.sealed
    FROM unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::text[], $5::bytea[])
         d (model_id, lease, is_gone, data, sealed)
    JOIN integratedb.sync_update u USING (model_id)
    WHERE u.lease = d.lease
    ORDER BY u.model_id
    FOR NO KEY UPDATE OF u
),
entry AS (
    INSERT INTO integratedb.sync_entry (tenant_id, model_id, is_gone, data, sealed)
    SELECT tenant_id, model_id, is_gone, data::json, sealed FROM held
    RETURNING id, tenant_id, model_id, is_gone
),
updated AS (
    UPDATE integratedb.sync_update u
    SET lease = NULL, entry_id = e.id, is_gone = e.is_gone, fetched = u.taken, attempts = 0, success = true, error = NULL,
        finished_at = clock_timestamp(),
        -- Who was notified of while it was fetched may be another by now.
        due_at = CASE WHEN u.notified > u.taken THEN clock_timestamp() END
    FROM entry e WHERE u.model_id = e.model_id
)
INSERT INTO integratedb.sync_state AS s (integration_id, model_id, wanted, is_gone, due_at)
SELECT i.id, e.model_id, e.id, e.is_gone, clock_timestamp()
FROM entry e
JOIN integratedb.sync_model m ON m.id = e.model_id
JOIN integratedb.sync_record r ON r.id = m.record_id
JOIN integratedb.sync_integration i ON i.tenant_id = e.tenant_id AND {IN_SCOPE}
-- Who was never there need not be deleted.
WHERE NOT e.is_gone
   OR EXISTS (SELECT FROM integratedb.sync_state k WHERE k.integration_id = i.id AND k.model_id = e.model_id)
ORDER BY 1, 2
ON CONFLICT (integration_id, model_id) DO UPDATE
SET wanted = EXCLUDED.wanted, is_gone = EXCLUDED.is_gone, waits_for = NULL,
    due_at = CASE WHEN s.lease IS NULL THEN EXCLUDED.due_at ELSE s.due_at END
