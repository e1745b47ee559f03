-- $1: id of a spec.
DELETE FROM integratedb.spec_target WHERE spec_id = $1::bigint
