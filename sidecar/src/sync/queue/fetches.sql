-- Takes updates that are due, of each tenant as many as it has workers left, and locks them.
-- $1 free workers; $2 those of a tenant; $3, $4 tenants and how many are at work for them; $5 the tenant after which to
-- begin; $6 the lease; $7 its seconds.
--
-- Tenants with something to do are found by stepping through the index, and only as far as there are free workers. They
-- come in turn: first those after the one that was served last. That index alone has both in order, tenant and time: the one
-- of all that was ever fetched is not stepped through.
--
-- How much is due Postgres can't know when it plans: it reckons with a tenth of the table, and would read whole tables for
-- one update. So what is due is put into an array, and of one that it does not know it reckons with a few: it looks each up
-- by its key.
WITH RECURSIVE next (id) AS (
    (SELECT u.tenant_id FROM integratedb.sync_update u
     WHERE u.due_at IS NOT NULL AND u.tenant_id > $5 ORDER BY u.tenant_id, u.due_at LIMIT 1)
    UNION ALL
    SELECT (SELECT u.tenant_id FROM integratedb.sync_update u
            WHERE u.due_at IS NOT NULL AND u.tenant_id > n.id ORDER BY u.tenant_id, u.due_at LIMIT 1)
    FROM next n WHERE n.id IS NOT NULL
),
again (id) AS (
    (SELECT u.tenant_id FROM integratedb.sync_update u
     WHERE u.due_at IS NOT NULL AND u.tenant_id <= $5 ORDER BY u.tenant_id, u.due_at LIMIT 1)
    UNION ALL
    SELECT (SELECT u.tenant_id FROM integratedb.sync_update u
            WHERE u.due_at IS NOT NULL AND u.tenant_id > a.id AND u.tenant_id <= $5
            ORDER BY u.tenant_id, u.due_at LIMIT 1)
    FROM again a WHERE a.id IS NOT NULL
),
due AS (
    SELECT d.model_id
    FROM (SELECT id FROM next UNION ALL SELECT id FROM again) t
    CROSS JOIN LATERAL (
        SELECT u.model_id FROM integratedb.sync_update u
        WHERE u.tenant_id = t.id AND u.due_at <= now()
        ORDER BY u.due_at
        LIMIT greatest($2::integer - coalesce((SELECT b.busy FROM unnest($3::bigint[], $4::integer[]) b (id, busy)
                                               WHERE b.id = t.id), 0), 0)
        FOR NO KEY UPDATE SKIP LOCKED) d
    LIMIT (SELECT $1::integer)
),
taken AS (
    UPDATE integratedb.sync_update u
    SET lease = $6, due_at = now() + make_interval(secs => $7::float8), taken = u.notified, attempts = u.attempts + 1,
        started_at = now(), finished_at = NULL
    FROM unnest(ARRAY(SELECT due.model_id FROM due)) WITH ORDINALITY d (model_id, place) WHERE u.model_id = d.model_id
    RETURNING d.place, u.model_id, u.attempts, u.entry_id, u.is_gone
)
SELECT t.model_id, t.attempts, r.tenant_id, r.class, r.key, r.data, p.class, p.key,
       tenant.version, coalesce(c.version, 0) AS class_version,
       l.id, l.data::text, l.sealed
FROM taken t
JOIN integratedb.sync_model m ON m.id = t.model_id
JOIN integratedb.sync_record r ON r.id = m.record_id
JOIN integratedb.sync_tenant tenant ON tenant.id = r.tenant_id
LEFT JOIN integratedb.sync_record p ON p.id = r.parent_id
LEFT JOIN integratedb.sync_class c ON c.tenant_id = r.tenant_id AND c.name = r.class
LEFT JOIN integratedb.sync_entry l ON l.id = t.entry_id AND NOT t.is_gone
-- Whoever comes last was served last.
ORDER BY t.place
