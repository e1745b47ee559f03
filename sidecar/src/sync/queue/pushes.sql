-- Takes states that are due, of each integration as many as it has workers left. Those that have to wait for another
-- model are put off; the others are locked.
-- $1 free workers; $2, $3 integrations and how many are at work for them; $4 the integration after which to begin; $5 the
-- lease; $6 its seconds; $7 seconds until it is looked again whether one still has to wait.
--
-- Integrations with something to do are found by stepping through the index, and only as far as there are free workers.
-- They come in turn: first those after the one that was served last. OFFSET 0 has Postgres look each up by its key, and
-- not read them all; so do the arrays and the order, as in fetches.sql. What a state waits for is looked up once for each,
-- as MATERIALIZED has it, and not wherever it is asked.
WITH RECURSIVE next (id) AS (
    (SELECT s.integration_id FROM integratedb.sync_state s
     WHERE s.due_at IS NOT NULL AND s.integration_id > $4 ORDER BY s.integration_id, s.due_at LIMIT 1)
    UNION ALL
    SELECT (SELECT s.integration_id FROM integratedb.sync_state s
            WHERE s.due_at IS NOT NULL AND s.integration_id > n.id ORDER BY s.integration_id, s.due_at LIMIT 1)
    FROM next n WHERE n.id IS NOT NULL
),
again (id) AS (
    (SELECT s.integration_id FROM integratedb.sync_state s
     WHERE s.due_at IS NOT NULL AND s.integration_id <= $4 ORDER BY s.integration_id, s.due_at LIMIT 1)
    UNION ALL
    SELECT (SELECT s.integration_id FROM integratedb.sync_state s
            WHERE s.due_at IS NOT NULL AND s.integration_id > a.id AND s.integration_id <= $4
            ORDER BY s.integration_id, s.due_at LIMIT 1)
    FROM again a WHERE a.id IS NOT NULL
),
due AS (
    SELECT i.id AS integration_id, d.*
    FROM (SELECT id FROM next UNION ALL SELECT id FROM again) t
    CROSS JOIN LATERAL (
        SELECT i.id,
               i.concurrency - coalesce((SELECT b.busy FROM unnest($2::bigint[], $3::integer[]) b (id, busy)
                                         WHERE b.id = i.id), 0) AS free
        FROM integratedb.sync_integration i WHERE i.id = t.id AND i.state = 'active' OFFSET 0) i
    CROSS JOIN LATERAL (
        SELECT s.model_id, s.wanted, s.is_gone, s.presence FROM integratedb.sync_state s
        WHERE s.integration_id = i.id AND s.due_at <= now()
        ORDER BY s.due_at
        LIMIT greatest(i.free, 0)
        FOR NO KEY UPDATE SKIP LOCKED) d
    LIMIT (SELECT $1::integer)
),
judged AS MATERIALIZED (
    SELECT due.*, i.version, r.tenant_id, r.class, r.key, p.class AS parent_class, p.key AS parent_key,
           CASE WHEN due.is_gone THEN (
               -- A child that is to be deleted as well, or may be as soon as it is fetched, or is being pushed.
               SELECT child.id
               -- By their parent, however many states the integration has.
               FROM (SELECT cm.id FROM integratedb.sync_record c
                     JOIN integratedb.sync_model cm ON cm.record_id = c.id
                     WHERE c.parent_id = r.id AND c.id <> r.id OFFSET 0) child
               CROSS JOIN LATERAL (
                   SELECT s.presence, s.is_gone, s.lease, s.waits_for FROM integratedb.sync_state s
                   WHERE s.integration_id = due.integration_id AND s.model_id = child.id OFFSET 0) cs
               JOIN integratedb.sync_update cu ON cu.model_id = child.id
               WHERE cs.presence <> 'absent' AND (cs.is_gone OR cu.due_at IS NOT NULL OR cs.lease IS NOT NULL)
                 AND cs.waits_for IS DISTINCT FROM due.model_id
               LIMIT 1)
           WHEN p.id <> r.id THEN (
               -- A parent that is to be there and is not yet, or may be as soon as it is fetched; or one that is to be
               -- deleted, after which this child is no more either, as a rule. That of the model that an integration is for
               -- never goes there.
               SELECT pm.id
               FROM integratedb.sync_model pm
               JOIN integratedb.sync_update pu ON pu.model_id = pm.id
               LEFT JOIN integratedb.sync_state ps
                      ON ps.integration_id = due.integration_id AND ps.model_id = pm.id
               WHERE pm.record_id = p.id
                 AND CASE WHEN ps.model_id IS NULL
                          THEN pu.entry_id IS NULL AND (i.classes IS NULL OR p.class = ANY (i.classes))
                               AND i.model_id IS DISTINCT FROM due.model_id
                          ELSE ps.presence <> CASE WHEN ps.is_gone THEN 'absent' ELSE 'present' END
                               AND ps.waits_for IS DISTINCT FROM due.model_id END)
           END AS waits_for
    -- As they were locked: their rows may be later ones than this statement reads.
    FROM unnest(ARRAY(SELECT due.integration_id FROM due), ARRAY(SELECT due.model_id FROM due),
                ARRAY(SELECT due.wanted FROM due), ARRAY(SELECT due.is_gone FROM due),
                ARRAY(SELECT due.presence FROM due))
         WITH ORDINALITY due (integration_id, model_id, wanted, is_gone, presence, place)
    JOIN integratedb.sync_integration i ON i.id = due.integration_id
    JOIN integratedb.sync_model m ON m.id = due.model_id
    JOIN integratedb.sync_record r ON r.id = m.record_id
    LEFT JOIN integratedb.sync_record p ON p.id = r.parent_id
),
taken AS (
    UPDATE integratedb.sync_state s
    SET waits_for = j.waits_for,
        lease = CASE WHEN j.waits_for IS NULL THEN $5::bigint END,
        due_at = now() + make_interval(secs => CASE WHEN j.waits_for IS NULL THEN $6::float8 ELSE $7::float8 END),
        attempts = CASE WHEN j.waits_for IS NULL THEN s.attempts + 1 ELSE s.attempts END,
        started_at = CASE WHEN j.waits_for IS NULL THEN now() ELSE s.started_at END,
        finished_at = CASE WHEN j.waits_for IS NOT NULL THEN s.finished_at END,
        -- From here on the target may have it, or may have it no more.
        presence = CASE WHEN j.waits_for IS NOT NULL THEN s.presence
                        WHEN j.is_gone OR s.presence = 'absent' THEN 'unknown'
                        ELSE s.presence END
    FROM judged j WHERE s.integration_id = j.integration_id AND s.model_id = j.model_id
    RETURNING j.*, s.attempts
)
SELECT j.integration_id, j.version, j.model_id, j.attempts, j.tenant_id, j.class, j.key, j.parent_class, j.parent_key,
       j.wanted, e.id, e.data::text, e.sealed, l.id, l.data::text, l.sealed, j.waits_for,
       w.succeeded_at AS waited_for_at
FROM taken j
-- As it was judged by: none of this is later than the beginning of the statement.
LEFT JOIN LATERAL (
    SELECT w.succeeded_at FROM integratedb.sync_state w
    WHERE w.integration_id = j.integration_id AND w.model_id = j.waits_for OFFSET 0) w ON true
-- One that was appended since this statement began is not seen yet.
LEFT JOIN integratedb.sync_entry e ON e.id = j.wanted AND j.waits_for IS NULL
LEFT JOIN LATERAL (
    SELECT l.id, l.data, l.sealed FROM integratedb.sync_entry l
    WHERE j.is_gone AND l.model_id = j.model_id AND NOT l.is_gone
    ORDER BY l.id DESC LIMIT 1) l ON j.waits_for IS NULL
-- Whoever comes last was served last.
ORDER BY j.place
