-- Stakeholders and their roles. A password never comes here: the caller sends a SCRAM-SHA-256 verifier
-- (RFC 5803), so that neither a log nor a statistics view can show one.

CREATE FUNCTION integratedb.check_stakeholder(name text, verifier text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    folded text := lower(btrim(name));
BEGIN
    IF folded IS NULL OR folded !~ '^[a-z_][a-z0-9_]{0,31}$' THEN
        RAISE EXCEPTION 'not a stakeholder name: %', quote_nullable(name)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'A name has 1 to 32 letters, digits and underscores, and no digit first.';
    END IF;
    IF folded LIKE 'pg\_%' OR folded IN ('public', 'none', 'information_schema', 'integratedb') THEN
        RAISE EXCEPTION 'the name % is reserved', folded
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Choose another name.';
    END IF;
    IF verifier IS NULL
       OR verifier !~ '^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$' THEN
        RAISE EXCEPTION 'the password is not given as a SCRAM-SHA-256 verifier'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Clients such as psql''s \password compute one; a password itself is not accepted.';
    END IF;
    RETURN folded;
END
$$;

CREATE FUNCTION integratedb.create_stakeholder(name text, verifier text, adopt_schema boolean DEFAULT false)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    folded text := integratedb.check_stakeholder(name, verifier);
    new_id bigint;
BEGIN
    IF EXISTS (SELECT FROM integratedb.stakeholder s WHERE s.name = folded)
       OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = folded) THEN
        RAISE EXCEPTION 'a stakeholder or role named % exists already', folded
            USING ERRCODE = 'duplicate_object', HINT = 'Choose another name.';
    END IF;
    IF NOT coalesce(adopt_schema, false)
       AND EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = folded) THEN
        RAISE EXCEPTION 'a schema named % exists already', folded
            USING ERRCODE = 'duplicate_schema',
                  HINT = 'Choose another name, or ask to adopt the schema.';
    END IF;
    EXECUTE format('CREATE ROLE %I LOGIN PASSWORD %L', folded, verifier);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), folded);
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', folded);
    EXECUTE format('GRANT ALL ON SCHEMA %I TO %I', folded, folded);
    INSERT INTO integratedb.stakeholder (name) VALUES (folded) RETURNING id INTO new_id;
    RETURN new_id;
END
$$;

CREATE FUNCTION integratedb.rename_stakeholder(stakeholder_id bigint, new_name text, verifier text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
AS $$
DECLARE
    folded   text := integratedb.check_stakeholder(new_name, verifier);
    old_name text;
    before   bigint := (SELECT count(*) FROM integratedb.unmet_claims(NULL));
BEGIN
    SELECT s.name INTO old_name FROM integratedb.stakeholder s WHERE s.id = stakeholder_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no stakeholder with the id %', coalesce(stakeholder_id::text, 'NULL')
            USING ERRCODE = 'no_data_found';
    END IF;
    IF folded <> old_name THEN
        IF EXISTS (SELECT FROM integratedb.stakeholder s WHERE s.name = folded)
           OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = folded) THEN
            RAISE EXCEPTION 'a stakeholder or role named % exists already', folded
                USING ERRCODE = 'duplicate_object', HINT = 'Choose another name.';
        END IF;
        IF EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = folded) THEN
            RAISE EXCEPTION 'a schema named % exists already', folded
                USING ERRCODE = 'duplicate_schema', HINT = 'Choose another name.';
        END IF;
        UPDATE integratedb.stakeholder SET name = folded, updated_at = now() WHERE id = stakeholder_id;
        EXECUTE format('ALTER ROLE %I RENAME TO %I', old_name, folded);
        IF EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = old_name) THEN
            EXECUTE format('ALTER SCHEMA %I RENAME TO %I', old_name, folded);
        END IF;
        IF EXISTS (SELECT FROM integratedb.spec s
                   WHERE s.stakeholder_id = rename_stakeholder.stakeholder_id AND s.type = 'NOTIFICATIONS') THEN
            PERFORM integratedb.tell_subscriptions();
        END IF;
    END IF;
    EXECUTE format('ALTER ROLE %I PASSWORD %L', folded, verifier);
    -- Others may have claimed tables under the schema's old name. What was unmet before is not the rename's
    -- fault and does not stand in its way.
    IF before = 0 OR (SELECT count(*) FROM integratedb.unmet_claims(NULL)) > before THEN
        PERFORM integratedb.validate(100, false);
    END IF;
END
$$;

CREATE FUNCTION integratedb.drop_stakeholder(stakeholder_id bigint, all_or_nothing boolean DEFAULT false)
RETURNS TABLE (kept text, reason text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
AS $$
DECLARE
    name text;
    why  text;
    is_left boolean := false;
BEGIN
    SELECT s.name INTO name FROM integratedb.stakeholder s WHERE s.id = stakeholder_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no stakeholder with the id %', coalesce(stakeholder_id::text, 'NULL')
            USING ERRCODE = 'no_data_found';
    END IF;
    PERFORM integratedb.contract_drop(stakeholder_id, NULL);
    DELETE FROM integratedb.granted_column g WHERE g.stakeholder_id = drop_stakeholder.stakeholder_id;
    DELETE FROM integratedb.granted_schema g WHERE g.stakeholder_id = drop_stakeholder.stakeholder_id;
    DELETE FROM integratedb.stakeholder s WHERE s.id = stakeholder_id;

    IF EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = name) THEN
        BEGIN
            EXECUTE format('DROP SCHEMA %I RESTRICT', name);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            IF all_or_nothing THEN
                RAISE;
            END IF;
            GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
            kept := format('schema %I', name);
            reason := why;
            is_left := true;
            RETURN NEXT;
        END;
    END IF;
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = name) THEN
        BEGIN
            EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM %I', current_database(), name);
            IF is_left THEN
                -- Without this the role could not go even if it owned nothing of what is left.
                EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', name, name);
            END IF;
            EXECUTE format('DROP ROLE %I', name);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            IF all_or_nothing THEN
                RAISE;
            END IF;
            GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
            -- What it owns stays, but nobody logs in as a stakeholder that is gone.
            EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', name);
            kept := format('role %I', name);
            reason := why || E'\nThe role can no longer log in.';
            RETURN NEXT;
        END;
    END IF;
END
$$;
