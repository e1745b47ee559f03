SELECT c.name, c.kind, c.settings, c.is_paused, c.disabled_because, s.epoch, s.lsn, s.index,
       s.attempts, s.failures, s.delivered, s.last_error,
       s.failing_since IS NOT NULL AS is_failing,
       to_char(s.next_attempt_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS next_attempt_at,
       to_char(s.last_delivered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS last_delivered_at,
       (SELECT count(*) FROM integratedb.channel_delivery d WHERE d.channel_id = c.id) AS waiting,
       (SELECT count(*) FROM integratedb.dead_letter l WHERE l.channel_id = c.id) AS dead_letters,
       coalesce(lag.events, 0)::bigint AS lag_events,
       coalesce(extract(epoch FROM now() - lag.since), 0)::double precision AS lag_seconds
FROM integratedb.channel c
JOIN integratedb.channel_state s ON s.channel_id = c.id
LEFT JOIN LATERAL (
    SELECT sum(l.changes) AS events, min(l.stored_at) AS since
    FROM integratedb.event_log l
    -- Sockets have no place of their own.
    WHERE c.kind <> 'SOCKET' AND (l.epoch, l.last_lsn, l.last_index) > (s.epoch, s.lsn, s.index)
) lag ON true
WHERE c.stakeholder_id = $1 AND ($2::text IS NULL OR c.name > $2)
  -- As ChannelState has them.
  AND ($3::text IS NULL OR $3 = CASE WHEN c.disabled_because IS NOT NULL THEN 'disabled'
                                     WHEN c.is_paused THEN 'paused'
                                     WHEN s.failing_since IS NOT NULL THEN 'failing'
                                     ELSE 'running' END)
ORDER BY c.name
LIMIT $4
