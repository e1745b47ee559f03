//! `integratedb check`: what a migration would break, without keeping anything of it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};
use tokio_postgres::error::{DbError as PgError, ErrorPosition};
use tokio_postgres::{Client, Transaction};

use super::statements::{self, Kind, Statement};
use super::{Common, Format, output};
use crate::db;

/// What `check` takes.
#[derive(Args)]
pub(super) struct Flags {
    /// SQL files, in the order they are to be applied.
    #[arg(required = true, value_name = "MIGRATION.sql")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// Give up when a lock can't be had within so long, as a Postgres interval.
    #[arg(long, default_value = "3s", value_name = "INTERVAL")]
    lock_timeout: String,
    /// Tell at most so many failures.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..), value_name = "N")]
    max: i32,
}

/// What was found out.
#[derive(Default)]
struct Report {
    unmet: Vec<Value>,
    /// Where the migration's own validation refused it, and in which words.
    refused: Vec<Value>,
    notes: Vec<String>,
}

impl Report {
    /// A migration that its own validation refuses does not commit, whatever is unmet afterwards: what the
    /// refused statement had done before is undone with it.
    fn is_valid(&self) -> bool {
        self.unmet.is_empty() && self.refused.is_empty()
    }
}

pub(super) async fn check(flags: Flags) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for path in &flags.files {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("can't read {}", path.display()))?;
        let statements = statements::split(&text).with_context(|| path.display().to_string())?;
        if let Some(copy) = statements.iter().find(|one| one.kind == Kind::NeedsData) {
            bail!(
                "{}:{}: COPY … FROM STDIN can't be checked, because its data is not SQL; give INSERTs, or \
                 check a file without it",
                path.display(),
                copy.line
            );
        }
        files.push((path.as_path(), statements));
    }
    let mut client = db::connect(&flags.common.url()).await?;
    let report = try_out(&mut client, &files, &flags).await?;
    print(&report, flags.common.format);
    Ok(if report.is_valid() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Runs everything in one transaction, and rolls it back. Nothing here can commit: what would is not sent,
/// and each text goes as a prepared statement, of which the server takes only a single one.
async fn try_out(
    client: &mut Client,
    files: &[(&Path, Vec<Statement>)],
    flags: &Flags,
) -> anyhow::Result<Report> {
    let transaction = client.transaction().await.map_err(db::DbError::from)?;
    transaction
        .execute("SELECT set_config('lock_timeout', $1, true)", &[&flags.lock_timeout])
        .await
        .context("--lock-timeout is not an interval such as 3s")?;
    let before = unmet(&transaction, flags.max).await?;
    let mut report = Report::default();
    for (path, statements) in files {
        let path = path.display();
        let mut passed_over = Vec::new();
        for statement in statements {
            let line = statement.line;
            match statement.kind {
                Kind::TransactionControl => {
                    passed_over.push(format!("{} on line {line}", statement.name()));
                }
                Kind::OutsideTransaction => report.notes.push(format!(
                    "{path}:{line}: {} is skipped: it has no place in a transaction and affects no claim",
                    statement.name()
                )),
                // Refused before; were it sent, the server would only wait for the data.
                Kind::NeedsData => {}
                Kind::Savepoint => send(&transaction, statement)
                    .await
                    .map_err(|error| describe(&path, statement, &error))?,
                Kind::Run => {
                    let refusal = run(&transaction, statement)
                        .await
                        .map_err(|error| describe(&path, statement, &error))?;
                    report.refused.extend(refusal.map(|error| {
                        json!({
                            "place": format!("{path}:{line}"),
                            "message": error.message(),
                            "detail": error.detail(),
                            "hint": error.hint(),
                        })
                    }));
                }
            }
        }
        if !passed_over.is_empty() {
            report.notes.push(format!(
                "{path}: all is checked as one transaction; passed over: {}",
                passed_over.join(", ")
            ));
        }
    }
    // The migration may have become somebody who may not ask.
    transaction.batch_execute("RESET SESSION AUTHORIZATION; RESET ROLE").await?;
    let after = unmet(&transaction, flags.max).await?;
    transaction.rollback().await.map_err(db::DbError::from)?;
    let old = after.iter().filter(|one| before.contains(one)).count();
    if old > 0 {
        report.notes.push(format!("{old} of the failures were there before this migration"));
    }
    report.unmet = after;
    Ok(report)
}

/// Runs one statement. A refusal by the migration's own validation is given back: it is what we want to
/// report, not an error. The savepoint lets the transaction go on after it.
async fn run(
    transaction: &Transaction<'_>,
    statement: &Statement,
) -> Result<Option<PgError>, tokio_postgres::Error> {
    transaction.batch_execute("SAVEPOINT integratedb_check").await?;
    let refusal = match send(transaction, statement).await {
        Ok(()) => None,
        Err(error) => match error.as_db_error() {
            Some(inner) if inner.message().starts_with("IntegrateDB.InvalidMigration") => {
                let inner = inner.clone();
                transaction.batch_execute("ROLLBACK TO SAVEPOINT integratedb_check").await?;
                Some(inner)
            }
            _ => return Err(error),
        },
    };
    transaction.batch_execute("RELEASE SAVEPOINT integratedb_check").await?;
    Ok(refusal)
}

async fn send(
    transaction: &Transaction<'_>,
    statement: &Statement,
) -> Result<(), tokio_postgres::Error> {
    let prepared = transaction.prepare(&statement.text).await?;
    transaction.query(&prepared, &[]).await?;
    Ok(())
}

/// Where and why a statement failed, as the server says it.
fn describe(
    path: &std::path::Display<'_>,
    statement: &Statement,
    error: &tokio_postgres::Error,
) -> anyhow::Error {
    let Some(inner) = error.as_db_error() else {
        let why = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        return anyhow!("{path}:{}: {error}{why}", statement.line);
    };
    let line = match inner.position() {
        Some(ErrorPosition::Original(position)) => statement.line_of(*position),
        _ => statement.line,
    };
    let detail = inner.detail().map(|d| format!("\n  DETAIL: {d}")).unwrap_or_default();
    let hint = inner.hint().map(|h| format!("\n  HINT: {h}")).unwrap_or_default();
    anyhow!("{path}:{line}: {} ({}){detail}{hint}", inner.message(), inner.code().code())
}

async fn unmet(transaction: &Transaction<'_>, max: i32) -> anyhow::Result<Vec<Value>> {
    let rows = transaction
        .query("SELECT to_jsonb(u) FROM integratedb.unmet_claims($1) u", &[&max])
        .await
        .map_err(db::DbError::from)
        .context("can't ask for unmet claims")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn print(report: &Report, format: Format) {
    if format == Format::Json {
        let answer = json!({
            "valid": report.is_valid(), "unmet": report.unmet, "refused": report.refused,
            "notes": report.notes,
        });
        output::line(&answer.to_string());
        return;
    }
    for note in &report.notes {
        output::line(&format!("note: {note}"));
    }
    if report.is_valid() {
        output::line("No claim would break.");
        return;
    }
    for one in &report.refused {
        let text = |name: &str| one[name].as_str().unwrap_or_default();
        output::line(&format!("{}: {}", text("place"), text("message")));
        // Otherwise the list below says the same, and more.
        if report.unmet.is_empty() {
            output::line(&format!("  {}", text("detail").replace('\n', "\n  ")));
            output::line(&format!("  {}", text("hint")));
        }
    }
    if report.unmet.is_empty() {
        return;
    }
    output::line("This would break what others depend on:");
    for one in &report.unmet {
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        let field = one["field"].as_str().map(|field| format!(".{field}")).unwrap_or_default();
        output::line(&format!(
            "  {} needs {}{field} ({}): expected {}, found {}\n    {}",
            text("stakeholder"),
            text("path"),
            text("property"),
            text("expected"),
            text("actual"),
            text("hint"),
        ));
    }
}
