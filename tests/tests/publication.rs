//! Which tables are published, that publishing breaks nobody's writes, and what the WAL tells of changes of the schema.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Database};
use tokio_postgres::Client;

const SETUP: &str = "
    CREATE TABLE keyed (id int PRIMARY KEY, v int, w int NOT NULL UNIQUE);
    CREATE TABLE other (id int PRIMARY KEY);
    CREATE TABLE full_row (id int); ALTER TABLE full_row REPLICA IDENTITY FULL;
    CREATE TABLE bare (id int);
    CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
    CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
    CREATE VIEW view AS SELECT 1 AS id;
    CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE TABLE high PARTITION OF parted FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
    CREATE TABLE higher PARTITION OF high FOR VALUES FROM (10) TO (15);
    CREATE MATERIALIZED VIEW summary AS SELECT count(*) FROM keyed";

async fn world() -> Result<(Cluster, Database, Client)> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let client = database.connect().await?;
    client.batch_execute(SETUP).await?;
    client.query("SELECT pg_create_logical_replication_slot('reader', 'pgoutput')", &[]).await?;
    Ok((cluster, database, client))
}

/// Publishes tables by name and gives what was refused, as `name: why`.
async fn publish(client: &Client, names: &[&str]) -> Result<Vec<String>> {
    call(client, "publish", names).await
}

async fn call(client: &Client, function: &str, names: &[&str]) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT coalesce(p.oid::regclass::text, '?'), p.published, p.why \
         FROM integratedb.{function}(ARRAY(SELECT n::regclass::oid FROM unnest($1::text[]) n)) p ORDER BY 1"
    );
    let rows = client.query(&sql, &[&names]).await?;
    Ok(rows
        .iter()
        .filter(|row| row.get::<_, Option<String>>(2).is_some())
        .map(|row| {
            format!(
                "{}: {}",
                row.get::<_, String>(0),
                row.get::<_, Option<String>>(2).unwrap_or_default()
            )
        })
        .collect())
}

async fn members(client: &Client) -> Result<Vec<String>> {
    let rows = client
        .query(
            "SELECT prrelid::regclass::text FROM pg_publication_rel r \
             JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = 'integratedb' ORDER BY 1",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The messages since the last call, as pgoutput sends them.
async fn messages(client: &Client) -> Result<Vec<Value>> {
    let rows = client
        .query(
            "SELECT data FROM pg_logical_slot_get_binary_changes('reader', NULL, NULL, \
                 'proto_version', '1', 'publication_names', 'integratedb', 'messages', 'true')",
            &[],
        )
        .await?;
    let mut found = Vec::new();
    for row in &rows {
        let data: &[u8] = row.get(0);
        // Message: 'M', flags, LSN, prefix with NUL, length, content (manual, "Logical Replication Message Formats").
        if let Some(rest) = data.strip_prefix(b"M") {
            let rest = rest.get(9..).context("a short message")?;
            let end = rest.iter().position(|byte| *byte == 0).context("no prefix")?;
            assert_eq!((data[1], &rest[..end]), (1, &b"integratedb"[..]));
            found.push(serde_json::from_slice(rest.get(end + 5..).context("no content")?)?);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn only_what_can_be_updated_all_the_same_is_published() -> Result<()> {
    let (_cluster, _, client) = world().await?;
    let refused = publish(
        &client,
        &[
            "keyed", "full_row", "bare", "nothing", "deferred", "unlogged", "view", "pg_class",
            "parted",
        ],
    )
    .await?;
    assert_eq!(
        refused,
        [
            "bare: it has no primary key, or no valid index for its replica identity",
            "deferred: it has no primary key, or no valid index for its replica identity",
            "nothing: its replica identity is NOTHING",
            "pg_class: it is a system table",
            "unlogged: it is unlogged",
            "view: it is not a table",
        ]
    );
    assert_eq!(members(&client).await?, ["full_row", "higher", "keyed", "low"]);
    client
        .batch_execute(
            "INSERT INTO keyed VALUES (1, 1, 1); UPDATE keyed SET v = 2; DELETE FROM keyed;
             INSERT INTO full_row VALUES (1); UPDATE full_row SET id = 2; DELETE FROM full_row;
             INSERT INTO bare VALUES (1); UPDATE bare SET id = 2; DELETE FROM bare;
             INSERT INTO nothing VALUES (1); UPDATE nothing SET id = 2; DELETE FROM nothing;
             INSERT INTO parted VALUES (1), (11); UPDATE parted SET id = 2 WHERE id = 1; DELETE FROM parted",
        )
        .await?;
    let row = client
        .query_one("SELECT oid, published, why FROM integratedb.publish('{4000000000}')", &[])
        .await?;
    assert_eq!((row.get(1), row.get(2)), (false, Some("it does not exist")));
    Ok(())
}

#[tokio::test]
async fn publishing_twice_and_taking_back() -> Result<()> {
    let (_cluster, _, client) = world().await?;
    assert!(publish(&client, &["keyed", "keyed", "parted"]).await?.is_empty());
    assert!(publish(&client, &["keyed"]).await?.is_empty());
    assert!(call(&client, "unpublish", &["parted", "bare"]).await?.is_empty());
    assert_eq!(members(&client).await?, ["keyed"]);
    let told = messages(&client).await?;
    assert_eq!(told.len(), 2, "nothing but our own changes is told, and each once: {told:?}");
    assert_eq!(told[0]["published"].as_array().map(Vec::len), Some(3));
    assert_eq!(told[1]["unpublished"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[tokio::test]
async fn a_lock_is_not_waited_for() -> Result<()> {
    let (_cluster, database, client) = world().await?;
    publish(&client, &["other"]).await?;
    let holder = database.connect().await?;
    holder.batch_execute("BEGIN; LOCK TABLE keyed IN SHARE UPDATE EXCLUSIVE MODE").await?;
    assert_eq!(publish(&client, &["keyed", "full_row"]).await?, ["keyed: locked; try again"]);
    assert_eq!(members(&client).await?, ["full_row", "other"]);
    holder.batch_execute("COMMIT").await?;
    assert!(publish(&client, &["keyed"]).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_loses_its_identity_leaves_in_the_same_transaction() -> Result<()> {
    let (_cluster, _, client) = world().await?;
    for migration in [
        "ALTER TABLE keyed DROP CONSTRAINT keyed_pkey",
        "ALTER TABLE keyed DROP COLUMN id",
        "ALTER TABLE keyed REPLICA IDENTITY NOTHING",
        "ALTER TABLE keyed REPLICA IDENTITY USING INDEX keyed_w_key; ALTER TABLE keyed DROP CONSTRAINT keyed_w_key",
        "ALTER TABLE keyed REPLICA IDENTITY USING INDEX keyed_w_key; ALTER TABLE keyed DROP COLUMN w",
        "SET session_replication_role = replica; ALTER TABLE keyed DROP CONSTRAINT keyed_pkey",
    ] {
        assert!(publish(&client, &["keyed", "other"]).await?.is_empty(), "{migration}");
        messages(&client).await?;
        client.batch_execute(&format!("BEGIN; {migration}; ROLLBACK")).await?;
        assert_eq!(members(&client).await?, ["keyed", "other"], "rolled back");
        client
            .batch_execute(&format!(
                "BEGIN; {migration}; UPDATE keyed SET v = 1; DELETE FROM keyed; COMMIT"
            ))
            .await
            .context(migration)?;
        assert_eq!(members(&client).await?, ["other"], "{migration}");
        let told = messages(&client).await?;
        assert!(
            told.iter().any(|one| one["unpublished"].as_array().is_some_and(|all| all.len() == 1)),
            "{told:?}"
        );
        assert!(told.contains(&json!({"schema": "ALTER TABLE"})), "{told:?}");
        client
            .batch_execute(
                "RESET session_replication_role; DROP TABLE keyed CASCADE; \
                            CREATE TABLE keyed (id int PRIMARY KEY, v int, w int NOT NULL UNIQUE)",
            )
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_new_partition_is_told_and_joins_when_asked_for() -> Result<()> {
    let (_cluster, _, client) = world().await?;
    publish(&client, &["parted"]).await?;
    messages(&client).await?;
    client
        .batch_execute(
            "CREATE TABLE late (id int NOT NULL); ALTER TABLE late REPLICA IDENTITY NOTHING;
             ALTER TABLE parted ATTACH PARTITION late FOR VALUES FROM (20) TO (30);
             INSERT INTO parted VALUES (21); UPDATE parted SET id = 22 WHERE id = 21",
        )
        .await?;
    assert!(messages(&client).await?.contains(&json!({"schema": "ALTER TABLE"})));
    assert_eq!(
        publish(&client, &["parted"]).await?,
        ["parted: partition public.late: its replica identity is NOTHING"]
    );
    client.batch_execute("ALTER TABLE late REPLICA IDENTITY DEFAULT").await?;
    assert!(publish(&client, &["parted"]).await?.is_empty());
    assert_eq!(members(&client).await?, ["higher", "late", "low"]);
    Ok(())
}

#[tokio::test]
async fn changes_of_the_schema_are_told_once_somebody_reads() -> Result<()> {
    let (_cluster, _, client) = world().await?;
    client.batch_execute("CREATE TABLE before (id int); CREATE ROLE before").await?;
    publish(&client, &["other"]).await?;
    assert_eq!(messages(&client).await?.len(), 1, "only the membership");

    let summary: u32 = client.query_one("SELECT 'summary'::regclass::oid", &[]).await?.get(0);
    for (statement, expected) in [
        ("CREATE TABLE a (id int)", json!("CREATE TABLE")),
        ("ALTER TABLE a ADD b int", json!("ALTER TABLE")),
        ("CREATE ROLE r", json!("GRANT")),
        ("GRANT SELECT ON a TO r", json!("GRANT")),
        ("REVOKE SELECT ON a FROM r", json!("REVOKE")),
        ("CREATE POLICY p ON a USING (true)", json!("CREATE POLICY")),
        ("ALTER POLICY p ON a USING (false)", json!("ALTER POLICY")),
        ("DROP POLICY p ON a", json!("DROP POLICY")),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", json!("CREATE FUNCTION")),
        ("CREATE VIEW w AS SELECT 1 AS id", json!("CREATE VIEW")),
        ("DROP VIEW w", json!("DROP VIEW")),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO r", json!("ALTER DEFAULT PRIVILEGES")),
        ("SELECT 1 AS x INTO made", json!("SELECT INTO")),
        ("ALTER ROLE r BYPASSRLS", json!("GRANT")),
        ("ALTER ROLE r SET search_path = x", json!("GRANT")),
        ("ALTER DATABASE shop SET TimeZone = 'UTC'", json!("GRANT")),
        ("GRANT r TO before", json!("GRANT")),
        ("REASSIGN OWNED BY r TO postgres", json!("GRANT")),
        ("ALTER ROLE r RENAME TO q", json!("GRANT")),
    ] {
        client.batch_execute(statement).await.context(statement)?;
        let told = messages(&client).await?;
        assert!(told.contains(&json!({ "schema": expected })), "{statement}: {told:?}");
    }
    client.batch_execute("REFRESH MATERIALIZED VIEW summary").await?;
    assert_eq!(messages(&client).await?, [json!({ "refresh": summary })]);
    client.batch_execute("BEGIN; CREATE TABLE undone (id int); ROLLBACK").await?;
    client
        .batch_execute(
            "CREATE TEMP TABLE x (id int); CREATE INDEX ON x (id); ALTER TABLE x ADD b int; DROP TABLE x;
             CREATE TEMP VIEW y AS SELECT 1; DROP VIEW y; COMMENT ON TABLE a IS 'x'; SET work_mem = '1MB';
             INSERT INTO other VALUES (1); TRUNCATE other; ANALYZE other",
        )
        .await?;
    assert_eq!(
        messages(&client).await?,
        [Value::Null; 0],
        "nothing that changes an answer by itself"
    );
    client.batch_execute("ALTER PUBLICATION integratedb DROP TABLE other").await?;
    assert_eq!(messages(&client).await?, [json!({"schema": "ALTER PUBLICATION"})], "by hand");
    Ok(())
}

#[tokio::test]
async fn a_failing_statement_keeps_its_error_whole() -> Result<()> {
    let (_cluster, _, client) = world().await?;
    client.query("SELECT integratedb.session_key('{}')", &[]).await?;
    client.batch_execute("INSERT INTO full_row VALUES (1), (1)").await?;
    let error = client
        .batch_execute("ALTER TABLE full_row ADD CONSTRAINT full_row_key UNIQUE (id)")
        .await
        .expect_err("two rows are equal");
    let error = error.as_db_error().context("not of the database")?;
    assert_eq!(error.constraint(), Some("full_row_key"));
    assert_eq!(error.table(), Some("full_row"));
    assert_eq!(error.detail(), Some("Key (id)=(1) is duplicated."));
    Ok(())
}

#[tokio::test]
async fn a_change_of_roles_changes_the_fingerprint() -> Result<()> {
    let (_cluster, _, client) = world().await?;
    let mut known = Vec::<String>::new();
    for change in [
        "SELECT 1",
        "CREATE ROLE r",
        "CREATE ROLE s",
        "ALTER ROLE r BYPASSRLS",
        "GRANT s TO r",
        "REVOKE s FROM r",
        "ALTER ROLE r SET search_path = x",
        "ALTER DATABASE shop SET TimeZone = 'Asia/Tokyo'",
    ] {
        client.batch_execute(change).await?;
        let found: String =
            client.query_one("SELECT integratedb.roles_fingerprint()", &[]).await?.get(0);
        let as_before = change.starts_with("REVOKE") && known.get(3) == Some(&found);
        assert!(!known.contains(&found) || as_before, "{change}");
        known.push(found);
    }
    let again: String =
        client.query_one("SELECT integratedb.roles_fingerprint()", &[]).await?.get(0);
    assert_eq!(known.last(), Some(&again));
    Ok(())
}

#[tokio::test]
async fn the_sidecar_publishes_without_owning_anything() -> Result<()> {
    let (_cluster, database, client) = world().await?;
    client
        .batch_execute(
            "CREATE ROLE sidecar LOGIN PASSWORD 'sidecar'; SELECT integratedb.grant_sidecar('sidecar', true);
             CREATE ROLE app; ALTER TABLE keyed OWNER TO app",
        )
        .await?;
    let sidecar = database.connect_as("sidecar", "sidecar").await?;
    assert!(publish(&sidecar, &["keyed"]).await?.is_empty());
    sidecar
        .batch_execute("SELECT integratedb.roles_fingerprint(); SELECT count(*) FROM integratedb.function_judgements()")
        .await?;
    let row = sidecar
        .query_one("SELECT rolreplication, rolsuper FROM pg_roles WHERE rolname = 'sidecar'", &[])
        .await?;
    assert_eq!((row.get(0), row.get(1)), (true, false));
    Ok(())
}
