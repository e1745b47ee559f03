-- $1: ids of claims.
DELETE FROM integratedb.claim
WHERE id IN (SELECT value::bigint FROM jsonb_array_elements_text($1::jsonb))
