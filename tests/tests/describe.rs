//! `integratedb.describe_query` and `integratedb.session_key`: what a cache is told of texts and sessions.

use anyhow::{Context, Result};
use serde_json::Value;
use support::{Cluster, Database};
use tokio_postgres::Client;

const SETUP: &str = include_str!("describe/setup.sql");
const TEXTS: &str = include_str!("describe/texts.txt");

async fn world() -> Result<(Cluster, Database, Client)> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let client = database.connect().await?;
    client.batch_execute(SETUP).await?;
    Ok((cluster, database, client))
}

async fn describe(client: &Client, text: &str) -> Result<Value> {
    let row = client
        .query_one("SELECT integratedb.describe_query($1, '{}')", &[&text])
        .await
        .with_context(|| text.to_owned())?;
    Ok(serde_json::from_str(row.get(0))?)
}

/// A description in a line: the verdict, the tables read with their pins, and after `>` those written.
/// `*` marks what is not pinned, `!` what replication does not see.
fn line(text: &str, description: &Value) -> String {
    if let Some(code) = description["error"].as_str() {
        return format!("error {code}");
    }
    let verdict = match (&description["cacheable"], &description["by_rule"]) {
        (Value::Bool(true), _) => "yes",
        (_, Value::Bool(true)) => "rule",
        _ => "no",
    };
    let mut words = vec![verdict.to_owned()];
    for table in list(&description["tables"]) {
        let seen = if table["replication"] == "ok" { "" } else { "!" };
        let name = table["name"].as_str().unwrap_or_default();
        words.push(format!("{name}{seen}{}", pins(text, table)));
        assert_eq!(table["whole"].is_null(), !list(&table["pins"]).is_empty(), "{table}");
    }
    for name in list(&description["settings"]) {
        words.push(format!("setting:{}", name.as_str().unwrap_or_default()));
    }
    if description["changes_session"] == true {
        words.push("session".to_owned());
    }
    match &description["writes"] {
        Value::Null => {}
        Value::String(all) => words.extend([">".to_owned(), all.clone()]),
        some => {
            words.push(">".to_owned());
            for table in list(some) {
                words.push(format!(
                    "{}{}",
                    table["name"].as_str().unwrap_or("?"),
                    pins(text, table)
                ));
            }
        }
    }
    words.join(" ")
}

/// `(id=$1|7)`, or `*` for the whole table. A constant is shown as it stands in the text.
fn pins(text: &str, table: &Value) -> String {
    let of = |origin: &Value| match (&origin["parameter"], &origin["constant_at"]) {
        (Value::Number(n), _) => format!("${n}"),
        (_, Value::Number(at)) => {
            let at = at.as_u64().and_then(|at| usize::try_from(at).ok()).unwrap_or(usize::MAX);
            let rest = text.get(at..).unwrap_or("?");
            let end = rest.find([',', ')', ' ', ']', ':']).unwrap_or(rest.len());
            rest[..end].to_owned()
        }
        _ => "?".to_owned(),
    };
    let pins: Vec<String> = list(&table["pins"])
        .iter()
        .map(|pin| {
            let from: Vec<String> = list(&pin["from"]).iter().map(of).collect();
            format!("{}={}", pin["column"], from.join("|"))
        })
        .collect();
    if pins.is_empty() { "*".to_owned() } else { format!("({})", pins.join(",")) }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The names of tables that are only told by their oid.
async fn name_writes(client: &Client, description: &mut Value) -> Result<()> {
    for table in description["writes"].as_array_mut().into_iter().flatten() {
        let oid = u32::try_from(table["oid"].as_u64().context("no oid")?)?;
        let row =
            client.query_one("SELECT relname::text FROM pg_class WHERE oid = $1", &[&oid]).await?;
        table["name"] = Value::String(row.get(0));
    }
    Ok(())
}

#[tokio::test]
async fn each_text_is_described_as_expected() -> Result<()> {
    let (_cluster, _, client) = world().await?;
    let (mut wrong, mut count) = (Vec::new(), 0);
    for entry in TEXTS.lines().filter(|line| !line.is_empty() && !line.starts_with("--")) {
        let (text, expected) = entry.split_once(" ⇒ ").with_context(|| entry.to_owned())?;
        let mut description = describe(&client, text).await?;
        name_writes(&client, &mut description).await?;
        let found = line(text, &description);
        count += 1;
        if found != expected {
            wrong.push(format!(
                "{text}\n  expected {expected}\n  found    {found}\n  {description}"
            ));
        }
    }
    assert!(count >= 80, "only {count} texts");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn declared_types_count_and_the_others_are_inferred() -> Result<()> {
    let (_cluster, _, client) = world().await?;
    let row = client
        .query_one(
            "SELECT integratedb.describe_query('SELECT * FROM t WHERE id = $1 AND n = $2 AND day = $3', '{23,0}')",
            &[],
        )
        .await?;
    let description: Value = serde_json::from_str(row.get(0))?;
    assert_eq!(description["parameters"], serde_json::json!([23, 23, 1082]));
    assert_eq!(description["clock_parameters"], serde_json::json!([3]));
    assert_eq!(description["tables"][0]["pins"][0]["from"][0]["parameter"], 1);
    Ok(())
}

#[tokio::test]
async fn a_constant_in_parts_pins_nothing() -> Result<()> {
    let (_cluster, _, client) = world().await?;
    for text in
        ["SELECT * FROM pair WHERE b = 'x'\n'y'", "SELECT * FROM pair WHERE b = 'x' -- z\n'y'"]
    {
        assert_eq!(line(text, &describe(&client, text).await?), "yes pair*", "{text}");
    }
    let text = "SELECT * FROM full_row WHERE at = 'no'\n'w'";
    assert_eq!(line(text, &describe(&client, text).await?), "no full_row*");
    Ok(())
}

#[tokio::test]
async fn describing_leaves_nothing_behind() -> Result<()> {
    let (_cluster, _, client) = world().await?;
    client.batch_execute("BEGIN").await?;
    for text in [
        "SELECT * FROM t",
        "UPDATE t SET n = 1",
        "SELECT * FROM nowhere",
        "SELEC",
        "SELECT nextval('s')",
    ] {
        describe(&client, text).await?;
    }
    let row = client
        .query_one(
            "SELECT pg_current_xact_id_if_assigned() IS NULL, \
                    (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 't'::regclass)",
            &[],
        )
        .await?;
    assert!(row.get::<_, bool>(0), "a transaction id was assigned");
    assert_eq!(row.get::<_, i64>(1), 0, "a lock stays");
    client.batch_execute("SELECT * FROM t; COMMIT").await?;
    Ok(())
}

#[tokio::test]
async fn no_reason_quotes_a_constant() -> Result<()> {
    let (_cluster, _, client) = world().await?;
    for text in [
        "SELECT now(), 'hush'",
        "SELECT 'now hush'::timestamptz IS NULL",
        "SELECT pl_immutable(4711)",
        "SELECT current_setting('app.' || 'hush')",
        "INSERT INTO triggered VALUES (4711, 1)",
    ] {
        let description = describe(&client, text).await?;
        let why = description["why"].as_str().unwrap_or_default();
        assert!(!why.contains("hush") && !why.contains("4711"), "{why}");
    }
    Ok(())
}

#[tokio::test]
async fn everybody_may_describe_as_whom_they_are_and_see_nothing_else() -> Result<()> {
    let (_cluster, database, client) = world().await?;
    client
        .batch_execute(
            "CREATE ROLE app LOGIN PASSWORD 'app'; GRANT SELECT ON secret TO app;
             CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY); GRANT USAGE ON SCHEMA app TO app;
             CREATE FUNCTION definer() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
                 AS 'SELECT count(*) FROM secret'",
        )
        .await?;
    let app = database.connect_as("app", "app").await?;
    let description = describe(&app, "SELECT * FROM secret WHERE id = $1").await?;
    assert_eq!(line("", &description), "yes secret(1=$1) setting:app.tenant");
    let as_superuser = describe(&client, "SELECT * FROM secret WHERE id = $1").await?;
    assert_eq!(line("", &as_superuser), "yes secret(1=$1)", "a superuser has no policies");
    let through = describe(&app, "SELECT definer()").await?;
    assert_eq!(line("", &through), "yes secret*", "it runs as its owner, who is a superuser");
    assert_eq!(
        describe(&app, "SELECT * FROM t").await?["tables"][0]["schema"],
        "app",
        "search_path"
    );

    for denied in [
        "SELECT * FROM integratedb.stakeholder",
        "SELECT * FROM integratedb.relation",
        "SELECT * FROM integratedb.claimed_columns",
        "SELECT integratedb.publish('{1}')",
        "SELECT integratedb.unpublish('{1}')",
        "SELECT integratedb.alter_publication('ADD', 1)",
        "SELECT integratedb.guard_members()",
        "SELECT integratedb.roles_fingerprint()",
        "SELECT integratedb.sync()",
        "SELECT integratedb.create_stakeholder('a', 'b')",
        "CREATE TABLE integratedb.x ()",
    ] {
        let error = app.batch_execute(denied).await.expect_err(denied);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{denied}: {error}");
    }
    Ok(())
}

async fn session(client: &Client) -> Result<Value> {
    let row = client.query_one("SELECT integratedb.session_key('{app.tenant}')", &[]).await?;
    Ok(serde_json::from_str(row.get(0))?)
}

#[tokio::test]
async fn a_session_key_differs_when_an_answer_could() -> Result<()> {
    let (_cluster, database, _) = world().await?;
    let (one, other) = (database.connect().await?, database.connect().await?);
    one.batch_execute("CREATE ROLE app; CREATE SCHEMA x").await?;
    let first = session(&one).await?;
    assert_eq!(first, session(&other).await?);
    for set in [
        "SET TimeZone = 'Asia/Tokyo'",
        "SET DateStyle = 'German'",
        "SET IntervalStyle = 'iso_8601'",
        "SET bytea_output = 'escape'",
        "SET extra_float_digits = 0",
        "SET client_encoding = 'LATIN1'",
        "SET lc_monetary = 'C'",
        "SET row_security = off",
        "SET search_path = x, public",
        "SET ROLE app",
        "SET SESSION AUTHORIZATION app",
        "SET app.tenant = 'a'",
        "SET default_text_search_config = 'simple'",
        "SET default_transaction_isolation = 'serializable'",
        "SET xmlbinary = 'hex'",
        "SET transform_null_equals = on",
    ] {
        one.batch_execute(set).await?;
        let found = session(&one).await?;
        assert_ne!(found["key"], first["key"], "{set}");
        one.batch_execute("RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL").await?;
    }
    one.batch_execute("SET app.other = 'a'; SET work_mem = '1MB'; SET application_name = 'x'")
        .await?;
    assert_eq!(session(&one).await?, first, "what changes no answer");
    one.batch_execute("SET app.tenant = 'a'").await?;
    other.batch_execute("SET app.tenant = 'a'").await?;
    assert_eq!(session(&one).await?["key"], session(&other).await?["key"]);
    Ok(())
}

#[tokio::test]
async fn a_session_key_tells_of_temporary_objects_and_isolation() -> Result<()> {
    let (_cluster, database, _) = world().await?;
    let client = database.connect().await?;
    assert_eq!(session(&client).await?["temporary"], false);
    client.batch_execute("CREATE TEMP TABLE t (id int)").await?;
    assert_eq!(session(&client).await?["temporary"], true);
    client.batch_execute("DROP TABLE pg_temp.t").await?;
    assert_eq!(session(&client).await?["temporary"], false);
    client.batch_execute("SET default_transaction_isolation = 'repeatable read'").await?;
    let found = session(&client).await?;
    assert_eq!(found["isolation"], "repeatable read");
    assert_eq!((&found["superuser"], &found["in_recovery"]), (&true.into(), &false.into()));
    Ok(())
}
