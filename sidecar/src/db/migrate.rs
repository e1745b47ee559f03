//! The sidecar's own tables, made and changed by numbered scripts that each run once.

use tokio_postgres::Client;

use super::error::DbError;

/// Number and script, in order. A script that was released is never edited again.
const MIGRATIONS: &[(i32, &str)] = &[
    (1, include_str!("../../migrations/0001_users.sql")),
    (2, include_str!("../../migrations/0002_cache_rules.sql")),
    (3, include_str!("../../migrations/0003_event_log.sql")),
    (4, include_str!("../../migrations/0004_channels.sql")),
    (5, include_str!("../../migrations/0005_backfills.sql")),
    (6, include_str!("../../migrations/0006_sync.sql")),
    (7, include_str!("../../migrations/0007_control.sql")),
];

/// The advisory lock that lets only one sidecar migrate at a time: "idbs" as a number.
const LOCK: i64 = 0x6964_6273;

/// Says in words if the extension is missing or out of reach.
pub async fn check_extension(client: &Client) -> Result<(), DbError> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'integratedb') AS installed, \
                    current_user::text AS role, \
                    coalesce(has_schema_privilege(to_regnamespace('integratedb'), 'CREATE'), false) \
                        AS granted",
            &[],
        )
        .await?;
    let role: &str = row.get("role");
    if !row.get::<_, bool>("installed") {
        return Err(DbError::Unexpected(format!(
            "the extension is not installed in this database; as a superuser run: CREATE EXTENSION \
             integratedb; SELECT integratedb.grant_sidecar('{role}')"
        )));
    }
    if !row.get::<_, bool>("granted") {
        return Err(DbError::Unexpected(format!(
            "the role {role} may not use the extension; as a superuser run: SELECT \
             integratedb.grant_sidecar('{role}')"
        )));
    }
    Ok(())
}

/// Errors unless every script of this version has run.
pub async fn check_migrations(client: &Client) -> Result<(), DbError> {
    let numbers: Vec<i32> = MIGRATIONS.iter().map(|(number, _)| *number).collect();
    let row = client
        .query_one(
            "SELECT count(*) FROM integratedb.sidecar_migration WHERE number = ANY ($1)",
            &[&numbers],
        )
        .await?;
    let applied = usize::try_from(row.get::<_, i64>(0)).unwrap_or_default();
    if applied == numbers.len() {
        Ok(())
    } else {
        Err(DbError::Unexpected(format!(
            "{applied} of the sidecar's {} migrations have run; restart the sidecar",
            numbers.len()
        )))
    }
}

/// Brings the sidecar's tables to this version, all or nothing. Returns how many scripts ran.
pub async fn migrate(client: &mut Client) -> Result<usize, DbError> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    transaction
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS integratedb.sidecar_migration (
                 number integer PRIMARY KEY,
                 applied_at timestamptz NOT NULL DEFAULT now()
             )",
        )
        .await?;
    let mut applied = 0;
    for (number, script) in MIGRATIONS {
        let is_new = transaction
            .execute(
                "INSERT INTO integratedb.sidecar_migration (number) VALUES ($1) ON CONFLICT DO NOTHING",
                &[number],
            )
            .await?;
        if is_new == 1 {
            transaction.batch_execute(script).await?;
            applied += 1;
        }
    }
    transaction.commit().await?;
    Ok(applied)
}
