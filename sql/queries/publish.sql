-- $1: oids. Has the tables join the publication; for those that could not, why.
SELECT coalesce(jsonb_object_agg(p.oid, p.why) FILTER (WHERE p.why IS NOT NULL), '{}')::text
FROM integratedb.publish(ARRAY(SELECT value::oid FROM jsonb_array_elements_text($1::jsonb))) p
