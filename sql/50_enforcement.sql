-- integratedb.enforcement = warn | strict: DDL is noted as it happens and validated at COMMIT, so a migration
-- may pass through states in between that would break a claim. The note is a row whose deferred trigger
-- validates; it is gone again when the transaction ends.

CREATE FUNCTION integratedb.validate_at_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Gone if the migration validated itself after its last DDL.
    DELETE FROM integratedb.pending_validation WHERE xid = NEW.xid;
    IF FOUND AND integratedb.enforcement() <> 'off' THEN
        PERFORM integratedb.validate(100, true);
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER validate_at_commit
    AFTER INSERT ON integratedb.pending_validation
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION integratedb.validate_at_commit();

CREATE FUNCTION integratedb.note_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    concerns boolean;
BEGIN
    IF integratedb.enforcement() = 'off' THEN
        RETURN;
    END IF;
    -- No claim can be on a temporary table, and the extension's own script has nothing to validate yet.
    IF tg_event = 'sql_drop' THEN
        SELECT EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d WHERE NOT d.is_temporary)
        INTO concerns;
    ELSE
        SELECT EXISTS (SELECT FROM pg_event_trigger_ddl_commands() c
                       WHERE c.schema_name IS DISTINCT FROM 'pg_temp' AND NOT c.in_extension)
        INTO concerns;
    END IF;
    IF tg_tag = 'DROP INDEX' AND current_query() ~* '\mconcurrently\M' THEN
        -- Its earlier transactions have made the index invalid already. To refuse the last one would bring nothing back,
        -- and would leave a table without identity in the publication, where its UPDATE fails.
        PERFORM integratedb.validate(100, true, false);
    ELSIF concerns THEN
        INSERT INTO integratedb.pending_validation (xid) VALUES (pg_current_xact_id())
        ON CONFLICT DO NOTHING;
    END IF;
END
$$;

CREATE EVENT TRIGGER integratedb_note_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER DOMAIN', 'ALTER EXTENSION', 'ALTER FOREIGN TABLE', 'ALTER MATERIALIZED VIEW',
                 'ALTER SCHEMA', 'ALTER TABLE', 'ALTER TYPE', 'ALTER VIEW', 'CREATE EXTENSION',
                 'CREATE FOREIGN TABLE', 'CREATE MATERIALIZED VIEW', 'CREATE SCHEMA', 'CREATE TABLE',
                 'CREATE TABLE AS', 'CREATE VIEW', 'IMPORT FOREIGN SCHEMA', 'SELECT INTO')
    EXECUTE FUNCTION integratedb.note_ddl();

CREATE EVENT TRIGGER integratedb_note_drop ON sql_drop
    WHEN TAG IN ('ALTER EXTENSION', 'ALTER FOREIGN TABLE', 'ALTER TABLE', 'ALTER TYPE', 'DROP DOMAIN',
                 'DROP EXTENSION', 'DROP FOREIGN TABLE', 'DROP MATERIALIZED VIEW', 'DROP OWNED',
                 'DROP SCHEMA', 'DROP TABLE', 'DROP TYPE', 'DROP VIEW', 'DROP SERVER',
                 'DROP FOREIGN DATA WRAPPER', 'DROP FUNCTION', 'DROP ROUTINE', 'DROP AGGREGATE',
                 'DROP OPERATOR', 'DROP COLLATION', 'DROP INDEX', 'DROP OPERATOR CLASS',
                 'DROP OPERATOR FAMILY')
    EXECUTE FUNCTION integratedb.note_ddl();
