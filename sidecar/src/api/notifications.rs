//! `/api/v1/stakeholders/:id/notifications`: which changes a stakeholder is told, and where.
//!
//! Three stages, as for claims: the JSON Schema here; typed reading, of channels here and of the rest in the extension;
//! comparison with the database in the extension. What the extension stores and the channels change in one transaction.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use integratedb_events::EventId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::access::Access;
use super::app::App;
use super::body::Data;
use super::claims::{check, refused};
use super::error::ApiError;
use super::extract::{Authenticated, Id, Json};
use super::schema::Mistake;
use super::tag::{IfMatch, Tagged};
use crate::audit::{self, Actor, Change};
use crate::db::{self, DbError, Patience};
use crate::notify::channels::{self, ChannelConfig, ChannelsError, NewSecret};
use crate::notify::{Notifications, Role};

/// The type of the specs here.
const TYPE: &str = "NOTIFICATIONS";

/// How long an answer waits until what it says is so.
const ACTIVE: Duration = Duration::from_secs(10);

/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);

/// `{"data": {"match": […], "channels": […]}}`
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"data": {
    "match": [{"path": "public.orders", "events": ["*"], "fields": ["*"], "channels": ["*"]}],
    "channels": [{"type": "WEBHOOK", "name": "billing", "url": "https://example.com/hook"}]}}))]
pub(super) struct NotificationsBody {
    #[schema(value_type = Object)]
    #[serde(default)]
    data: Value,
}

/// Notifications as they are stored.
#[derive(Serialize, ToSchema)]
pub(super) struct NotificationSpec {
    /// `NOTIFICATIONS`
    #[schema(example = "NOTIFICATIONS")]
    r#type: &'static str,
    /// As terse as it can be written; empty when none was set.
    #[schema(value_type = Vec<Object>)]
    r#match: Value,
    /// Channels with their configuration, without secrets.
    #[schema(value_type = Vec<Object>)]
    channels: Value,
}

/// Notifications that were just stored.
#[derive(Serialize, ToSchema)]
pub(super) struct StoredNotifications {
    #[serde(flatten)]
    spec: NotificationSpec,
    /// Whether changes that are committed from now on will be told.
    active: bool,
    /// Why not, or not yet.
    inactive_because: Option<String>,
    /// Of new WEBHOOK channels what they are signed with; shown this once.
    secrets: Vec<ShownSecret>,
}

#[derive(Serialize, ToSchema)]
struct ShownSecret {
    channel: String,
    /// `whsec_…`
    secret: String,
}

impl NotificationSpec {
    fn of(mut stored: Value) -> Self {
        let mut take = |name| stored.get_mut(name).map(Value::take).unwrap_or_else(|| json!([]));
        Self { r#type: TYPE, r#match: take("match"), channels: take("channels") }
    }
}

/// What can be set: secrets too, of which the tag tells that they are others.
#[derive(Clone, Serialize)]
struct Settable {
    spec: Value,
    sealed: Vec<(String, Vec<u8>)>,
}

impl NotificationSpec {
    fn settable(&self, sealed: Vec<(String, Vec<u8>)>) -> Settable {
        Settable { spec: json!([self.r#match, self.channels]), sealed }
    }
}

impl From<ChannelsError> for ApiError {
    fn from(error: ChannelsError) -> Self {
        match error {
            ChannelsError::Database(error) => error.into(),
            ChannelsError::NoChannel(_) => Self::NotFound,
            ChannelsError::NoKey(_) => Self::Unprocessable(json!({"detail": error.to_string()})),
            ChannelsError::Sealed(_) | ChannelsError::Overtaken => {
                Self::Conflict(error.to_string())
            }
            ChannelsError::Key(_)
            | ChannelsError::Stored(..)
            | ChannelsError::Log(_)
            | ChannelsError::Unusable(_) => Self::Internal(error.to_string()),
        }
    }
}

/// Shows the notifications, as terse as they can be written; `match` is empty when none were set.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}/notifications", tag = "notifications",
    params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<NotificationSpec>, headers(("ETag" = String))), (status = 304),
        (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
) -> Result<Tagged<NotificationSpec>, ApiError> {
    let client = app.client().await?;
    let row = client.query_one("SELECT integratedb.get_spec($1, $2)", &[&id, &TYPE]).await?;
    let spec: Value = row.get::<_, Option<Value>>(0).ok_or(ApiError::NotFound)?;
    let spec = NotificationSpec::of(spec);
    let settable = spec.settable(channels::sealed(&client, id).await?);
    Ok(Tagged::with(spec, &settable))
}

/// Replaces the notifications. What is committed after the answer is told, unless it says why not.
#[utoipa::path(put, path = "/api/v1/stakeholders/{id}/notifications", tag = "notifications",
    request_body = NotificationsBody, params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<StoredNotifications>, headers(("ETag" = String))), (status = 404),
        (status = 412), (status = 422)))]
pub(super) async fn put(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Id(id): Id,
    Json(body): Json<NotificationsBody>,
) -> Result<Tagged<StoredNotifications>, ApiError> {
    let settings = app.notifications().settings().clone();
    let read = move |data| read(data, |channel| channel.check(&settings));
    let (document, channels) = check(app.notifications_schema(), body.data, read).await?;
    // Where new channels begin; so the log has to be open.
    let head = app.sockets().head().await?;
    let asked = Asked { id, document: Some(&document), channels: &channels, head };
    let (stored, secrets) = replace(&app, &access.actor(), &if_match, &asked).await?;
    let settable = stored.settable;
    let (active, inactive_because) = match wait(app.notifications()).await {
        Ok(()) => (true, None),
        Err(why) => (false, Some(why)),
    };
    let secrets =
        secrets.into_iter().map(|new| ShownSecret { channel: new.channel, secret: new.secret });
    let data = StoredNotifications {
        spec: stored.spec,
        active,
        inactive_because,
        secrets: secrets.collect(),
    };
    Ok(Tagged::of(data, &settable))
}

/// Removes the notifications and the channels, with what waits in them.
#[utoipa::path(delete, path = "/api/v1/stakeholders/{id}/notifications", tag = "notifications",
    params(("id" = i64, Path)), security(("token" = [])), 
    responses((status = 204), (status = 404), (status = 412)))]
pub(super) async fn delete(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Id(id): Id,
) -> Result<Response, ApiError> {
    let asked = Asked { id, document: None, channels: &[], head: EventId::default() };
    replace(&app, &access.actor(), &if_match, &asked).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The channels of a document, and the document as the extension is to have it: they without secrets.
fn read(
    mut document: Value,
    check: impl Fn(&ChannelConfig) -> Result<(), Vec<Mistake>>,
) -> Result<(String, Vec<ChannelConfig>), Vec<Mistake>> {
    let below =
        |at: String| move |(message, pointer)| (message, format!("#/channels{at}{pointer}"));
    let given = document.get("channels").filter(|given| !given.is_null());
    let channels = match given {
        None => Vec::new(),
        Some(given) => ChannelConfig::read_list(given).map_err(|mistakes| {
            mistakes.into_iter().map(below(String::new())).collect::<Vec<_>>()
        })?,
    };
    let mistakes = channels.iter().enumerate().flat_map(|(at, channel)| {
        let mistakes = check(channel).err().unwrap_or_default();
        mistakes.into_iter().map(below(format!("/{at}")))
    });
    let mistakes: Vec<Mistake> = mistakes.collect();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let shown = channels.iter().map(|channel| {
        let mut shown = channel.settings.clone();
        shown["type"] = channel.kind.as_str().into();
        shown["name"] = channel.name.as_str().into();
        shown
    });
    document["channels"] = shown.collect();
    Ok((document.to_string(), channels))
}

/// What is asked for: a document, or that there is none; and its channels, of which new ones begin after `head`.
struct Asked<'a> {
    id: i64,
    document: Option<&'a str>,
    channels: &'a [ChannelConfig],
    head: EventId,
}

/// What is stored then.
struct Stored {
    spec: NotificationSpec,
    settable: Settable,
}

/// Puts a spec or removes it, and makes the channels what they are to be. Gives what is stored, and new secrets.
async fn replace(
    app: &App,
    actor: &Actor,
    if_match: &IfMatch,
    asked: &Asked<'_>,
) -> Result<(Stored, Vec<NewSecret>), ApiError> {
    let channels = asked.channels;
    let mut patience = Patience::new();
    loop {
        match attempt(app, actor, if_match, asked).await {
            Err(ChannelsError::Database(DbError::Busy)) if patience.again().await => {}
            Err(ChannelsError::Database(error)) => return Err(refused(error)),
            Err(ChannelsError::NoKey(name)) => {
                let at = channels.iter().position(|channel| channel.name == name);
                let pointer = format!("#/channels/{}", at.unwrap_or_default());
                let mistake = (ChannelsError::NoKey(name).to_string(), pointer);
                return Err(ApiError::Unprocessable(json!({"detail": [mistake]})));
            }
            Err(error) => return Err(error.into()),
            Ok(Err(changed)) => return Err(changed),
            Ok(Ok(stored)) => {
                app.notifications().look();
                return Ok(stored);
            }
        }
    }
}

async fn attempt(
    app: &App,
    actor: &Actor,
    if_match: &IfMatch,
    &Asked { id, document, channels, head }: &Asked<'_>,
) -> Result<Result<(Stored, Vec<NewSecret>), ApiError>, ChannelsError> {
    let sealer = app.notifications().settings().sealer().map_err(ChannelsError::Key)?;
    let mut client = app.pool().get().await?;
    let tx = db::begin(&mut client).await?;
    db::hold_stakeholder(&tx, id).await?;
    let sql = "SELECT integratedb.get_spec($1, $2)";
    let before: Option<Value> = tx.query_one(sql, &[&id, &TYPE]).await?.get(0);
    let before = before.map(NotificationSpec::of);
    let sealed = channels::sealed(tx.client(), id).await?;
    let settable = before.as_ref().map(|before| before.settable(sealed));
    if let Err(changed) = if_match.check_found(settable.as_ref()) {
        return Ok(Err(changed));
    }
    let stored: Value = match document {
        Some(document) => {
            let sql = "SELECT integratedb.put_spec($1, $2, $3)";
            tx.query_one(sql, &[&id, &TYPE, &document]).await?.get(0)
        }
        None => {
            tx.execute("SELECT integratedb.delete_spec($1, $2)", &[&id, &TYPE]).await?;
            Value::Null
        }
    };
    let spec = NotificationSpec::of(stored);
    let secrets = channels::replace(&tx, &sealer, id, channels, head).await?;
    let change = Change {
        action: if document.is_some() { "notifications.put" } else { "notifications.delete" },
        subject: &format!("/api/v1/stakeholders/{id}/notifications"),
        workspace: None,
        before: Change::view(&before),
        after: Change::view(&document.map(|_| &spec)),
    };
    audit::record(&tx, actor, change).await?;
    let settable = spec.settable(channels::sealed(tx.client(), id).await?);
    tx.commit().await?;
    Ok(Ok((Stored { spec, settable }, secrets)))
}

/// Waits, but not for ever, until every change that is committed from then on will be stored. The error is why not.
async fn wait(notifications: &Notifications) -> Result<(), String> {
    let deadline = Instant::now() + ACTIVE;
    loop {
        let role = *notifications.role().borrow();
        // Of a slot that is there nothing is missed, whoever follows it.
        if matches!(role, Role::Leads | Role::Follows) && has_slot(notifications).await {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(why_not(notifications, role).await);
        }
        if is_empty(notifications).await {
            return Err("nothing that is there is subscribed to".to_owned());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn has_slot(notifications: &Notifications) -> bool {
    let sql = "SELECT FROM integratedb.event_log_state e
               JOIN pg_replication_slots s ON s.slot_name = e.slot
               WHERE s.database = current_database() AND s.wal_status IS DISTINCT FROM 'lost'";
    let Ok(client) = notifications.pool().get().await else { return false };
    client.query_opt(sql, &[]).await.is_ok_and(|row| row.is_some())
}

async fn is_empty(notifications: &Notifications) -> bool {
    let sql = "SELECT integratedb.subscriptions() = '[]'";
    let Ok(client) = notifications.pool().get().await else { return false };
    client.query_one(sql, &[]).await.is_ok_and(|row| row.get(0))
}

async fn why_not(notifications: &Notifications, role: Role) -> String {
    let wal_level = async {
        let client = notifications.pool().get().await.ok()?;
        let row = client.query_one("SELECT current_setting('wal_level')", &[]).await.ok()?;
        Some(row.get::<_, String>(0))
    };
    let wal_level = wal_level.await;
    if let Some(level) = wal_level.filter(|level| level != "logical") {
        return format!("wal_level is {level}: set it to logical and restart the database");
    }
    let error = notifications.reader().borrow().last_error.clone();
    match role {
        Role::Leads => error.unwrap_or_else(|| "the reader has no connection yet".to_owned()),
        Role::Idle => "the subscriptions are not known yet".to_owned(),
        Role::Starting => "the log is not open".to_owned(),
        Role::Follows => "no sidecar with notifications.enabled reads the changes".to_owned(),
    }
}
