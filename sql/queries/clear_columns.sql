-- $1: ids of claims. Children go before parents, so that no cascade has to find rows which a REPEATABLE READ
-- transaction's own snapshot does not show.
DELETE FROM integratedb.claim_column
WHERE claim_id IN (SELECT value::bigint FROM jsonb_array_elements_text($1::jsonb))
