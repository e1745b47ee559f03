-- What users, migrations and the sidecar call. The judgement itself is in the extension's library; these
-- functions give it its rights (SECURITY DEFINER, search_path pinned) and put its results into words.

-- A stored claim in the shape the library reads.
CREATE FUNCTION integratedb.claim_json(claim integratedb.claim) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'id', claim.id,
        'key', jsonb_build_object('item', claim.item, 'table', claim.table_name),
        'optional', claim.optional,
        'met', claim.met,
        'told', (SELECT spec.type = 'NOTIFICATIONS' FROM integratedb.spec WHERE spec.id = claim.spec_id),
        'alternatives', coalesce(jsonb_agg(jsonb_build_object(
            'relation', jsonb_build_object('schema', a.schema_name, 'table', a.table_name),
            'columns', (
                SELECT coalesce(jsonb_agg(c.json ORDER BY c.position), '[]')
                FROM (SELECT col.position,
                             jsonb_build_object(
                                 'field', min(col.field),
                                 'optional', bool_or(col.optional),
                                 'alternatives', jsonb_agg(jsonb_build_object(
                                     'name', col.column_name,
                                     'data_type', col.data_type,
                                     'min_length', col.min_length,
                                     'is_nullable', col.is_nullable) ORDER BY col.shape)) AS json
                      FROM integratedb.claim_column col
                      WHERE col.claim_id = claim.id AND col.alternative = a.position
                      GROUP BY col.position) c)) ORDER BY a.position), '[]'))
    FROM integratedb.claim_alternative a
    WHERE a.claim_id = claim.id
$$;

-- The library's JSON as rows.
CREATE FUNCTION integratedb.failures(json text)
RETURNS TABLE (claim_id bigint, stakeholder text, path text, field text, property text, expected text,
               actual text, hint text)
LANGUAGE sql IMMUTABLE
AS $$
    SELECT *
    FROM jsonb_to_recordset(json::jsonb) AS x (
        claim_id bigint, stakeholder text, path text, field text, property text, expected text,
        actual text, hint text)
$$;

CREATE FUNCTION integratedb.unmet_claims(max_results integer DEFAULT 100)
RETURNS TABLE (claim_id bigint, stakeholder text, path text, field text, property text, expected text,
               actual text, hint text)
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off
AS $$ SELECT * FROM integratedb.failures(integratedb.contract_unmet(coalesce(max_results, 2147483647))) $$;
COMMENT ON FUNCTION integratedb.unmet_claims IS
    'Claims that the database does not satisfy now, one row for each table or column that fails';

CREATE FUNCTION integratedb.sync() RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off
AS $$ SELECT integratedb.contract_sync() $$;
COMMENT ON FUNCTION integratedb.sync IS
    'Expands every spec anew and brings claims and grants in line with the database as it is';

-- Validates for one caller: a migration, or the trigger at COMMIT. Returns the number of failures told. Where the caller
-- can't undo what it did, nothing is refused, only warned of.
CREATE FUNCTION integratedb.validate(max_results integer, at_commit boolean, can_undo boolean DEFAULT true)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    unmet      record;
    failures   integer := 0;
    told       text[] := '{}';
    first_line text;
    first_hint text;
    who        text[] := '{}';
    is_warning boolean := at_commit AND (integratedb.enforcement() = 'warn' OR NOT can_undo);
    message    text;
    details    text;
    advice     text;
BEGIN
    FOR unmet IN SELECT * FROM integratedb.failures(integratedb.contract_validate(coalesce(max_results, 2147483647))) LOOP
        failures := failures + 1;
        message := format('%s needs %s: expected %s, found %s',
            unmet.stakeholder,
            unmet.path || coalesce('.' || unmet.field, ''),
            CASE WHEN unmet.property IN ('path', 'name', 'type', 'kind', 'replica_identity') THEN unmet.expected
                 ELSE unmet.property || ' ' || unmet.expected END,
            unmet.actual);
        IF failures = 1 THEN
            first_line := message;
            first_hint := unmet.hint;
        END IF;
        IF failures <= 20 THEN
            told := told || format('claim %s: %s', unmet.claim_id, message);
        END IF;
        IF unmet.stakeholder <> ALL (who) THEN
            who := who || unmet.stakeholder::text;
        END IF;
        -- Client libraries hide DETAIL and HINT of an exception more often than notices.
        IF NOT is_warning THEN
            RAISE NOTICE 'IntegrateDB unmet claim %: %', unmet.claim_id, message USING HINT = unmet.hint;
        END IF;
    END LOOP;

    IF failures = 0 THEN
        DELETE FROM integratedb.pending_validation WHERE xid = pg_current_xact_id_if_assigned();
        IF NOT at_commit THEN
            RAISE NOTICE 'IntegrateDB validated migration OK.';
        END IF;
        RETURN 0;
    END IF;

    message := format('IntegrateDB.InvalidMigration: this migration would break what %s %s on: %s%s',
        array_to_string(who, ', '),
        CASE WHEN cardinality(who) = 1 THEN 'depends' ELSE 'depend' END,
        first_line,
        CASE WHEN failures > 1 THEN format(' (and %s more)', failures - 1) ELSE '' END);
    details := array_to_string(told, E'\n')
        || CASE WHEN failures > 20
                THEN format(E'\n(%s more: SELECT * FROM integratedb_unmet_claims())', failures - 20)
                ELSE '' END;
    advice := 'Please resolve the unmet claims above. ' || first_hint;
    IF is_warning THEN
        RAISE WARNING '%', message USING ERRCODE = '01IDB', DETAIL = details, HINT = advice;
        RETURN failures;
    END IF;
    RAISE EXCEPTION '%', message
        USING ERRCODE = integratedb.refusal_sqlstate(), DETAIL = details, HINT = advice;
END
$$;

CREATE FUNCTION integratedb.validate_migration(max_results integer DEFAULT 100) RETURNS integer
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT integratedb.validate(max_results, false) $$;
COMMENT ON FUNCTION integratedb.validate_migration IS
    'Raises an exception if the database as it is now would break a claim; otherwise syncs and returns 0';

-- Raises unless there are such specs and such a stakeholder.
CREATE FUNCTION integratedb.check_spec(stakeholder_id bigint, type text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF type IS NULL OR type NOT IN ('CLAIMS', 'NOTIFICATIONS') THEN
        RAISE EXCEPTION 'there is no spec of the type %', quote_nullable(type)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'The type is CLAIMS or NOTIFICATIONS.';
    END IF;
    IF NOT EXISTS (SELECT FROM integratedb.stakeholder s WHERE s.id = stakeholder_id) THEN
        RAISE EXCEPTION 'there is no stakeholder with the id %', coalesce(stakeholder_id::text, 'NULL')
            USING ERRCODE = 'no_data_found';
    END IF;
END
$$;

-- Stores a spec and brings claims and grants in line, or raises and stores nothing. The tables of notifications join the
-- publication, for which this may have to wait for a lock: with its short deadlock timeout it is this call that
-- gives way to a migration, and a vacuum that gives way to this call.
CREATE FUNCTION integratedb.put_spec(stakeholder_id bigint, type text, document text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET deadlock_timeout = '100ms'
AS $$
DECLARE
    answer jsonb;
BEGIN
    PERFORM integratedb.check_spec(stakeholder_id, type);
    answer := integratedb.contract_put(stakeholder_id, type, document)::jsonb;
    IF answer ? 'malformed' THEN
        RAISE EXCEPTION 'the spec is malformed: % (at %)',
                answer #>> '{malformed,0,0}', answer #>> '{malformed,0,1}'
            USING ERRCODE = 'IDB03', DETAIL = (answer -> 'malformed')::text,
                  HINT = 'DETAIL lists each mistake with its JSON pointer.';
    ELSIF answer ? 'refused' THEN
        RAISE EXCEPTION 'the database does not provide what the spec claims: %, at %',
                answer #>> '{refused,unmet,0,path}', answer #>> '{refused,unmet,0,pointer}'
            USING ERRCODE = 'IDB02', DETAIL = (answer -> 'refused')::text,
                  HINT = answer #>> '{refused,unmet,0,hint}';
    END IF;
    RETURN answer -> 'stored';
END
$$;

CREATE FUNCTION integratedb.get_spec(stakeholder_id bigint, type text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('type', get_spec.type, 'match', '[]'::jsonb)
        || CASE WHEN get_spec.type = 'NOTIFICATIONS' THEN '{"channels": []}' ELSE '{}' END::jsonb
        || coalesce(spec.document, '{}')
    FROM integratedb.stakeholder s
    LEFT JOIN integratedb.spec ON spec.stakeholder_id = s.id AND spec.type = get_spec.type
    WHERE s.id = get_spec.stakeholder_id
$$;

CREATE FUNCTION integratedb.delete_spec(stakeholder_id bigint, type text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    PERFORM integratedb.check_spec(stakeholder_id, type);
    RETURN integratedb.contract_drop(stakeholder_id, type);
END
$$;
COMMENT ON FUNCTION integratedb.delete_spec IS
    'Removes a spec with its claims and what was granted for them; false if there was none';

CREATE FUNCTION integratedb.subscriptions() RETURNS jsonb
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off
AS $$ SELECT integratedb.contract_subscriptions()::jsonb $$;
COMMENT ON FUNCTION integratedb.subscriptions IS
    'What notifications are about now: one object for each stakeholder, match and table that the log tells of';

-- The functions by their original names, in the schema of CREATE EXTENSION.
CREATE FUNCTION integratedb_sync() RETURNS void
LANGUAGE sql AS $$ SELECT integratedb.sync() $$;

CREATE FUNCTION integratedb_unmet_claims(max_results integer DEFAULT 100)
RETURNS TABLE (claim_id bigint, stakeholder text, path text, field text, property text, expected text,
               actual text, hint text)
LANGUAGE sql AS $$ SELECT * FROM integratedb.unmet_claims(max_results) $$;

CREATE FUNCTION integratedb_validate_migration(max_results integer DEFAULT 100) RETURNS integer
LANGUAGE sql AS $$ SELECT integratedb.validate_migration(max_results) $$;
