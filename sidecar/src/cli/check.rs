//! `integratedb check`: what a migration would break, without keeping anything of it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
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
    notes: Vec<String>,
}

pub(super) async fn check(flags: Flags) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for path in &flags.files {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("can't read {}", path.display()))?;
        let statements = statements::split(&text).with_context(|| path.display().to_string())?;
        files.push((path.as_path(), statements));
    }
    let mut client = db::connect(&flags.common.url()).await?;
    let report = try_out(&mut client, &files, &flags).await?;
    print(&report, flags.common.format);
    Ok(if report.unmet.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
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
        for statement in statements {
            let place = format!("{}:{}", path.display(), statement.line);
            match statement.kind {
                Kind::TransactionControl => {}
                Kind::OutsideTransaction => report.notes.push(format!(
                    "{place}: skipped, because it can't run in a transaction and affects no claim"
                )),
                Kind::Run => run(&transaction, statement).await.context(place)?,
            }
        }
    }
    let after = unmet(&transaction, flags.max).await?;
    transaction.rollback().await.map_err(db::DbError::from)?;
    let old = after.iter().filter(|one| before.contains(one)).count();
    if old > 0 {
        report.notes.push(format!("{old} of the failures were there before this migration"));
    }
    report.unmet = after;
    Ok(report)
}

/// Runs one statement. A refusal by the migration's own validation is what we want to report, not an error;
/// the savepoint lets the transaction go on after it.
async fn run(transaction: &Transaction<'_>, statement: &Statement) -> anyhow::Result<()> {
    transaction.batch_execute("SAVEPOINT integratedb_check").await?;
    let result = async {
        let prepared = transaction.prepare(&statement.text).await?;
        transaction.query(&prepared, &[]).await
    };
    match result.await {
        Ok(_) => {
            // The migration may have released it, or rolled back to one of its own, before.
            if transaction.batch_execute("RELEASE SAVEPOINT integratedb_check").await.is_err() {
                bail!("its savepoints can't be followed; check a file without ROLLBACK TO");
            }
        }
        Err(error) => {
            let Some(inner) = error.as_db_error() else { return Err(error.into()) };
            let is_verdict = inner.message().starts_with("IntegrateDB.InvalidMigration");
            if !is_verdict {
                let detail = inner.detail().map(|d| format!("\n  DETAIL: {d}")).unwrap_or_default();
                let hint = inner.hint().map(|h| format!("\n  HINT: {h}")).unwrap_or_default();
                bail!("{} ({}){detail}{hint}", inner.message(), inner.code().code());
            }
            transaction.batch_execute("ROLLBACK TO SAVEPOINT integratedb_check").await?;
        }
    }
    Ok(())
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
            "valid": report.unmet.is_empty(), "unmet": report.unmet, "notes": report.notes,
        });
        output::line(&answer.to_string());
        return;
    }
    for note in &report.notes {
        output::line(&format!("note: {note}"));
    }
    if report.unmet.is_empty() {
        output::line("No claim would break.");
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
