//! `integratedb claims` and `integratedb who-uses`: the two questions people ask before a migration.

use std::process::ExitCode;

use anyhow::{Context, bail};
use integratedb_claims::Identifier;
use serde_json::json;
use tokio_postgres::Row;

use super::{Common, Format, output};
use crate::db;

const COLUMNS: &str = "SELECT stakeholder, schema_name, table_name, column_name, type, \
    nullif(min_length, 2147483647) AS min_length, is_nullable, optional, alternatives \
    FROM integratedb.claimed_columns";
const ORDER: &str = "ORDER BY stakeholder, schema_name, table_name, column_name";

pub(super) async fn claims(stakeholder: &str, common: &Common) -> anyhow::Result<ExitCode> {
    let client = db::connect(&common.url()).await?;
    let known = client
        .query_opt("SELECT FROM integratedb.stakeholder_names WHERE name = $1", &[&stakeholder])
        .await
        .map_err(db::DbError::from)?;
    if known.is_none() {
        bail!("there is no stakeholder named {stakeholder}");
    }
    let rows = client
        .query(&format!("{COLUMNS} WHERE stakeholder = $1 {ORDER}"), &[&stakeholder])
        .await
        .map_err(db::DbError::from)?;
    print(&rows, common.format, &format!("{stakeholder} claims nothing."));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn who_uses(path: &str, common: &Common) -> anyhow::Result<ExitCode> {
    let (schema, table, column) = split(path)?;
    let client = db::connect(&common.url()).await?;
    let column = column.as_ref().map(Identifier::as_str);
    let rows = client
        .query(
            &format!(
                "{COLUMNS} WHERE schema_name = $1 AND table_name = $2 \
                 AND ($3::text IS NULL OR column_name = $3) {ORDER}"
            ),
            &[&schema.as_str(), &table.as_str(), &column],
        )
        .await
        .map_err(db::DbError::from)?;
    print(&rows, common.format, &format!("Nobody claims {path}."));
    Ok(ExitCode::SUCCESS)
}

/// Splits `schema.table` or `schema.table.column` at the dots outside of double quotes.
fn split(path: &str) -> anyhow::Result<(Identifier, Identifier, Option<Identifier>)> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in path.chars() {
        quoted ^= c == '"';
        match (c, parts.last_mut()) {
            ('.', _) if !quoted => parts.push(String::new()),
            (_, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    let mut names = parts.iter().map(|part| Identifier::parse(part));
    let context = || format!("{path} is not of the form schema.table or schema.table.column");
    match parts.len() {
        2 | 3 => {
            let mut next = || names.next().transpose().with_context(context);
            let (schema, table, column) = (next()?, next()?, next()?);
            Ok((schema.with_context(context)?, table.with_context(context)?, column))
        }
        _ => bail!(context()),
    }
}

fn print(rows: &[Row], format: Format, none: &str) {
    if format == Format::Json {
        let all: Vec<_> = rows.iter().map(row_json).collect();
        output::line(&json!({ "claims": all }).to_string());
        return;
    }
    if rows.is_empty() {
        output::line(none);
        return;
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let text = |name| row.get::<_, Option<String>>(name).unwrap_or_default();
            let mut notes = Vec::new();
            if let Some(length) = row.get::<_, Option<i32>>("min_length") {
                notes.push(format!("at least {length}"));
            }
            if row.get::<_, Option<bool>>("is_nullable") == Some(false) {
                notes.push("not null".to_owned());
            }
            if row.get("optional") {
                notes.push("optional".to_owned());
            }
            if row.get::<_, i32>("alternatives") > 1 {
                notes.push("an alternative".to_owned());
            }
            vec![
                text("stakeholder"),
                format!("{}.{}", text("schema_name"), text("table_name")),
                text("column_name"),
                text("type"),
                notes.join(", "),
            ]
        })
        .collect();
    output::table(&["stakeholder", "table", "column", "type", "needs"], &rows);
}

fn row_json(row: &Row) -> serde_json::Value {
    json!({
        "stakeholder": row.get::<_, String>("stakeholder"),
        "schema": row.get::<_, String>("schema_name"),
        "table": row.get::<_, String>("table_name"),
        "column": row.get::<_, Option<String>>("column_name"),
        "type": row.get::<_, Option<String>>("type"),
        "min_length": row.get::<_, Option<i32>>("min_length"),
        "is_nullable": row.get::<_, Option<bool>>("is_nullable"),
        "optional": row.get::<_, bool>("optional"),
        "alternatives": row.get::<_, i32>("alternatives"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_in_quotes_do_not_split() {
        let (schema, table, column) = split(r#"app."a.b"."c""d""#).expect("a path");
        assert_eq!((schema.as_str(), table.as_str()), ("app", "a.b"));
        assert_eq!(column.expect("a column").as_str(), "c\"d");
        assert!(split("orders").is_err() && split("a.b.c.d").is_err() && split("a.").is_err());
    }
}
