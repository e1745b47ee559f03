//! What Zync answers, at the same paths and with the same JSON: notifications, tenants, and whether it lives.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::record;
use super::token::Notifier;
use crate::api::access::Access;
use crate::api::app::App;
use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::db::{DbError, Patience, check_extension, check_migrations};
use crate::reach::Reach;
use crate::secret::Secret;
use crate::sync::source::classes::{self, ClassError};
use crate::sync::source::http::check_endpoint;
use crate::sync::tenants::{self, Kept};
use crate::sync::{SyncError, TenantId, accept};

/// The most characters of an endpoint, and of a token.
const LONGEST: usize = 255;

/// What the body of a notification says: whose model, its class, and what is needed to fetch it.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"type": "Application", "id": 3, "service_id": 5, "tenant_id": 16}))]
pub(crate) struct NotificationBody {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    said: Map<String, Value>,
}

/// A model, as Zync shows it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ZyncModel {
    id: i64,
    tenant_id: i64,
    #[schema(example = "Application")]
    record_type: String,
    /// What its source calls it: a number where it is one.
    #[schema(value_type = i64)]
    record_id: Value,
    /// When it was first notified of.
    created_at: String,
    /// When this notification was taken.
    updated_at: String,
}

/// `{"tenant": {"id", "endpoint", "access_token"}}`
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"tenant": {"id": 16, "endpoint": "https://example.com", "access_token": "…"}}))]
pub(crate) struct TenantBody {
    #[schema(value_type = Object)]
    #[serde(default)]
    tenant: Value,
}

/// Whether the process runs, or more.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alive {
    ok: bool,
    /// Whether the database answers, and has what is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<bool>,
}

/// Whether the tenant has classes of its own that count; no row if there is no such tenant.
const KNOWN: &str = "
    SELECT EXISTS (SELECT FROM integratedb.sync_class c WHERE c.tenant_id = t.id) FROM integratedb.sync_tenant t
    WHERE t.id = $1 AND t.endpoint IS NOT NULL";

const NOTE: &str = "
    WITH said AS (
        INSERT INTO integratedb.sync_notification (tenant_id, model_id, data) VALUES ($1, $2, $3) RETURNING inserted_at
    )
    SELECT to_char(m.inserted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
           to_char(s.inserted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')
    FROM integratedb.sync_model m, said s WHERE m.id = $2";

/// Says that a model may have changed. It is fetched, and pushed to where it goes.
#[utoipa::path(put, path = "/notification", tag = "sync", request_body = NotificationBody, security(("zync" = [])),
    responses((status = 201, body = ZyncModel), (status = 403), (status = 404), (status = 422)))]
pub(crate) async fn notify(
    State(app): State<App>,
    _: Notifier,
    Json(body): Json<NotificationBody>,
) -> Result<Response, ApiError> {
    let tenant = whole_number(body.said.get("tenant_id"))
        .ok_or_else(|| ApiError::field("tenant_id", "has to be a whole number"))?;
    // Those of stakeholders are negative. Their models are rows here, whose changes are seen.
    let tenant = Some(TenantId(tenant)).filter(|id| id.0 >= 0).ok_or(ApiError::NotFound)?;
    // All that is said is kept.
    if let Some((name, _)) =
        body.said.iter().find(|(name, value)| name.contains('\0') || super::has_zero(value))
    {
        let wrong = json!({ name.replace('\0', ""): ["has the character 0"] });
        return Err(ApiError::Unprocessable(wrong));
    }
    let mut patience = Patience::new();
    let model = loop {
        match take(&app, tenant, &body.said).await {
            // Another request was in the way, such as one that removes the tenant.
            Err(NotTaken::Sync(SyncError::Database(DbError::Busy))) if patience.again().await => {}
            Ok(model) => break model,
            Err(NotTaken::NoTenant) => return Err(ApiError::NotFound),
            Err(NotTaken::Wrong(error)) => return Err(error.into()),
            Err(NotTaken::Sync(error)) => return Err(error.into()),
        }
    };
    app.sync().wake.notify_one();
    Ok((StatusCode::CREATED, axum::Json(model)).into_response())
}

/// Why a notification was not taken.
enum NotTaken {
    NoTenant,
    Wrong(ClassError),
    Sync(SyncError),
}

impl<E: Into<SyncError>> From<E> for NotTaken {
    fn from(error: E) -> Self {
        Self::Sync(error.into())
    }
}

impl From<ClassError> for ApiError {
    fn from(error: ClassError) -> Self {
        let wrong = match &error {
            ClassError::Unknown(_) => vec![("type".to_owned(), error.to_string())],
            ClassError::Fields(fields) => {
                fields.iter().map(|(name, what)| (name.clone(), (*what).to_owned())).collect()
            }
        };
        let wrong = wrong.into_iter().map(|(name, what)| (name, json!([what])));
        Self::Unprocessable(Value::Object(wrong.collect()))
    }
}

async fn take(
    app: &App,
    tenant: TenantId,
    said: &Map<String, Value>,
) -> Result<ZyncModel, NotTaken> {
    let mut client = app.pool().get().await?;
    let known = client.prepare_cached(KNOWN).await?;
    let row = client.query_opt(&known, &[&tenant.0]).await?.ok_or(NotTaken::NoTenant)?;
    // Most have none, and need no further look.
    let read = match row.get::<_, bool>(0) {
        false => classes::read(tenant, said),
        true => classes::load(&client, tenant).await?.read(tenant, said),
    };
    let notified = read.map_err(NotTaken::Wrong)?;
    let transaction = client.transaction().await?;
    let models = accept(&transaction, std::slice::from_ref(&notified)).await?;
    let missing = || SyncError::Unexpected("a notification was taken for no model".to_owned());
    let id = models.first().ok_or_else(missing)?.0;
    let statement = transaction.prepare_cached(NOTE).await?;
    let row = transaction
        .query_one(&statement, &[&tenant.0, &id, &tokio_postgres::types::Json(said)])
        .await?;
    transaction.commit().await?;
    let model = &notified.model;
    // "007" is no number: its text would come out otherwise.
    let number = model.key.parse::<i64>().ok().filter(|number| number.to_string() == model.key);
    Ok(ZyncModel {
        id,
        tenant_id: tenant.0,
        record_type: model.class.clone(),
        record_id: number.map_or_else(|| Value::from(model.key.as_str()), Value::from),
        created_at: row.get(0),
        updated_at: row.get(1),
    })
}

/// Sets where the models of a tenant come from, and the token that its API asks for.
#[utoipa::path(put, path = "/tenant", tag = "sync", request_body = TenantBody, security(("zync" = [])),
    responses((status = 201), (status = 204), (status = 403), (status = 422)))]
pub(crate) async fn set_tenant(
    State(app): State<App>,
    _: Notifier,
    access: Access,
    Json(body): Json<TenantBody>,
) -> Result<StatusCode, ApiError> {
    let reach = Reach::from(&app.sync().settings);
    let (id, endpoint, token) = read_tenant(&body.tenant, &reach)?;
    let sealer = super::sealer(&app)?.ok_or_else(|| {
        let why = "An access token is only kept encrypted: set sync.key_file to a file with a key of 64 hexadecimal digits.";
        ApiError::Unprocessable(json!({ "detail": why }))
    })?;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let (status, before, after) =
        match tenants::put(&transaction, &sealer, id, &endpoint, &token).await? {
            Kept::New(tenant) => (StatusCode::CREATED, None, Some(tenant)),
            Kept::Changed(before, after) => (StatusCode::NO_CONTENT, Some(before), Some(after)),
            Kept::Same => (StatusCode::NO_CONTENT, None, None),
        };
    if after.is_some() {
        let subject = format!("/api/v1/sync/tenants/{id}");
        record(&transaction, &access, "tenant.put", &subject, before.as_ref(), after.as_ref())
            .await?;
    }
    transaction.commit().await?;
    app.sync().wake.notify_one();
    Ok(status)
}

fn read_tenant(
    tenant: &Value,
    reach: &Reach,
) -> Result<(TenantId, String, Secret<String>), ApiError> {
    let mut mistakes = Vec::new();
    let id = match whole_number(tenant.get("id")) {
        Some(id) if id >= 0 => TenantId(id),
        _ => {
            mistakes.push(("id", "has to be a whole number, not below 0".to_owned()));
            TenantId(0)
        }
    };
    let mut text = |name| match tenant.get(name) {
        Some(Value::String(text)) if text.chars().count() > LONGEST => {
            mistakes.push((name, format!("is too long (maximum is {LONGEST} characters)")));
            None
        }
        Some(Value::String(text)) if text.contains(char::is_control) => {
            mistakes.push((name, "has control characters".to_owned()));
            None
        }
        Some(Value::String(text)) if !text.trim().is_empty() => Some(text.clone()),
        None | Some(Value::Null | Value::String(_)) => {
            mistakes.push((name, "can't be blank".to_owned()));
            None
        }
        Some(_) => {
            mistakes.push((name, "has to be a string".to_owned()));
            None
        }
    };
    let (endpoint, token) = (text("endpoint"), text("access_token"));
    if let Some(why) = endpoint.as_deref().and_then(|endpoint| wrong_endpoint(endpoint, reach)) {
        mistakes.push(("endpoint", why));
    }
    match (endpoint, token) {
        (Some(endpoint), Some(token)) if mistakes.is_empty() => {
            Ok((id, endpoint, Secret::new(token)))
        }
        _ => Err(ApiError::Fields(mistakes)),
    }
}

/// What can be said against an endpoint before it is asked. The same is looked at each time it is.
fn wrong_endpoint(endpoint: &str, reach: &Reach) -> Option<String> {
    let checked = check_endpoint(endpoint).and_then(|url| reach.check(&url));
    checked.err().map(|why| format!("can't be used: {why}"))
}

/// A whole number, also as text, which Zync takes too.
fn whole_number(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    }
}

/// The process runs.
#[utoipa::path(get, path = "/status/live", tag = "sync", responses((status = 200, body = Alive)))]
pub(crate) async fn live() -> axum::Json<Alive> {
    axum::Json(Alive { ok: true, database: None })
}

/// The database answers, and has what is needed.
#[utoipa::path(get, path = "/status/ready", tag = "sync",
    responses((status = 200, body = Alive), (status = 503, body = Alive)))]
pub(crate) async fn ready(State(app): State<App>) -> Response {
    let (status, is_ready) = match is_ready(&app).await {
        Ok(()) => (StatusCode::OK, true),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, false)
        }
    };
    (status, axum::Json(Alive { ok: is_ready, database: Some(is_ready) })).into_response()
}

async fn is_ready(app: &App) -> Result<(), DbError> {
    let client = app.pool().get().await?;
    check_extension(&client).await?;
    check_migrations(&client).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::SyncSettings;

    #[test]
    fn a_tenant_has_an_address_that_paths_can_be_put_behind_and_a_token() {
        let reach = Reach::from(&SyncSettings { allow_http: true, ..SyncSettings::default() });
        let wrong = |tenant: Value| match read_tenant(&tenant, &reach) {
            Ok(_) => Vec::new(),
            Err(ApiError::Fields(fields)) => fields.into_iter().map(|(name, _)| name).collect(),
            Err(other) => panic!("{other:?}"),
        };
        let of = |endpoint: &str| json!({"id": 16, "endpoint": endpoint, "access_token": "t"});
        for endpoint in
            ["https://example.com", "http://example.com:3000/base/", "https://[2606:4700::1]"]
        {
            assert_eq!(wrong(of(endpoint)), [] as [&str; 0], "{endpoint}");
        }
        let long = format!("https://example.com/{}", "x".repeat(236));
        for endpoint in [
            "",
            "example.com",
            "ftp://example.com",
            "https://",
            "https://u:p@example.com",
            "https://u@example.com",
            "https://example.com/?a=b",
            "https://example.com/#a",
            "https://127.0.0.1",
            &long,
        ] {
            assert_eq!(wrong(of(endpoint)), ["endpoint"], "{endpoint}");
        }
        assert_eq!(wrong(Value::Null), ["id", "endpoint", "access_token"]);
        assert_eq!(
            wrong(json!({"id": "x", "endpoint": 1, "access_token": " "})),
            ["id", "endpoint", "access_token"]
        );
        assert_eq!(wrong(json!({"id": -1, "endpoint": "https://a", "access_token": "t"})), ["id"]);
        assert_eq!(
            wrong(json!({"id": "16", "endpoint": "https://a", "access_token": "t"})),
            [] as [&str; 0]
        );
    }
}
