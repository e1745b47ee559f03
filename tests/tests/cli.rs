//! The commands of the binary, as a person or a CI job runs them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use support::{Cluster, Database, Notified, Sidecar, binary};
use tempfile::TempDir;
use tokio::sync::mpsc;

const SETUP: &str = "
    CREATE TABLE orders (id bigint, note varchar(40)); CREATE TABLE other (a int);
    SELECT integratedb.create_stakeholder('reader', 'SCRAM-SHA-256$4096:jZ0oAN5wNK4vGDs8DJgx4g==$h0GoE3K9tNLcmmGYv8A8NHKO1ERk0FaOHPfgTZHmnDk=:u1tGHgSiUvY4YsXdBKKhCeE0c4PVPrs7dKzPPIOhEdc=');
    SELECT integratedb.put_spec(1, 'CLAIMS', '{\"match\": {\"path\": \"public.orders\", \"fields\": [\"id\", \"note\"]}}')";

struct World {
    _cluster: Cluster,
    database: Database,
    files: TempDir,
}

async fn world() -> Result<World> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    database.connect().await?.batch_execute(SETUP).await?;
    Ok(World { _cluster: cluster, database, files: TempDir::new()? })
}

impl World {
    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let url = self.database.url();
        Ok(Command::new(binary()?).args(arguments).env("INTEGRATEDB_DATABASE_URL", url).output()?)
    }

    fn check(&self, sql: &str, further: &[&str]) -> Result<Output> {
        let file = self.files.path().join("migration.sql");
        std::fs::write(&file, sql)?;
        let file = file.display().to_string();
        self.run(&[&["check", &file], further].concat())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn check_tells_what_would_break_and_keeps_nothing() -> Result<()> {
    let world = world().await?;
    let broken =
        world.check("BEGIN;\nALTER TABLE orders DROP note;\nDROP TABLE other;\nCOMMIT;\n", &[])?;
    assert_eq!(broken.status.code(), Some(1), "{}", text(&broken.stderr));
    let told = text(&broken.stdout);
    assert!(
        told.contains(
            "reader needs public.orders.note (name): expected character varying, found missing"
        ),
        "{told}"
    );

    let json = world.check(
        "ALTER TABLE orders DROP note; SELECT integratedb_validate_migration();",
        &["--format", "json"],
    )?;
    assert_eq!(json.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&json.stdout)?;
    assert_eq!(
        (&report["valid"], &report["unmet"][0]["field"]),
        (&Value::Bool(false), &"note".into())
    );

    let fine = world.check(
        "ALTER TABLE orders ADD extra int; CREATE INDEX CONCURRENTLY i ON orders (id);",
        &[],
    )?;
    assert_eq!(fine.status.code(), Some(0), "{}", text(&fine.stderr));
    assert!(text(&fine.stdout).contains("No claim would break."));

    let client = world.database.connect().await?;
    let row = client
        .query_one("SELECT count(*) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0 AND NOT attisdropped", &[])
        .await?;
    assert_eq!(row.get::<_, i64>(0), 2, "nothing was kept");
    client.batch_execute("SELECT * FROM other").await?;
    Ok(())
}

#[tokio::test]
async fn no_spelling_of_commit_gets_through() -> Result<()> {
    let world = world().await?;
    for sql in [
        "DROP TABLE other; COMMIT; SELECT 1",
        "DROP TABLE other; /* ; */ cOmMiT -- x\n; SELECT 1",
        "DROP TABLE other; END;",
        "DO $$ BEGIN DROP TABLE other; COMMIT; END $$",
        "DROP TABLE other; COMMIT AND CHAIN;",
        "PREPARE p AS SELECT 1; DROP TABLE other; COMMIT",
    ] {
        world.check(sql, &[])?;
        world.database.connect().await?.batch_execute("SELECT * FROM other").await.context(sql)?;
    }
    Ok(())
}

#[tokio::test]
async fn check_says_why_it_could_not_check() -> Result<()> {
    let world = world().await?;
    for (sql, why) in [
        (
            "SELECT 1;\n\nALTER TABLE nowhere ADD a int;",
            "migration.sql:3: relation \"nowhere\" does not exist (42P01)",
        ),
        ("\\i other.sql", "line 1: psql's backslash commands can't be checked"),
        ("SELECT 'unclosed", "line 1"),
        ("COPY orders FROM STDIN;", "migration.sql:1"),
    ] {
        let output = world.check(sql, &[])?;
        assert_eq!(output.status.code(), Some(2), "{sql}: {}", text(&output.stdout));
        assert!(text(&output.stderr).contains(why), "{sql}: {}", text(&output.stderr));
    }
    let missing = world.run(&["check", "/nowhere/x.sql"])?;
    assert_eq!(missing.status.code(), Some(2));
    let blocker = world.database.connect().await?;
    blocker.batch_execute("BEGIN; LOCK TABLE orders").await?;
    let blocked = world.check("ALTER TABLE orders ADD b int", &["--lock-timeout", "50ms"])?;
    assert_eq!(blocked.status.code(), Some(2));
    assert!(text(&blocked.stderr).contains("lock timeout"), "{}", text(&blocked.stderr));
    Ok(())
}

#[tokio::test]
async fn who_uses_and_claims_answer_in_text_and_json() -> Result<()> {
    let world = world().await?;
    let uses = world.run(&["who-uses", "public.orders.note"])?;
    assert!(uses.status.success(), "{}", text(&uses.stderr));
    assert!(
        text(&uses.stdout)
            .contains("reader       public.orders  note    character varying  at least 40"),
        "{}",
        text(&uses.stdout)
    );
    assert!(
        text(&world.run(&["who-uses", "public.other"])?.stdout)
            .contains("Nobody claims public.other.")
    );
    let claims = world.run(&["claims", "reader", "--format", "json"])?;
    let claims: Value = serde_json::from_slice(&claims.stdout)?;
    assert_eq!(claims["claims"].as_array().map(Vec::len), Some(2));
    let nobody = world.run(&["claims", "nobody"])?;
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody.stderr).contains("there is no stakeholder named nobody"));
    let odd = world.run(&["who-uses", "orders"])?;
    assert!(text(&odd.stderr).contains("schema.table"));
    Ok(())
}

#[tokio::test]
async fn help_teaches_and_serve_says_what_it_lacks() -> Result<()> {
    let help = Command::new(binary()?).args(["serve", "--help"]).output()?;
    let help = text(&help.stdout);
    for part in ["CREATE EXTENSION integratedb", "grant_sidecar", "--config", "curl"] {
        assert!(help.contains(part), "{part}");
    }
    let lost =
        Command::new(binary()?).arg("serve").env_remove("INTEGRATEDB_DATABASE_URL").output()?;
    assert_eq!(lost.status.code(), Some(2));
    assert!(text(&lost.stderr).contains("--database postgres://"));
    Ok(())
}

/// What `tail` prints, line by line.
struct Tail {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Tail {
    fn start(notified: &Notified, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(binary()?)
            .args(["tail", "reporting", "--url", &notified.sidecar.url("")])
            .args(arguments)
            .env("INTEGRATEDB_TOKEN", notified.sidecar.token().context("no token")?)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().context("no output")?;
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let told = BufReader::new(stdout).lines().map_while(Result::ok);
            told.for_each(|line| drop(sender.send(line)));
        });
        Ok(Self { child, lines })
    }

    async fn line(&mut self) -> Result<String> {
        let line = tokio::time::timeout(Duration::from_secs(20), self.lines.recv()).await;
        line.context("no line is printed")?.context("it has ended")
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// The sidecar goes on while the test waits for a command.
#[tokio::test(flavor = "multi_thread")]
async fn tail_prints_events_and_goes_on_after_a_lost_connection() -> Result<()> {
    let notified = Notified::start().await?;
    let client = notified.database.connect().await?;
    client.batch_execute("INSERT INTO items VALUES (1, 'a', 7)").await?;
    let mut tail = Tail::start(&notified, &["--after", "0", "--format", "json"])?;
    let first: Value = serde_json::from_str(&tail.line().await?)?;
    assert_eq!((&first["event"], &first["record"]["name"]), (&"INSERT".into(), &"a".into()));
    let after = first["id"].as_str().context("no id")?.to_owned();

    // The sidecar goes, another one comes in its place.
    let (address, token) =
        (notified.sidecar.address(), notified.sidecar.token().map(str::to_owned));
    let Notified { sidecar, database, cluster: _cluster, .. } = notified;
    sidecar.stop().await?;
    client
        .batch_execute("INSERT INTO items VALUES (2, 'b', 8); DELETE FROM items WHERE id = 1")
        .await?;
    let mut sidecar = Sidecar::start_at(address, &database.url()).await?;
    sidecar.set_token(token.as_deref());
    let next: Value = serde_json::from_str(&tail.line().await?)?;
    assert_eq!(next["record"]["id"], 2);
    let last: Value = serde_json::from_str(&tail.line().await?)?;
    assert_eq!((&last["event"], &last["key"]["id"]), (&"DELETE".into(), &1.into()));

    let notified = Notified { sidecar, database, cluster: _cluster, stakeholder: 1 };
    let mut tail = Tail::start(&notified, &["--after", &after])?;
    let line = tail.line().await?;
    assert!(line.contains(" INSERT public.items record {\"id\":2,\"name\":\"b\"}"), "{line}");
    assert!(tail.line().await?.contains(" DELETE public.items key {\"id\":1}"));

    let run = |arguments: &[&str], token: &str| {
        let mut command = Command::new(binary()?);
        command.arg("tail").args(arguments).args(["--url", &notified.sidecar.url("")]);
        anyhow::Ok(command.env("INTEGRATEDB_TOKEN", token).output()?)
    };
    let nobody = run(&["nobody"], token.as_deref().unwrap_or_default())?;
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody.stderr).contains("there is no stakeholder named nobody"));
    let stranger = run(&["reporting"], "made-up")?;
    assert_eq!(stranger.status.code(), Some(2));
    assert!(
        text(&stranger.stderr).contains("the token is not valid"),
        "{}",
        text(&stranger.stderr)
    );
    let odd = run(&["reporting", "--after", "seven"], token.as_deref().unwrap_or_default())?;
    assert!(text(&odd.stderr).contains("EPOCH-LSN-INDEX"), "{}", text(&odd.stderr));
    Ok(())
}
