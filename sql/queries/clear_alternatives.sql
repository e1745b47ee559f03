-- $1: ids of claims.
DELETE FROM integratedb.claim_alternative
WHERE claim_id IN (SELECT value::bigint FROM jsonb_array_elements_text($1::jsonb))
