//! Declared classes in the sidecar's database.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio_postgres::{Client, Row, Transaction};

use super::check::Declarant;
use super::definition::{Asked, Problem, TableClass};
use crate::sync::error::SyncError;
use crate::sync::ids::TenantId;

/// The longest name of a class, in characters.
const MOST_NAME: usize = 100;

/// A declared class, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassView {
    /// Its name.
    pub name: String,
    /// What was declared, with all that was left out filled in.
    pub definition: Value,
    /// Raised when the definition changes.
    pub version: i64,
    /// Whether rows that are there are still being gone through.
    pub is_scanning: bool,
    /// How many rows the last scan has met so far.
    pub scanned: i64,
    /// Why its changes are not followed at present.
    pub error: Option<String>,
    /// When it was first declared, as RFC 3339 has times.
    pub inserted_at: String,
    /// When it was last declared otherwise.
    pub updated_at: String,
}

/// Why a class can't be declared.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// There is no such stakeholder.
    #[error("there is no stakeholder with the id {0}")]
    NoStakeholder(i64),
    /// What is wrong with it: each a sentence, and where in the definition, a JSON pointer. That of the name is empty.
    #[error("the class can't be declared so")]
    Invalid(Vec<(String, String)>),
    /// It could not be looked at or stored.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

impl From<tokio_postgres::Error> for DeclareError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sync(error.into())
    }
}

const VIEW: &str = r#"SELECT name, definition, version, scan IS NOT NULL, scanned, error,
    to_char(inserted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    FROM integratedb.sync_class WHERE tenant_id = $1"#;

impl From<&Row> for ClassView {
    fn from(row: &Row) -> Self {
        Self {
            name: row.get(0),
            definition: row.get(1),
            version: row.get(2),
            is_scanning: row.get(3),
            scanned: row.get(4),
            error: row.get(5),
            inserted_at: row.get(6),
            updated_at: row.get(7),
        }
    }
}

/// The tenant that a stakeholder is, if it has declared anything.
async fn tenant(client: &Client, stakeholder: i64) -> Result<Option<TenantId>, SyncError> {
    let sql = "SELECT id FROM integratedb.sync_tenant WHERE stakeholder_id = $1";
    Ok(client.query_opt(sql, &[&stakeholder]).await?.map(|row| TenantId(row.get(0))))
}

async fn definitions(
    client: &Client,
    tenant: TenantId,
) -> Result<BTreeMap<String, TableClass>, SyncError> {
    let sql = "SELECT name, definition FROM integratedb.sync_class WHERE tenant_id = $1";
    let rows = client.query(sql, &[&tenant.0]).await?;
    rows.iter().map(|row| Ok((row.get(0), read(row.get(0), row.get(1))?))).collect()
}

/// A definition as it was stored.
pub(crate) fn read(name: &str, definition: Value) -> Result<TableClass, SyncError> {
    serde_json::from_value(definition).map_err(|error| {
        SyncError::Unexpected(format!("the class {name} can't be read as it was stored: {error}"))
    })
}

// A sequence gives another number each time it is asked; so it is asked only by who needs one.
const TENANT: &str = "INSERT INTO integratedb.sync_tenant (id, stakeholder_id)
    VALUES (nextval('integratedb.sync_stakeholder_tenant'), $1) ON CONFLICT (stakeholder_id) DO NOTHING";

const DECLARE: &str = "INSERT INTO integratedb.sync_class AS c (tenant_id, name, definition, scan)
    VALUES ($1, $2, $3, '{}')
    ON CONFLICT (tenant_id, name) DO UPDATE
    SET definition = excluded.definition, version = c.version + 1, scan = '{}', scanned = 0, error = NULL,
        updated_at = now()
    WHERE c.definition <> excluded.definition";

/// Locks a class that is to be declared or withdrawn, and all others of its stakeholder, until the transaction ends; and
/// gives it, if it is declared.
pub async fn begin(
    tx: &Transaction<'_>,
    stakeholder: i64,
    name: &str,
) -> Result<Option<ClassView>, DeclareError> {
    let sql = "SELECT FROM integratedb.stakeholder WHERE id = $1";
    if tx.query_opt(sql, &[&stakeholder]).await?.is_none() {
        return Err(DeclareError::NoStakeholder(stakeholder));
    }
    if tenant(tx.client(), stakeholder).await?.is_none() {
        tx.execute(TENANT, &[&stakeholder]).await?;
    }
    // Whoever declares something else of this stakeholder waits: each is checked with what the other has declared.
    let sql = "SELECT FROM integratedb.sync_tenant WHERE stakeholder_id = $1 FOR NO KEY UPDATE";
    tx.query_opt(sql, &[&stakeholder]).await?;
    Ok(show(tx.client(), stakeholder, name).await?)
}

/// Declares a class of a stakeholder, or declares it anew, after [`begin`]. If that changes anything, all its rows are gone
/// through.
pub async fn declare(
    tx: &Transaction<'_>,
    stakeholder: i64,
    name: &str,
    definition: &Value,
) -> Result<ClassView, DeclareError> {
    let mut wrong = name_problems(name);
    let asked = Asked::read(definition).map_err(|problems| wrong.extend(problems)).ok();
    let Some(asked) = asked.filter(|_| wrong.is_empty()) else {
        return Err(DeclareError::Invalid(wrong));
    };
    let tenant = tenant(tx.client(), stakeholder).await?;
    let tenant = tenant.ok_or(DeclareError::NoStakeholder(stakeholder))?;
    let classes = definitions(tx.client(), tenant).await?;
    let declarant = Declarant { client: tx.client(), id: stakeholder, classes: &classes };
    let checked = declarant.check(name, asked).await.map_err(SyncError::from)?;
    let class = checked.and_then(|class| fits_those_below(name, class, &classes));
    let class = class.map_err(DeclareError::Invalid)?;
    let definition = serde_json::to_value(&class).map_err(|error| {
        SyncError::Unexpected(format!("the class {name} can't be written: {error}"))
    })?;
    tx.execute(DECLARE, &[&tenant.0, &name, &definition]).await?;
    let row = tx.query_one(&format!("{VIEW} AND name = $2"), &[&tenant.0, &name]).await?;
    Ok(ClassView::from(&row))
}

fn name_problems(name: &str) -> Vec<Problem> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=MOST_NAME).contains(&name.len()) && name.chars().all(is_plain) {
        return Vec::new();
    }
    let what =
        format!("The name of a class has 1 to {MOST_NAME} letters, digits, `_`, `-` and `.`.");
    vec![(what, String::new())]
}

/// Classes that have this one for a parent name as many columns as it has key columns.
fn fits_those_below(
    name: &str,
    class: TableClass,
    classes: &BTreeMap<String, TableClass>,
) -> Result<TableClass, Vec<Problem>> {
    for (below, other) in classes {
        if let Some(parent) = &other.parent
            && parent.class == name
            && parent.columns.len() != class.key.len()
        {
            let what = format!(
                "{below} names {} columns for the key of its parent {name}, which would have {}: declare it without the \
                 parent first.",
                parent.columns.len(),
                class.key.len()
            );
            return Err(vec![(what, "/key".to_owned())]);
        }
    }
    Ok(class)
}

/// There is nowhere to fetch them from any more.
const FORGET: &str = "
WITH due AS (
    SELECT u.model_id
    FROM integratedb.sync_update u
    JOIN integratedb.sync_model m ON m.id = u.model_id JOIN integratedb.sync_record r ON r.id = m.record_id
    WHERE u.tenant_id = $1 AND u.due_at IS NOT NULL AND u.lease IS NULL AND r.class = $2
    ORDER BY u.model_id FOR NO KEY UPDATE OF u
)
UPDATE integratedb.sync_update u SET due_at = NULL FROM due WHERE u.model_id = due.model_id";

/// Withdraws a class, after [`begin`]: its rows are not followed any more. What targets have of it stays there, as do its
/// models and entries. False if there is none.
pub async fn withdraw(
    tx: &Transaction<'_>,
    stakeholder: i64,
    name: &str,
) -> Result<bool, SyncError> {
    let Some(tenant) = tenant(tx.client(), stakeholder).await? else { return Ok(false) };
    let classes = definitions(tx.client(), tenant).await?;
    let is_below = |class: &TableClass| class.parent.as_ref().is_some_and(|p| p.class == name);
    if let Some((below, _)) =
        classes.iter().find(|(below, class)| *below != name && is_below(class))
    {
        return Err(SyncError::Refused(format!(
            "{name} is the parent of {below}: withdraw that first, or declare it without a parent"
        )));
    }
    let sql = "DELETE FROM integratedb.sync_class WHERE tenant_id = $1 AND name = $2";
    let withdrawn = tx.execute(sql, &[&tenant.0, &name]).await? > 0;
    if withdrawn {
        // One that is declared under this name later begins with the same version, and is another source.
        let sql = "UPDATE integratedb.sync_tenant SET version = version + 1 WHERE id = $1";
        tx.execute(sql, &[&tenant.0]).await?;
        tx.execute(FORGET, &[&tenant.0, &name]).await?;
    }
    Ok(withdrawn)
}

/// The first `limit` classes that a stakeholder has declared, by name, after the one of this name.
pub async fn list(
    client: &Client,
    stakeholder: i64,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<ClassView>, SyncError> {
    let Some(tenant) = tenant(client, stakeholder).await? else { return Ok(Vec::new()) };
    let sql = format!("{VIEW} AND ($2::text IS NULL OR name > $2) ORDER BY name LIMIT $3");
    let rows = client.query(&sql, &[&tenant.0, &after, &limit]).await?;
    Ok(rows.iter().map(ClassView::from).collect())
}

/// One of them, if it is declared.
pub async fn show(
    client: &Client,
    stakeholder: i64,
    name: &str,
) -> Result<Option<ClassView>, SyncError> {
    let Some(tenant) = tenant(client, stakeholder).await? else { return Ok(None) };
    let row = client.query_opt(&format!("{VIEW} AND name = $2"), &[&tenant.0, &name]).await?;
    Ok(row.as_ref().map(ClassView::from))
}

/// A class of a tenant, the stakeholder that the tenant is, and the version of the definition; `None` if it is not
/// declared.
pub async fn load(
    client: &Client,
    tenant: TenantId,
    name: &str,
) -> Result<Option<(TableClass, i64, i64)>, SyncError> {
    let sql = "SELECT c.definition, t.stakeholder_id, c.version
               FROM integratedb.sync_class c JOIN integratedb.sync_tenant t ON t.id = c.tenant_id
               WHERE c.tenant_id = $1 AND c.name = $2 AND t.stakeholder_id IS NOT NULL";
    let Some(row) = client.query_opt(sql, &[&tenant.0, &name]).await? else { return Ok(None) };
    Ok(Some((read(name, row.get(0))?, row.get(1), row.get(2))))
}

/// Removes tenants whose stakeholders are gone, with all that was theirs.
pub(crate) async fn orphans(client: &Client) -> Result<(), SyncError> {
    let sql = "DELETE FROM integratedb.sync_tenant t WHERE t.stakeholder_id IS NOT NULL
                 AND NOT EXISTS (SELECT FROM integratedb.stakeholder s WHERE s.id = t.stakeholder_id)";
    client.execute(sql, &[]).await?;
    Ok(())
}
