-- Which tables the readers of the WAL are told of: the publication `integratedb`, made when the first table is wanted.
-- A table that is a member has to have a replica identity, or Postgres would refuse its UPDATE and DELETE. So nothing
-- joins without one, and what loses it leaves in the same transaction (70_messages.sql).
--
-- A partitioned table is never a member itself: its partitions would become members with it, also later ones, and
-- whether or not they have an identity. Each partition joins by itself. One that comes later is told as a change of
-- the schema, and asked for when a query is described again; of a table that notifications name, it joins when the
-- migration is validated.

-- The tables that hold the rows of these: the leaves of a partitioned table, any other one itself. Takes no locks.
CREATE FUNCTION integratedb.leaves(tables oid[]) RETURNS TABLE (root oid, leaf oid)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE tree (root, oid, relkind) AS (
        SELECT c.oid, c.oid, c.relkind FROM pg_class c WHERE c.oid = ANY (tables)
        UNION ALL
        SELECT t.root, c.oid, c.relkind
        FROM tree t
        JOIN pg_inherits i ON i.inhparent = t.oid
        JOIN pg_class c ON c.oid = i.inhrelid
        WHERE t.relkind = 'p' AND NOT i.inhdetachpending
    )
    SELECT tree.root, tree.oid FROM tree WHERE tree.relkind <> 'p'
$$;

-- Why a table can't be a member; null if it can. An index serves as RelationGetIndexList in relcache.c has it.
CREATE FUNCTION integratedb.publication_obstacle(class pg_catalog.pg_class) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN class.oid IS NULL THEN 'it does not exist'
        WHEN class.oid::bigint < 16384
             OR class.relnamespace = 'information_schema'::regnamespace THEN 'it is a system table'
        WHEN class.relpersistence = 't' THEN 'it is temporary'
        WHEN class.relpersistence = 'u' THEN 'it is unlogged'
        WHEN class.relkind = 'f' THEN 'it is a foreign table'
        WHEN class.relkind <> 'r' THEN 'it is not a table'
        WHEN class.relreplident = 'f' THEN NULL
        WHEN class.relreplident = 'n' THEN 'its replica identity is NOTHING'
        WHEN NOT EXISTS (
            SELECT FROM pg_index i
            WHERE i.indrelid = class.oid
              AND CASE class.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END
              AND i.indisvalid AND i.indislive AND i.indisunique AND i.indimmediate AND i.indpred IS NULL)
            THEN 'it has no primary key, or no valid index for its replica identity'
    END
$$;

CREATE FUNCTION integratedb.tell_membership(published oid[], unpublished oid[]) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_logical_emit_message(true, 'integratedb', jsonb_build_object(
        'published', to_jsonb(published::bigint[]), 'unpublished', to_jsonb(unpublished::bigint[]))::text)
    WHERE cardinality(published) + cardinality(unpublished) > 0
$$;

-- Joins or leaves for one table, and says why not. Only its own settings tell the event trigger that this is ours:
-- whoever could say so falsely could alter the publication by hand as well.
CREATE FUNCTION integratedb.alter_publication(verb text, relation oid) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '50ms'
SET client_min_messages = warning
SET integratedb.own_ddl = 'on'
AS $$
DECLARE
    why text;
BEGIN
    -- DROP TABLE of the same moment waits for this, or is waited for: a name is that of the oid until the end.
    EXECUTE format('ALTER PUBLICATION integratedb %s TABLE ONLY %s', verb,
        (SELECT format('%I.%I', n.nspname, c.relname)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation));
    IF verb = 'ADD' THEN
        -- Looked at once more, now that the lock keeps DDL out.
        SELECT integratedb.publication_obstacle(c) INTO why FROM pg_class c WHERE c.oid = relation;
        IF why IS NOT NULL OR NOT EXISTS (
            SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
            WHERE p.pubname = 'integratedb' AND r.prrelid = relation) THEN
            RAISE EXCEPTION '%', coalesce(why, 'it changed; try again') USING ERRCODE = 'IDB04';
        END IF;
    END IF;
    RETURN NULL;
EXCEPTION
    WHEN lock_not_available THEN
        RETURN 'locked; try again';
    WHEN duplicate_object THEN
        RETURN NULL;
    WHEN undefined_object THEN
        RETURN CASE WHEN verb = 'ADD' THEN 'it changed; try again' END;
    WHEN query_canceled THEN
        RAISE;
    WHEN OTHERS THEN
        RETURN SQLERRM;
END
$$;

CREATE FUNCTION integratedb.publish(tables oid[]) RETURNS TABLE (oid oid, published boolean, why text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
SET integratedb.own_ddl = 'on'
AS $$
#variable_conflict use_column
DECLARE
    wanted record;
    leaf   record;
    joined oid[] := '{}';
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'integratedb') THEN
        BEGIN
            CREATE PUBLICATION integratedb WITH (publish_via_partition_root = false);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    FOR wanted IN
        SELECT DISTINCT w.oid, c.relkind FROM unnest(tables) w (oid) LEFT JOIN pg_class c ON c.oid = w.oid
    LOOP
        oid := wanted.oid;
        why := NULL;
        FOR leaf IN
            SELECT t.oid, integratedb.publication_obstacle(c) AS obstacle, m.prrelid IS NOT NULL AS is_member,
                   c.oid::regclass::text AS name
            FROM (SELECT wanted.oid WHERE wanted.relkind IS DISTINCT FROM 'p'
                  UNION ALL
                  SELECT p.relid::oid FROM pg_partition_tree(wanted.oid) p
                  WHERE wanted.relkind = 'p' AND p.isleaf) t (oid)
            LEFT JOIN pg_class c ON c.oid = t.oid
            LEFT JOIN pg_publication_rel m
                   ON m.prrelid = t.oid
                  AND m.prpubid = (SELECT p.oid FROM pg_publication p WHERE p.pubname = 'integratedb')
            WHERE c.relkind IS DISTINCT FROM 'p'
        LOOP
            IF NOT leaf.is_member AND leaf.obstacle IS NULL THEN
                leaf.obstacle := integratedb.alter_publication('ADD', leaf.oid);
                IF leaf.obstacle IS NULL THEN
                    joined := joined || leaf.oid;
                END IF;
            END IF;
            IF leaf.obstacle IS NOT NULL THEN
                why := CASE WHEN wanted.relkind = 'p'
                            THEN format('partition %s: %s', leaf.name, leaf.obstacle) ELSE leaf.obstacle END;
            END IF;
        END LOOP;
        published := why IS NULL;
        RETURN NEXT;
    END LOOP;
    PERFORM integratedb.tell_membership(joined, '{}');
END
$$;
COMMENT ON FUNCTION integratedb.publish IS
    'Adds tables to the publication integratedb, partitioned ones by their partitions; never one whose UPDATE would fail';

CREATE FUNCTION integratedb.unpublish(tables oid[]) RETURNS TABLE (oid oid, published boolean, why text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
SET integratedb.own_ddl = 'on'
AS $$
#variable_conflict use_column
DECLARE
    wanted record;
    leaf   record;
    gone   oid[] := '{}';
    reason text;
BEGIN
    FOR wanted IN
        SELECT DISTINCT w.oid, c.relkind FROM unnest(tables) w (oid) LEFT JOIN pg_class c ON c.oid = w.oid
    LOOP
        oid := wanted.oid;
        why := NULL;
        FOR leaf IN
            SELECT m.prrelid AS oid
            FROM pg_publication_rel m
            WHERE m.prpubid = (SELECT p.oid FROM pg_publication p WHERE p.pubname = 'integratedb')
              AND (m.prrelid = wanted.oid
                   OR wanted.relkind = 'p'
                      AND m.prrelid IN (SELECT p.relid FROM pg_partition_tree(wanted.oid) p))
        LOOP
            reason := integratedb.alter_publication('DROP', leaf.oid);
            IF reason IS NULL THEN
                gone := gone || leaf.oid;
            ELSE
                why := reason;
            END IF;
        END LOOP;
        published := why IS NOT NULL;
        RETURN NEXT;
    END LOOP;
    PERFORM integratedb.tell_membership('{}', gone);
END
$$;
COMMENT ON FUNCTION integratedb.unpublish IS
    'Takes tables out of the publication integratedb';

-- Equal as long as no role, membership or setting of a role or database changed, in whichever database: what changes
-- them fires no event trigger, and is told only by sessions that have loaded the library.
CREATE FUNCTION integratedb.roles_fingerprint() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT md5(concat_ws('|',
        (SELECT sum(hashtextextended(concat_ws('|', r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls,
                                               r.rolcanlogin, r.rolvaliduntil), 0))
         FROM pg_roles r),
        (SELECT sum(hashtextextended(to_jsonb(m)::text, 0)) FROM pg_auth_members m),
        (SELECT sum(hashtextextended(to_jsonb(s)::text, 0)) FROM pg_db_role_setting s),
        (SELECT sum(hashtextextended(concat_ws('|', d.oid, d.datname, d.datdba, d.datacl), 0)) FROM pg_database d)))
$$;
COMMENT ON FUNCTION integratedb.roles_fingerprint IS
    'A text that changes when roles, their memberships or their settings do';
