//! Database clients as programs: each works through what it can do at a URL and tells what it saw.
//!
//! The programs lie in `tests/drivers`. A transcript has nothing in it that differs between two runs at the same
//! server, so whatever stands between is right when the transcript is the same as without it.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::postgres_program;

const DEADLINE: Duration = Duration::from_secs(120);
const JDBC: &str = "/usr/share/java/postgresql.jar";

/// A client of Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// psycopg 3
    Psycopg,
    /// asyncpg
    Asyncpg,
    /// SQLAlchemy 2 over psycopg
    Sqlalchemy,
    /// node-postgres
    NodePg,
    /// drizzle-orm over node-postgres
    Drizzle,
    /// The JDBC driver
    Pgjdbc,
    /// psql with a script
    Psql,
    /// pgbench with transactions whose sum is known
    Pgbench,
}

/// What a target can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Features {
    /// All that a connection of one's own can.
    All,
    /// All but what can't work when each transaction may have another connection: LISTEN, temporary tables and
    /// cursors that outlive a transaction, and a statement that has to meet its old plan again.
    TransactionPooling,
}

impl Driver {
    /// Every driver.
    pub fn all() -> [Self; 8] {
        [
            Self::Psycopg,
            Self::Asyncpg,
            Self::Sqlalchemy,
            Self::NodePg,
            Self::Drizzle,
            Self::Pgjdbc,
            Self::Psql,
            Self::Pgbench,
        ]
    }

    /// Its name, good for a schema too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Psycopg => "psycopg",
            Self::Asyncpg => "asyncpg",
            Self::Sqlalchemy => "sqlalchemy",
            Self::NodePg => "node_pg",
            Self::Drizzle => "drizzle",
            Self::Pgjdbc => "pgjdbc",
            Self::Psql => "psql",
            Self::Pgbench => "pgbench",
        }
    }

    /// Runs the program at a URL, in a schema that it makes and drops; gives its transcript.
    pub async fn run(self, url: &str, schema: &str, features: Features) -> Result<String> {
        let transcript = match self {
            Self::Psycopg => program(python("with_psycopg.py")?, url, schema, features).await,
            Self::Asyncpg => program(python("with_asyncpg.py")?, url, schema, features).await,
            Self::Sqlalchemy => program(python("with_sqlalchemy.py")?, url, schema, features).await,
            Self::NodePg => program(node("with_pg.js")?, url, schema, features).await,
            Self::Drizzle => program(node("with_drizzle.js")?, url, schema, features).await,
            Self::Pgjdbc => program(java("Single.java")?, url, schema, features).await,
            Self::Psql => psql(url, schema, features).await,
            Self::Pgbench => pgbench(url, schema).await,
        };
        let transcript =
            transcript.with_context(|| format!("{} does not get through", self.name()))?;
        // A program that ends early but in peace would be the same everywhere.
        ensure!(
            transcript.lines().any(|line| line.starts_with("done:")),
            "{} ended before it was done: {}",
            self.name(),
            tail(&transcript)
        );
        Ok(transcript)
    }
}

/// A public library that verifies webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verifier {
    /// standardwebhooks of PyPI
    Python,
    /// standardwebhooks of npm
    Node,
}

impl Verifier {
    /// What it says of a delivery: `verified` and how many events it has, or `refused:` and why.
    pub async fn verify(
        self,
        secret: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<String> {
        let mut command = match self {
            Self::Python => python("verify_webhook.py")?,
            Self::Node => node("verify_webhook.js")?,
        };
        let headers: serde_json::Map<_, _> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let given = serde_json::json!({"secret": secret, "headers": headers, "body": body});
        let mut input = tempfile::tempfile()?;
        input.write_all(given.to_string().as_bytes())?;
        input.rewind()?;
        let ended = run_with(&mut command, input.into(), DEADLINE).await?;
        ensure!(ended.status.success(), "{self:?}: {}", ended.complaint());
        Ok(ended.stdout.trim().to_owned())
    }
}

/// Where two transcripts part; `None` when they are the same.
pub fn difference(expected: &str, got: &str) -> Option<String> {
    if expected == got {
        return None;
    }
    let (mut left, mut right) = (expected.lines(), got.lines());
    let mut section = "";
    for number in 1.. {
        let (a, b) = (left.next(), right.next());
        if a.is_none() && b.is_none() {
            break;
        }
        if a != b {
            let show = |line: Option<&str>| line.map_or("nothing".to_owned(), shortened);
            return Some(format!(
                "line {number}, {section}\n  expected {}\n  got      {}",
                show(a),
                show(b)
            ));
        }
        section = a.filter(|line| line.starts_with("-- ")).unwrap_or(section);
    }
    Some("only in how lines end".to_owned())
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// Where `make drivers` has put the programs.
pub(crate) fn installed() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/drivers");
    ensure!(folder.join("stamp").exists(), "there are no clients: run `make drivers` first");
    Ok(folder)
}

fn python(name: &str) -> Result<Command> {
    let mut command = Command::new(installed()?.join("python/bin/python"));
    // No compiled files in the checkout.
    command.arg("-B").arg(sources().join("python").join(name));
    command.env("PYTHONIOENCODING", "utf-8").env_remove("PYTHONPATH").env_remove("PYTHONHOME");
    Ok(command)
}

/// A program of `tests/drivers/node`.
pub(crate) fn node(name: &str) -> Result<Command> {
    let mut command = Command::new("node");
    command.arg(sources().join("node").join(name));
    command.env("NODE_PATH", installed()?.join("node/node_modules")).env_remove("NODE_OPTIONS");
    Ok(command)
}

fn java(name: &str) -> Result<Command> {
    installed()?;
    let mut command = Command::new("java");
    // As small and quick to start as it gets: several may run at once.
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", JDBC]);
    command.arg(sources().join("java").join(name));
    Ok(command)
}

async fn program(
    mut command: Command,
    url: &str,
    schema: &str,
    features: Features,
) -> Result<String> {
    command.arg(url).arg(schema).env("TZ", "UTC");
    let words = match features {
        Features::All => "",
        Features::TransactionPooling => "transaction-pooling",
    };
    command.env("FEATURES", words);
    let ended = run(command).await?;
    ensure!(ended.status.success(), "{}: {}", ended.status, ended.complaint());
    Ok(ended.stdout)
}

/// The errors that psql meets are part of the transcript.
async fn psql(url: &str, schema: &str, features: Features) -> Result<String> {
    let mut command = postgres_program("psql")?;
    let pooled = if features == Features::TransactionPooling { "on" } else { "off" };
    // By a relative path, because psql names it in what it complains about.
    command.current_dir(sources().join("psql")).args(["--no-psqlrc", "-f", "script.sql"]);
    command.args(["-v", &format!("schema={schema}"), "-v", &format!("pooled={pooled}"), url]);
    let ended = run(command).await?;
    ensure!(ended.status.success(), "{}: {}", ended.status, ended.complaint());
    Ok(format!("{}-- complaints\n{}", ended.stdout, ended.stderr))
}

/// What pgbench prints are times; the transcript is what it left in the tables.
async fn pgbench(url: &str, schema: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let script = |name: &str| -> Result<PathBuf> {
        let text = fs::read_to_string(sources().join("pgbench").join(name))?;
        let path = folder.path().join(name);
        fs::write(&path, text.replace("MINE", schema))?;
        Ok(path)
    };
    let query = async |path: PathBuf| -> Result<String> {
        let mut command = postgres_program("psql")?;
        command.args(["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-f"]).arg(path).arg(url);
        let ended = run(command).await?;
        ensure!(ended.status.success(), "psql: {}", ended.complaint());
        Ok(ended.stdout)
    };
    let mut transcript = String::new();
    for (mode, name) in [
        ("simple", "transfer.sql"),
        ("extended", "transfer.sql"),
        ("prepared", "transfer.sql"),
        ("extended", "pipeline.sql"),
        ("prepared", "pipeline.sql"),
    ] {
        query(script("tables.sql")?).await?;
        let mut command = postgres_program("pgbench")?;
        // Its clients draw from the seed each on its own, so the sum does not depend on who is quicker.
        command.args(["-n", "--random-seed=42", "-c", "4", "-j", "2", "-t", "100", "-M", mode]);
        command.arg("-f").arg(script(name)?).arg(url);
        let ended = run(command).await?;
        ensure!(ended.status.success(), "pgbench -M {mode} {name}: {}", ended.complaint());
        let told = |what: &str| ended.stdout.lines().find(|line| line.contains(what));
        // Before version 15 no transaction could fail without ending the run.
        if let Some(line) = told("number of failed transactions") {
            ensure!(line.contains(": 0 "), "pgbench -M {mode} {name}: {line}");
        }
        let processed = told("actually processed").context("pgbench tells nothing")?;
        let sums = query(script("sums.sql")?).await?;
        let fields: Vec<_> = sums.trim().split('|').collect();
        match fields[..] {
            [_, accounts, tellers, branches, _, history, _] => ensure!(
                [accounts, tellers, branches].iter().all(|sum| *sum == history),
                "pgbench -M {mode} {name}: the tables don't agree: {sums}"
            ),
            _ => bail!("these are no sums: {sums}"),
        }
        transcript.push_str(&format!("-- {mode} {name}\n{processed}\n{sums}"));
    }
    let drop = folder.path().join("drop.sql");
    fs::write(&drop, format!("SET client_min_messages = warning; DROP SCHEMA {schema} CASCADE;"))?;
    query(drop).await?;
    transcript.push_str("done:\n");
    Ok(transcript)
}

pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    fn complaint(&self) -> String {
        format!("{}\nafter {}", self.stderr.trim(), tail(&self.stdout))
    }
}

/// A program that does not outlive this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets a program come to its end. Its output goes to files, so it never waits for us to read.
async fn run(mut command: Command) -> Result<Ended> {
    run_with(&mut command, Stdio::null(), DEADLINE).await
}

pub(crate) async fn run_with(
    command: &mut Command,
    stdin: Stdio,
    patience: Duration,
) -> Result<Ended> {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.env("LC_ALL", "C.UTF-8").stdin(stdin);
    command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    // SAFETY: between fork and exec only prctl is called, which is a plain system call.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let deadline = Instant::now() + patience;
    let child = command.spawn().with_context(|| format!("{:?}", command.get_program()))?;
    let mut running = Running(child);
    let status = loop {
        if let Some(status) = running.0.try_wait()? {
            break Some(status);
        }
        if Instant::now() > deadline {
            break None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    drop(running);
    let (stdout, stderr) = (whole(stdout)?, whole(stderr)?);
    match status {
        Some(status) => Ok(Ended { status, stdout, stderr }),
        None => bail!("not done within {patience:?}: {}\nafter {}", stderr.trim(), tail(&stdout)),
    }
}

fn whole(mut file: File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let last: Vec<_> =
        lines[lines.len().saturating_sub(3)..].iter().map(|line| shortened(line)).collect();
    last.join("\n")
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_by_line_and_section() {
        assert_eq!(difference("-- a\nx: 1\n", "-- a\nx: 1\n"), None);
        let told = difference("-- a\nx: 1\ny: 2\n", "-- a\nx: 1\n").unwrap_or_default();
        assert_eq!(told, "line 3, -- a\n  expected y: 2\n  got      nothing");
        assert_eq!(difference("x\n", "x").as_deref(), Some("only in how lines end"));
    }
}
