//! The contract inside Postgres, with no other process running: what can be claimed, what is granted, what is
//! refused, and what a sync leaves alone.

use anyhow::Result;
use serde_json::{Value, json};
use support::{Cluster, Database};
use tokio_postgres::Client;

const VERIFIER: &str = "SCRAM-SHA-256$4096:jZ0oAN5wNK4vGDs8DJgx4g==$h0GoE3K9tNLcmmGYv8A8NHKO1ERk0Fa\
    OHPfgTZHmnDk=:u1tGHgSiUvY4YsXdBKKhCeE0c4PVPrs7dKzPPIOhEdc=";

async fn world(tables: &str) -> Result<(Cluster, Database, Client)> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let client = database.connect().await?;
    client.batch_execute(tables).await?;
    Ok((cluster, database, client))
}

async fn stakeholder(client: &Client, name: &str) -> Result<i64> {
    let row = client
        .query_one("SELECT integratedb.create_stakeholder($1, $2)", &[&name, &VERIFIER])
        .await?;
    Ok(row.get(0))
}

async fn put(client: &Client, id: i64, matches: Value) -> Result<Value, tokio_postgres::Error> {
    let document = json!({ "match": matches }).to_string();
    let row = client
        .query_one("SELECT integratedb.put_spec($1, 'CLAIMS', $2)", &[&id, &document])
        .await?;
    Ok(row.get(0))
}

/// Runs a migration with its validation; the error is SQLSTATE and message.
async fn migrate(client: &Client, sql: &str) -> Result<(), (String, String)> {
    let sql = format!("BEGIN; {sql}; SELECT integratedb_validate_migration(); COMMIT;");
    let Err(error) = client.batch_execute(&sql).await else { return Ok(()) };
    client.batch_execute("ROLLBACK").await.expect("the connection is alive");
    let error = error.as_db_error().expect("an answer of the database");
    Err((error.code().code().to_owned(), error.message().to_owned()))
}

/// `role column…` of every column grant on public tables.
async fn grants(client: &Client) -> Result<Vec<String>> {
    let rows = client
        .query(
            "SELECT r.rolname || ' ' || c.relname || '.' || a.attname || ' ' || x.privilege_type \
             FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid, aclexplode(a.attacl) x \
             JOIN pg_roles r ON r.oid = x.grantee WHERE NOT a.attisdropped ORDER BY 1",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn one<T>(client: &Client, sql: &str) -> Result<T>
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    Ok(client.query_one(sql, &[]).await?.get(0))
}

#[tokio::test]
async fn every_kind_of_relation_and_column_can_be_claimed() -> Result<()> {
    let (_cluster, _, client) = world(
        r#"
        CREATE TYPE mood AS ENUM ('good', 'bad');
        CREATE DOMAIN short AS varchar(9) NOT NULL;
        CREATE DOMAIN shorter AS short;
        CREATE TABLE base (
            id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood, d shorter, tags varchar(7)[],
            price numeric(10, 2), loose numeric, twice int GENERATED ALWAYS AS (1 + 1) STORED,
            bits bit varying(12), doc jsonb, at timestamptz);
        CREATE VIEW a_view AS SELECT id, price FROM base;
        CREATE MATERIALIZED VIEW a_matview AS SELECT id FROM base;
        CREATE TABLE parted (id int, at date) PARTITION BY RANGE (at);
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        CREATE EXTENSION postgres_fdw;
        CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
        CREATE FOREIGN TABLE a_foreign (id int) SERVER far;
        CREATE SCHEMA "My Schema";
        CREATE TABLE "My Schema"."Weird.""Table" ("Column ""one""" int);
    "#,
    )
    .await?;
    let id = stakeholder(&client, "reader").await?;
    put(
        &client,
        id,
        json!([
            {"path": "public.base", "fields": [
                {"name": "id", "type": "int4", "min_length": 32, "is_nullable": false},
                {"name": "m", "type": "public.mood"}, {"name": "d", "type": "varchar", "min_length": 9,
                    "is_nullable": "false"},
                {"name": "tags", "type": "varchar[]", "min_length": 7},
                {"name": "price", "type": "decimal", "min_length": 10}, "loose", "twice",
                {"name": "bits", "type": "varbit", "min_length": 12}, {"name": "doc", "type": "jsonb"},
                {"name": "at", "type": "timestamptz", "is_nullable": true}]},
            {"path": "public.a_view", "fields": ["*"]}, {"path": "public.a_matview", "fields": ["id"]},
            {"path": "public.parted", "fields": ["*"]}, {"path": "public.parted_1", "fields": ["id"]},
            {"path": "public.a_foreign", "fields": ["id"]},
            {"path": r#""My Schema"."Weird.""Table""#, "fields": [r#""Column ""one""""#]},
        ]),
    )
    .await?;
    for (migration, wanted) in [
        (
            "DROP VIEW a_view; ALTER TABLE base ALTER price TYPE numeric(9, 2)",
            "min_length 10, found 9",
        ),
        ("DROP VIEW a_view", "public.a_view"),
        ("ALTER TABLE base ALTER loose TYPE numeric(30)", "min_length unlimited, found 30"),
        ("ALTER TABLE base ALTER tags TYPE varchar(6)[]", "min_length 7, found 6"),
        ("ALTER TABLE base ALTER bits TYPE varbit(11)", "min_length 12, found 11"),
        ("ALTER DOMAIN short DROP NOT NULL", "is_nullable false, found true"),
        ("ALTER TABLE base ALTER d TYPE text", "found text"),
        (
            "CREATE TYPE hue AS ENUM ('x'); ALTER TABLE base ALTER m TYPE hue USING 'x'::hue",
            "expected public.mood, found public.hue",
        ),
        ("ALTER TYPE mood RENAME TO humour", "found public.humour"),
        ("DROP MATERIALIZED VIEW a_matview", "public.a_matview"),
        ("DROP FOREIGN TABLE a_foreign", "public.a_foreign"),
        ("ALTER TABLE parted DROP COLUMN id", "parted"),
        ("DROP TABLE parted_1", "public.parted_1"),
        (r#"ALTER TABLE "My Schema"."Weird.""Table" RENAME "Column ""one""" TO x"#, "Weird"),
        (r#"ALTER SCHEMA "My Schema" RENAME TO mine"#, "My Schema"),
        ("ALTER TABLE base SET SCHEMA \"My Schema\"", "public.base"),
    ] {
        let (_, message) = migrate(&client, migration).await.expect_err(migration);
        assert!(message.contains(wanted), "{migration}: {message}");
    }
    for harmless in [
        "ALTER TABLE base ADD COLUMN extra int",
        "ALTER TABLE base ALTER at SET NOT NULL",
        "ALTER TABLE base ALTER tags TYPE varchar(70)[]",
        "ALTER TYPE mood ADD VALUE 'odd'",
        "CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
        "ALTER TABLE parted DETACH PARTITION parted_1",
    ] {
        migrate(&client, harmless).await.expect(harmless);
    }
    Ok(())
}

#[tokio::test]
async fn system_catalogs_cannot_be_claimed() -> Result<()> {
    let (_cluster, _, client) = world("").await?;
    let id = stakeholder(&client, "reader").await?;
    for path in
        ["pg_catalog.pg_authid", "information_schema.columns", "integratedb.spec", "pg_toast.*"]
    {
        let error =
            put(&client, id, json!([{"path": path, "fields": ["*"]}])).await.expect_err(path);
        assert_eq!(error.code().expect("a code").code(), "IDB03");
    }
    assert_eq!(grants(&client).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn grants_follow_claims_and_leave_what_others_granted() -> Result<()> {
    let (_cluster, _, client) = world(
        "CREATE TABLE t (a int, b int, c int); CREATE SCHEMA app; CREATE TABLE app.u (x int)",
    )
    .await?;
    let id = stakeholder(&client, "reader").await?;
    // Somebody else gave b to the reader.
    client.batch_execute("GRANT SELECT (b), UPDATE (a) ON t TO reader").await?;
    put(
        &client,
        id,
        json!([
        {"path": "public.t", "fields": ["a", "b"]}, {"path": "app.u", "fields": ["x"]}]),
    )
    .await?;
    let usage = "SELECT has_schema_privilege('reader', 'app', 'USAGE')";
    assert!(one::<bool>(&client, usage).await?);
    assert_eq!(
        grants(&client).await?,
        ["reader t.a SELECT", "reader t.a UPDATE", "reader t.b SELECT", "reader u.x SELECT"]
    );
    put(&client, id, json!([{"path": "public.t", "fields": ["c"]}])).await?;
    assert_eq!(
        grants(&client).await?,
        ["reader t.a UPDATE", "reader t.b SELECT", "reader t.c SELECT"]
    );
    assert!(!one::<bool>(&client, usage).await?);
    // A grant that was taken away from under a claim comes back with the next sync.
    client.batch_execute("REVOKE SELECT (c) ON t FROM reader; SELECT integratedb_sync()").await?;
    assert!(grants(&client).await?.contains(&"reader t.c SELECT".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_grant_is_not_lost_by_a_rename() -> Result<()> {
    let (_cluster, _, client) = world("CREATE TABLE t (a int)").await?;
    let id = stakeholder(&client, "reader").await?;
    put(&client, id, json!([{"path": "public.t", "fields": ["a"]}])).await?;
    // Expand and contract: the old column steps aside, a new one takes its name.
    migrate(&client, "ALTER TABLE t RENAME a TO old_a; ALTER TABLE t ADD a int")
        .await
        .expect("met");
    assert_eq!(grants(&client).await?, ["reader t.a SELECT"]);
    Ok(())
}

#[tokio::test]
async fn a_star_follows_the_database_at_sync() -> Result<()> {
    let (_cluster, _, client) =
        world("CREATE TABLE t (a int, b int); CREATE TABLE gone (x int)").await?;
    let id = stakeholder(&client, "reader").await?;
    put(&client, id, json!([{"path": "public.*", "fields": ["*"]}])).await?;
    migrate(&client, "ALTER TABLE t ADD c int; CREATE TABLE n (y int)").await.expect("additions");
    assert_eq!(
        grants(&client).await?,
        [
            "reader gone.x SELECT",
            "reader n.y SELECT",
            "reader t.a SELECT",
            "reader t.b SELECT",
            "reader t.c SELECT"
        ]
    );
    migrate(&client, "ALTER TABLE t DROP b").await.expect_err("claimed by the star");
    migrate(&client, "DROP TABLE gone").await.expect_err("claimed by the star");
    // Done without validation and synced by hand, the claim follows.
    client
        .batch_execute("ALTER TABLE t DROP b; DROP TABLE gone; SELECT integratedb_sync()")
        .await?;
    assert_eq!(one::<i64>(&client, "SELECT count(*) FROM integratedb_unmet_claims()").await?, 0);
    assert_eq!(
        grants(&client).await?,
        ["reader n.y SELECT", "reader t.a SELECT", "reader t.c SELECT"]
    );
    Ok(())
}

#[tokio::test]
async fn a_sync_with_nothing_to_change_writes_no_row() -> Result<()> {
    let (_cluster, _, client) =
        world("CREATE TABLE t (a int, b varchar(3)); CREATE VIEW v AS TABLE t").await?;
    let id = stakeholder(&client, "reader").await?;
    put(&client, id, json!([{"path": "public.*", "fields": ["*"]}, {"path": "public.t"}])).await?;
    client
        .batch_execute("BEGIN; SELECT integratedb_sync(); SELECT integratedb_validate_migration()")
        .await?;
    // Whoever writes a row gets a transaction id.
    let id =
        one::<Option<String>>(&client, "SELECT pg_current_xact_id_if_assigned()::text").await?;
    assert_eq!(id, None);
    client.batch_execute("ALTER TABLE t ADD c int; SELECT integratedb_sync()").await?;
    let id =
        one::<Option<String>>(&client, "SELECT pg_current_xact_id_if_assigned()::text").await?;
    assert!(id.is_some(), "and with something to change it does");
    client.batch_execute("COMMIT").await?;
    Ok(())
}

#[tokio::test]
async fn a_refusal_says_who_what_and_what_to_do() -> Result<()> {
    let (_cluster, database, client) = world("CREATE TABLE t (a int, b text)").await?;
    for name in ["ann", "bob"] {
        let id = stakeholder(&client, name).await?;
        put(&client, id, json!([{"path": "public.t", "fields": ["a", "b"]}])).await?;
    }
    client.batch_execute("BEGIN; ALTER TABLE t DROP a").await?;
    let error = client
        .batch_execute("SELECT integratedb_validate_migration()")
        .await
        .expect_err("two claims break");
    let error = error.as_db_error().expect("an answer");
    assert_eq!(error.code().code(), "IDB01");
    assert!(error.message().starts_with("IntegrateDB.InvalidMigration: "), "{}", error.message());
    assert!(error.message().contains("ann, bob") && error.message().contains("public.t.a"));
    assert_eq!(error.detail().expect("a detail").lines().count(), 2);
    assert!(error.hint().expect("a hint").starts_with("Please resolve the unmet claims above."));
    client.batch_execute("ROLLBACK").await?;

    // max_results bounds what is told, and a tool that wants P0001 gets it.
    let (_, told, _) = database.psql(
        "SET integratedb.refusal_sqlstate = 'P0001'; BEGIN; ALTER TABLE t DROP a; \
         \nDO $$ BEGIN PERFORM integratedb_validate_migration(1); EXCEPTION WHEN raise_exception THEN \
         RAISE NOTICE 'caught'; END $$",
    )?;
    assert!(told.contains("caught"), "{told}");
    assert_eq!(told.matches("unmet claim").count(), 1, "{told}");
    Ok(())
}

#[tokio::test]
async fn a_migrator_needs_no_privilege_but_its_own() -> Result<()> {
    let (_cluster, database, client) = world("CREATE TABLE secret (a int)").await?;
    let id = stakeholder(&client, "reader").await?;
    client
        .batch_execute(
            "CREATE ROLE app LOGIN PASSWORD 'app'; CREATE SCHEMA app AUTHORIZATION app; \
             CREATE TABLE app.t (a int, b int); ALTER TABLE app.t OWNER TO app",
        )
        .await?;
    put(&client, id, json!([{"path": "app.t", "fields": ["a"]}])).await?;
    let app = database.connect_as("app", "app").await?;
    let error =
        app.batch_execute("SELECT integratedb_validate_migration()").await.expect_err("not let in");
    assert_eq!(error.code().expect("a code").code(), "42501");
    client.batch_execute("SELECT integratedb.grant_migrator('app')").await?;
    let (code, _) = migrate(&app, "ALTER TABLE app.t DROP a").await.expect_err("claimed");
    assert_eq!(code, "IDB01");
    migrate(&app, "ALTER TABLE app.t DROP b").await.expect("not claimed");
    // It may judge, not change, the contract.
    for forbidden in [
        "SELECT integratedb.drop_stakeholder(1)",
        "SELECT integratedb.put_spec(1, 'CLAIMS', '{\"match\": []}')",
        "SELECT integratedb.contract_put(1, 'CLAIMS', '{\"match\": []}')",
        "DELETE FROM integratedb.claim",
        "SET integratedb.enforcement = off",
    ] {
        let error = app.batch_execute(forbidden).await.expect_err(forbidden);
        assert_eq!(error.code().expect("a code").code(), "42501", "{forbidden}");
    }
    Ok(())
}

#[tokio::test]
async fn renaming_a_stakeholder_renames_its_role_and_schema() -> Result<()> {
    let (_cluster, _, client) = world("CREATE TABLE t (a int)").await?;
    let id = stakeholder(&client, "before").await?;
    put(&client, id, json!([{"path": "public.t", "fields": ["a"]}])).await?;
    let sql = "SELECT integratedb.rename_stakeholder($1, $2, $3)";
    client.execute(sql, &[&id, &"after", &VERIFIER]).await?;
    assert_eq!(grants(&client).await?, ["after t.a SELECT"]);
    assert!(
        one::<bool>(
            &client,
            "SELECT to_regnamespace('before') IS NULL AND to_regnamespace('after') IS NOT NULL"
        )
        .await?
    );
    // Not when others depend on a table under the old name.
    client.batch_execute("CREATE TABLE after.x (a int)").await?;
    let other = stakeholder(&client, "other").await?;
    put(&client, other, json!([{"path": "after.x", "fields": ["a"]}])).await?;
    let error = client.execute(sql, &[&id, &"third", &VERIFIER]).await.expect_err("claimed");
    assert_eq!(error.code().expect("a code").code(), "IDB01");
    let error = client.execute(sql, &[&id, &"other", &VERIFIER]).await.expect_err("taken");
    assert_eq!(error.code().expect("a code").code(), "42710");
    Ok(())
}

#[tokio::test]
async fn dropping_a_stakeholder_keeps_what_others_would_lose() -> Result<()> {
    let (_cluster, database, client) = world("CREATE TABLE t (a int)").await?;
    let clean = stakeholder(&client, "clean").await?;
    put(&client, clean, json!([{"path": "public.t", "fields": ["a"]}])).await?;
    let sql = "SELECT kept FROM integratedb.drop_stakeholder($1, $2)";
    assert_eq!(client.query(sql, &[&clean, &true]).await?.len(), 0);
    assert!(
        one::<bool>(
            &client,
            "SELECT to_regrole('clean') IS NULL AND to_regnamespace('clean') IS NULL"
        )
        .await?
    );

    let owner = stakeholder(&client, "owner").await?;
    client.batch_execute("ALTER ROLE owner PASSWORD 'x'").await?;
    let own = database.connect_as("owner", "x").await?;
    own.batch_execute("CREATE TABLE owner.data (a int)").await?;
    let error = client.query(sql, &[&owner, &true]).await.expect_err("all or nothing");
    assert_eq!(error.code().expect("a code").code(), "2BP01");
    assert_eq!(one::<i64>(&client, "SELECT count(*) FROM integratedb.stakeholder").await?, 1);
    let kept = client.query(sql, &[&owner, &false]).await?;
    let kept: Vec<String> = kept.iter().map(|row| row.get(0)).collect();
    assert_eq!(kept, ["schema owner", "role owner"]);
    assert_eq!(one::<i64>(&client, "SELECT count(*) FROM owner.data").await?, 0);
    assert!(database.connect_as("owner", "x").await.is_err(), "nobody logs in as it any more");
    Ok(())
}

#[tokio::test]
async fn names_are_data_never_sql() -> Result<()> {
    let (_cluster, _, client) = world(
        r#"CREATE TABLE "t""; DROP TABLE victim; --" ("c""); DROP TABLE victim; --" int); CREATE TABLE victim (a int)"#,
    )
    .await?;
    for name in ["a\"; DROP TABLE victim; --", "", " ", "9x", "pg_x", "public", "ä"] {
        assert!(stakeholder(&client, name).await.is_err(), "{name}");
    }
    let error = client
        .query("SELECT integratedb.create_stakeholder('x', 'in clear')", &[])
        .await
        .expect_err("a password is not a verifier");
    assert!(!error.as_db_error().expect("an answer").message().contains("in clear"));
    let id = stakeholder(&client, " Reader ").await?;
    put(&client, id, json!([{
        "path": r#"public."t""; DROP TABLE victim; --""#, "fields": [r#""c""); DROP TABLE victim; --""#]}]))
    .await?;
    assert_eq!(grants(&client).await?.len(), 1);
    assert_eq!(one::<i64>(&client, "SELECT count(*) FROM victim").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_dump_restores_the_contract() -> Result<()> {
    let (cluster, _, client) =
        world("CREATE TABLE t (x int, a int, b int); ALTER TABLE t DROP x").await?;
    let id = stakeholder(&client, "reader").await?;
    put(&client, id, json!([{"path": "public.t", "fields": ["a"]}])).await?;
    let dump = cluster.program("pg_dump").arg(cluster.url("shop")).output()?;
    assert!(dump.status.success());
    client.batch_execute("CREATE DATABASE copy").await?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), dump.stdout)?;
    let restore = cluster
        .program("psql")
        .args(["-q", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(file.path())
        .arg(cluster.url("copy"))
        .output()?;
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    let (copy, connection) =
        tokio_postgres::connect(&cluster.url("copy"), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    migrate(&copy, "ALTER TABLE t DROP a").await.expect_err("still claimed");
    // What was granted before the dump is still known as ours.
    put(&copy, id, json!([{"path": "public.t", "fields": ["b"]}])).await?;
    assert_eq!(grants(&copy).await?, ["reader t.b SELECT"]);
    Ok(())
}

#[tokio::test]
async fn a_new_spec_takes_nothing_over_from_the_old_one() -> Result<()> {
    let (_cluster, _, client) = world("CREATE TABLE t (a bigint, b int)").await?;
    let id = stakeholder(&client, "reader").await?;
    put(&client, id, json!([{"path": "public.t", "fields": ["a"]}])).await?;
    put(
        &client,
        id,
        json!([{"alternatives": [
            {"path": "public.t", "fields": ["to_come"]}, {"path": "public.t", "fields": ["b"]}]}]),
    )
    .await?;
    migrate(&client, "ALTER TABLE t DROP b; ALTER TABLE t ADD to_come uuid")
        .await
        .expect("any type will do");
    // From then on its type is known and held.
    let (_, message) =
        migrate(&client, "ALTER TABLE t ALTER to_come TYPE text").await.expect_err("held");
    assert!(message.contains("expected uuid, found text"), "{message}");
    Ok(())
}
