-- Nothing here that changes or shows anything is for everyone. Two kinds of roles are let in by name: the sidecar's,
-- and those that run migrations. Two functions are for all, because a cache asks them as the role that is connected:
-- they only tell a role what it could find out itself.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA integratedb FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA integratedb FROM PUBLIC;
REVOKE ALL ON FUNCTION integratedb_sync() FROM PUBLIC;
REVOKE ALL ON FUNCTION integratedb_unmet_claims(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION integratedb_validate_migration(integer) FROM PUBLIC;

GRANT USAGE ON SCHEMA integratedb TO PUBLIC;
GRANT EXECUTE ON FUNCTION integratedb.describe_query(text, oid[]), integratedb.session_key(text[]) TO PUBLIC;

CREATE FUNCTION integratedb.grant_migrator(role name) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA integratedb TO %I', role);
    EXECUTE format('GRANT SELECT ON integratedb.claimed_columns, integratedb.stakeholder_names TO %I', role);
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION integratedb.sync(), integratedb.unmet_claims(integer), '
        'integratedb.validate_migration(integer), @extschema@.integratedb_sync(), '
        '@extschema@.integratedb_unmet_claims(integer), '
        '@extschema@.integratedb_validate_migration(integer) TO %I', role);
END
$$;
COMMENT ON FUNCTION integratedb.grant_migrator IS
    'Lets a role validate its migrations and see who claims what';

-- `replication` lets the role read the WAL of the whole cluster, which a cache needs and nothing else here.
CREATE FUNCTION integratedb.grant_sidecar(role name, replication boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM integratedb.grant_migrator(role);
    -- The sidecar keeps its own tables (users, tokens) in this schema.
    EXECUTE format('GRANT CREATE ON SCHEMA integratedb TO %I', role);
    EXECUTE format('GRANT SELECT ON integratedb.stakeholder, integratedb.spec TO %I', role);
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION integratedb.create_stakeholder(text, text, boolean), '
        'integratedb.rename_stakeholder(bigint, text, text), '
        'integratedb.drop_stakeholder(bigint, boolean), '
        'integratedb.put_spec(bigint, text, text), integratedb.get_spec(bigint, text), '
        'integratedb.delete_spec(bigint, text), integratedb.subscriptions(), '
        'integratedb.publish(oid[]), integratedb.unpublish(oid[]), integratedb.roles_fingerprint(), '
        'integratedb.function_judgements(), integratedb.read_as(bigint, text) TO %I', role);
    IF replication THEN
        EXECUTE format('ALTER ROLE %I REPLICATION', role);
    END IF;
END
$$;
COMMENT ON FUNCTION integratedb.grant_sidecar IS
    'Lets a role run the sidecar, with replication also caches; it need not be a superuser';

REVOKE ALL ON FUNCTION integratedb.grant_migrator(name), integratedb.grant_sidecar(name, boolean) FROM PUBLIC;
