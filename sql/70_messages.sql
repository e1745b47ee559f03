-- What the WAL does not say by itself: logical messages with the prefix `integratedb`, in the transaction that they
-- are about. Only once somebody reads: as soon as the publication is there.
--
--   {"schema": "CREATE TABLE"}                    something that could change an answer, by its command
--   {"refresh": OID}                              a materialized view got new rows
--   {"published": […], "unpublished": […]}        tables joined or left
--   {"subscriptions": true}                       notifications, or what they are about, may have changed
--
-- Anybody may write such a message, so a reader may forget because of one, but must not trust one: whether a table is
-- a member is in pg_publication_rel. These functions call nothing of the library, so that DDL works without it.

-- By changes of the contract: a spec that came or went, a sync, a stakeholder's new name. Whatever else changes the
-- answer of integratedb.subscriptions() is DDL, such as a partition or a table that comes, and told as such: a reader of
-- subscriptions asks again after {"schema": …} as well.
CREATE FUNCTION integratedb.tell_subscriptions() RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_logical_emit_message(true, 'integratedb', '{"subscriptions": true}')
    WHERE EXISTS (SELECT FROM pg_publication WHERE pubname = 'integratedb')
$$;

-- The members whose replica identity has just become unusable leave before anybody writes to them.
CREATE FUNCTION integratedb.guard_members() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lost oid[];
    one  oid;
    why  text;
BEGIN
    SELECT array_agg(c.oid) INTO lost
    FROM pg_publication p
    JOIN pg_publication_rel r ON r.prpubid = p.oid
    JOIN pg_class c ON c.oid = r.prrelid
    -- The part of integratedb.publication_obstacle that DDL can bring about, at once for all: every DDL waits for it.
    WHERE p.pubname = 'integratedb' AND c.relkind = 'r' AND c.relreplident <> 'f'
      AND NOT EXISTS (
          SELECT FROM pg_index i
          WHERE i.indrelid = c.oid
            AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
            AND i.indisvalid AND i.indislive AND i.indisunique AND i.indimmediate AND i.indpred IS NULL);
    IF lost IS NULL THEN
        RETURN;
    END IF;
    FOREACH one IN ARRAY lost LOOP
        why := integratedb.alter_publication('DROP', one);
        IF why IS NOT NULL THEN
            RAISE WARNING 'the publication integratedb still has the table %: %', one::regclass, why
                USING HINT = 'Its UPDATE and DELETE fail until it leaves: SELECT integratedb.unpublish(ARRAY[…]).';
        END IF;
    END LOOP;
    PERFORM integratedb.tell_membership('{}', lost);
END
$$;

CREATE FUNCTION integratedb.tell_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    concerns boolean;
    view     oid;
BEGIN
    IF tg_tag IN ('COMMENT', 'SECURITY LABEL')
       OR NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'integratedb') THEN
        RETURN;
    END IF;
    IF tg_tag IN ('ALTER PUBLICATION', 'CREATE PUBLICATION')
       AND current_setting('integratedb.own_ddl', true) = 'on' THEN
        RETURN;
    END IF;
    IF tg_event = 'sql_drop' THEN
        -- What goes with a temporary object, such as the rule of a view, is not always told as temporary.
        SELECT coalesce(bool_or(NOT d.is_temporary) FILTER (WHERE d.original), true) INTO concerns
        FROM pg_event_trigger_dropped_objects() d;
    ELSIF tg_tag = 'REFRESH MATERIALIZED VIEW' THEN
        FOR view IN SELECT c.objid FROM pg_event_trigger_ddl_commands() c LOOP
            PERFORM pg_logical_emit_message(true, 'integratedb', jsonb_build_object('refresh', view::bigint)::text);
        END LOOP;
        RETURN;
    ELSE
        SELECT bool_or(c.schema_name IS DISTINCT FROM 'pg_temp') INTO concerns FROM pg_event_trigger_ddl_commands() c;
        -- An identity goes with an index, a constraint, a column or a setting of the table.
        PERFORM integratedb.guard_members();
    END IF;
    IF concerns THEN
        PERFORM pg_logical_emit_message(true, 'integratedb', jsonb_build_object('schema', tg_tag)::text);
    END IF;
END
$$;

CREATE EVENT TRIGGER integratedb_tell_ddl ON ddl_command_end EXECUTE FUNCTION integratedb.tell_ddl();
CREATE EVENT TRIGGER integratedb_tell_drop ON sql_drop EXECUTE FUNCTION integratedb.tell_ddl();
-- Also where session_replication_role is replica: a cache has to know all the same.
ALTER EVENT TRIGGER integratedb_tell_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER integratedb_tell_drop ENABLE ALWAYS;
