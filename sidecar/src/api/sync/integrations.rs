//! `…/integrations`: where the models of a tenant go.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::record;
use super::whose::{self, Whose};
use crate::api::access::Access;
use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::{Authenticated, Json};
use crate::api::page::{Asked, Page, limit};
use crate::api::tag::{IfMatch, Tagged};
use crate::fields::{Fields, Mistake};
use crate::sync::integrations::{self, ConfigureError, Integration, Wanted};
use crate::sync::status::{self, IntegrationStatus};
use crate::sync::target::{self, Checked};
use crate::sync::{IntegrationId, Named, SyncSettings, TenantId};

/// The longest name, and the longest name of a class.
const NAME: usize = 63;
const CLASS: usize = 255;

/// The most requests at once to a target.
const MOST_AT_ONCE: u64 = 1000;

/// `{"integration": {…}}`
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"integration": {"name": "warehouse", "kind": "postgres", "classes": ["orders"],
        "model": null, "concurrency": 4,
        "settings": {"url": "postgres://sync:…@warehouse/shop", "tables": {"orders": {"table": "public.orders"}}}}}))]
pub(super) struct IntegrationBody {
    /// `name`, unique among the tenant's; `kind` and its `settings`; `classes`, null for all; `model`, the one that goes
    /// there with those below it, null for all; `concurrency`, requests at once to the target. Members of `settings` that
    /// are secret are never shown; those that are left out of a change stay.
    #[schema(value_type = Object)]
    #[serde(default)]
    integration: Value,
}

/// Which integrations.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those after the one with this id.
    #[serde(default)]
    after: i64,
    /// At most so many: 1 to 1000, 100 unless told.
    limit: Option<i64>,
}

/// An integration, and how the models are at its target.
#[derive(Serialize, ToSchema)]
pub(super) struct IntegrationView {
    #[serde(flatten)]
    integration: Integration,
    status: IntegrationStatus,
}

impl From<ConfigureError> for ApiError {
    fn from(error: ConfigureError) -> Self {
        let text = error.to_string();
        match error {
            ConfigureError::Missing => Self::NotFound,
            ConfigureError::Taken(_) => mistakes(vec![(text, "/name".to_owned())]),
            ConfigureError::NoModel(..) => mistakes(vec![(text, "/model".to_owned())]),
            ConfigureError::Derived(_) => Self::Conflict(text),
            ConfigureError::Sync(error) => error.into(),
        }
    }
}

fn mistakes(all: Vec<Mistake>) -> ApiError {
    let all: Vec<(String, String)> = all
        .into_iter()
        .map(|(message, pointer)| (message, format!("#/integration{pointer}")))
        .collect();
    ApiError::Unprocessable(json!({ "detail": all }))
}

/// Reads what is asked for. Secrets of `before` count where the settings don't have them.
fn read(
    asked: &Value,
    before: impl FnOnce(&str) -> Option<Map<String, Value>>,
    settings: &SyncSettings,
) -> Result<Wanted, ApiError> {
    if super::has_zero(asked) {
        return Err(mistakes(vec![(
            "there is a text with the character 0".to_owned(),
            String::new(),
        )]));
    }
    let mut wrong = Vec::new();
    let mut fields = Fields::of(asked, "", &mut wrong);
    let name = fields.needed_text("name");
    if name.as_deref().is_some_and(|name| !is_name(name)) {
        let what = format!("a name has 1 to {NAME} letters, digits, dots, dashes and underscores");
        fields.wrong("name", what);
    }
    let (name, kind) = (name.unwrap_or_default(), fields.needed_text("kind").unwrap_or_default());
    let classes = fields.take("classes").map(|value| classes(&value, &mut fields));
    let model = fields.take("model").map(|value| {
        let mut model = Fields::of(&value, "/model", fields.mistakes);
        let class = model.needed_text("class").unwrap_or_default();
        let key = match model.take("key") {
            Some(Value::String(key)) => key,
            Some(Value::Number(key)) => key.to_string(),
            _ => {
                model.wrong("key", "this has to be the key of a model, as a string");
                String::new()
            }
        };
        model.end();
        Named { class, key }
    });
    let default = u64::try_from(settings.workers_per_integration).unwrap_or(MOST_AT_ONCE).max(1);
    let concurrency = fields.number("concurrency", 1, MOST_AT_ONCE, default.min(MOST_AT_ONCE));
    let settings = fields.take("settings").unwrap_or_else(|| Value::Object(Map::new()));
    fields.end();
    let checked = match checked(&kind, settings, before(&kind)) {
        Ok(checked) => Some(checked),
        Err(more) => {
            let is_known = target::is_kind(&kind);
            let at =
                |pointer| if is_known { format!("/settings{pointer}") } else { "/kind".to_owned() };
            // Of a missing kind it was said that it is.
            let more = more.into_iter().filter(|_| !kind.is_empty());
            wrong.extend(more.map(|(message, pointer)| (message, at(pointer))));
            None
        }
    };
    match checked {
        Some(checked) if wrong.is_empty() => Ok(Wanted {
            name,
            kind,
            model,
            classes,
            concurrency: i32::try_from(concurrency).unwrap_or(1),
            checked,
        }),
        _ => Err(mistakes(wrong)),
    }
}

/// Names that sources give to integrations have spaces, so that they never meet those of people.
fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=NAME).contains(&name.len()) && name.chars().all(is_plain)
}

/// What is shown in place of a secret. Who sends it means the one that is kept.
const SECRET: &str = "…";

/// What is stored of settings. What was secret `before` counts where they say nothing else.
fn checked(
    kind: &str,
    mut settings: Value,
    before: Option<Map<String, Value>>,
) -> Result<Checked, Vec<Mistake>> {
    let Some(before) = before else { return target::check(kind, &settings) };
    // A secret may also stand in another member, such as in a URL.
    let elsewhere =
        target::check(kind, &settings).map(|checked| checked.hidden).unwrap_or_default();
    if let Some(settings) = settings.as_object_mut() {
        for (name, secret) in before {
            let is_given = !settings.contains_key(&name)
                && elsewhere
                    .get(&name)
                    .is_some_and(|given| *given != json!("") && *given != json!({}));
            if !is_given {
                fill(settings.entry(name).or_insert_with(|| SECRET.into()), &secret);
            }
        }
    }
    target::check(kind, &settings)
}

/// Puts secrets where they are not shown.
fn fill(given: &mut Value, secret: &Value) {
    match (given, secret) {
        (given, secret) if *given == SECRET => given.clone_from(secret),
        (Value::Object(given), Value::Object(secrets)) => {
            for (name, given) in given {
                if let Some(secret) = secrets.get(name) {
                    fill(given, secret);
                }
            }
        }
        _ => {}
    }
}

fn classes(value: &Value, fields: &mut Fields<'_>) -> Vec<String> {
    let Some(items) = value.as_array().filter(|items| !items.is_empty()) else {
        fields.wrong("classes", "these have to be a list of classes; leave it out for all");
        return Vec::new();
    };
    let mut classes = Vec::new();
    for (at, item) in items.iter().enumerate() {
        match item.as_str() {
            Some(class) if !class.is_empty() && class.len() <= CLASS => {
                classes.push(class.to_owned())
            }
            _ => fields.wrong_at(&format!("classes/{at}"), "this has to be the name of a class"),
        }
    }
    classes.sort_unstable();
    classes.dedup();
    classes
}

async fn show(
    client: &tokio_postgres::Client,
    tenant: TenantId,
    id: IntegrationId,
) -> Result<Integration, ApiError> {
    integrations::show(client, tenant, id).await?.ok_or(ApiError::NotFound)
}

/// An integration with its status. Each change of what is set of it, secrets too, gives it another time.
async fn view(
    client: &tokio_postgres::Client,
    integration: Integration,
) -> Result<Tagged<IntegrationView>, ApiError> {
    let status = status::integration(client, IntegrationId(integration.id)).await?;
    let status = status.ok_or(ApiError::NotFound)?;
    let settable = integration.clone();
    Ok(Tagged::of(IntegrationView { integration, status }, &settable))
}

/// The integrations of a tenant, by their ids.
#[utoipa::path(get, path = "/integrations", tag = "sync", params(("id" = i64, Path), Which),
    security(("token" = [])), responses((status = 200, body = Page<Integration>), (status = 400), (status = 404)))]
pub(super) async fn list_integrations(
    State(app): State<App>,
    _: Authenticated,
    whose: Whose,
    Asked(which): Asked<Which>,
) -> Result<Page<Integration>, ApiError> {
    let Some(tenant) = whose.tenant() else {
        return Ok(Page { data: Vec::new(), next: None });
    };
    let limit = limit(which.limit);
    let data = integrations::list(&*app.client().await?, tenant, which.after, limit).await?;
    Ok(Page::new(data, limit, |integration| integration.id))
}

/// An integration, and how the models are at its target.
#[utoipa::path(get, path = "/integrations/{integration}", tag = "sync",
    params(("id" = i64, Path), ("integration" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<IntegrationView>, headers(("ETag" = String))), (status = 404)))]
pub(super) async fn show_integration(
    State(app): State<App>,
    _: Authenticated,
    whose: Whose,
    whose::Integration(id): whose::Integration,
) -> Result<Tagged<IntegrationView>, ApiError> {
    let client = app.client().await?;
    view(&client, show(&client, whose.found()?, IntegrationId(id)).await?).await
}

/// Makes an integration. All models in its scope are pushed, and from then on whatever becomes of them.
#[utoipa::path(post, path = "/integrations", tag = "sync", request_body = IntegrationBody,
    params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 201, body = Data<IntegrationView>, headers(("Location" = String), ("ETag" = String))),
        (status = 404), (status = 422)))]
pub(super) async fn create_integration(
    State(app): State<App>,
    access: Access,
    whose: Whose,
    Json(body): Json<IntegrationBody>,
) -> Result<Response, ApiError> {
    let wanted = read(&body.integration, |_| None, &app.sync().settings)?;
    let sealer = super::sealer(&app)?;
    let mut client = app.client().await?;
    let tenant = whose.made(&client).await?;
    let transaction = client.transaction().await?;
    let id = integrations::create(&transaction, sealer.as_ref(), tenant, &wanted).await?;
    let made = show(transaction.client(), tenant, id).await?;
    let path = path(&whose, tenant, id);
    record(&transaction, &access, "integration.create", &path, None, Some(&made)).await?;
    transaction.commit().await?;
    app.sync().wake.notify_one();
    let location = [(header::LOCATION, path)];
    Ok((StatusCode::CREATED, location, view(&client, made).await?).into_response())
}

/// Makes an integration what is asked for. Where its target or its scope is another, all models in its scope are pushed;
/// what is not in it any more stays at the target.
#[utoipa::path(put, path = "/integrations/{integration}", tag = "sync", request_body = IntegrationBody,
    params(("id" = i64, Path), ("integration" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<IntegrationView>, headers(("ETag" = String))), (status = 404), (status = 409),
        (status = 412), (status = 422)))]
pub(super) async fn put_integration(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    whose: Whose,
    whose::Integration(id): whose::Integration,
    Json(body): Json<IntegrationBody>,
) -> Result<Tagged<IntegrationView>, ApiError> {
    let (tenant, id) = (whose.found()?, IntegrationId(id));
    let sealer = super::sealer(&app)?;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let before = integrations::begin(&transaction, sealer.as_ref(), tenant, id).await?;
    let shown_before = show(transaction.client(), tenant, id).await?;
    if_match.check(Some(&shown_before))?;
    let hidden = |kind: &str| before.hidden(kind).cloned();
    let wanted = read(&body.integration, hidden, &app.sync().settings)?;
    integrations::replace(&transaction, sealer.as_ref(), tenant, id, &before, &wanted).await?;
    let shown = show(transaction.client(), tenant, id).await?;
    let path = path(&whose, tenant, id);
    let (from, to) = (Some(&shown_before), Some(&shown));
    record(&transaction, &access, "integration.put", &path, from, to).await?;
    transaction.commit().await?;
    app.sync().wake.notify_one();
    view(&client, shown).await
}

fn path(whose: &Whose, tenant: TenantId, id: IntegrationId) -> String {
    whose.path(tenant, &format!("integrations/{id}"))
}

/// Forgets an integration. Its target keeps what it has.
#[utoipa::path(delete, path = "/integrations/{integration}", tag = "sync",
    params(("id" = i64, Path), ("integration" = i64, Path)), security(("token" = [])),
    responses((status = 204), (status = 404), (status = 412)))]
pub(super) async fn delete_integration(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    whose: Whose,
    whose::Integration(id): whose::Integration,
) -> Result<StatusCode, ApiError> {
    let (tenant, id) = (whose.found()?, IntegrationId(id));
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let before = integrations::begin_removal(&transaction, tenant, id).await?;
    if_match.check(Some(&before))?;
    integrations::remove(&transaction, tenant, id).await?;
    let path = path(&whose, tenant, id);
    record(&transaction, &access, "integration.delete", &path, Some(&before), None).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_enabled(
    app: &App,
    access: &Access,
    whose: &Whose,
    id: IntegrationId,
    is_enabled: bool,
) -> Result<Tagged<IntegrationView>, ApiError> {
    let tenant = whose.found()?;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let before = integrations::hold(&transaction, tenant, id).await?;
    let is_changed = integrations::set_enabled(&transaction, tenant, id, is_enabled).await?;
    let after = show(transaction.client(), tenant, id).await?;
    if is_changed {
        let action = if is_enabled { "integration.enable" } else { "integration.disable" };
        let path = path(whose, tenant, id);
        record(&transaction, access, action, &path, Some(&before), Some(&after)).await?;
    }
    transaction.commit().await?;
    app.sync().wake.notify_one();
    view(&client, after).await
}

/// Has an integration push again. All models in its scope are due, also those that came while it was disabled.
#[utoipa::path(post, path = "/integrations/{integration}/enable", tag = "sync",
    params(("id" = i64, Path), ("integration" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<IntegrationView>, headers(("ETag" = String))), (status = 404)))]
pub(super) async fn enable_integration(
    State(app): State<App>,
    access: Access,
    whose: Whose,
    whose::Integration(id): whose::Integration,
) -> Result<Tagged<IntegrationView>, ApiError> {
    set_enabled(&app, &access, &whose, IntegrationId(id), true).await
}

/// Has an integration push nothing, once what is under way has ended.
#[utoipa::path(post, path = "/integrations/{integration}/disable", tag = "sync",
    params(("id" = i64, Path), ("integration" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<IntegrationView>, headers(("ETag" = String))), (status = 404)))]
pub(super) async fn disable_integration(
    State(app): State<App>,
    access: Access,
    whose: Whose,
    whose::Integration(id): whose::Integration,
) -> Result<Tagged<IntegrationView>, ApiError> {
    set_enabled(&app, &access, &whose, IntegrationId(id), false).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_stays_where_nothing_else_is_said() {
        let stored = |kind: &str, settings: Value, hidden: Value| {
            checked(kind, settings, hidden.as_object().cloned()).map(|checked| checked.hidden)
        };
        // Left out, and as it is shown.
        let hidden = json!({"client_secret": "old"});
        let keycloak = |more: Value| {
            let mut settings =
                json!({"endpoint": "https://example.com/realms/x", "client_id": "sync"});
            settings
                .as_object_mut()
                .expect("it is one")
                .extend(more.as_object().cloned().expect("it is one"));
            stored("keycloak", settings, hidden.clone())
        };
        for same in [json!({}), json!({"client_secret": "…"})] {
            assert_eq!(keycloak(same), Ok(hidden.clone()));
        }
        let new = Ok(json!({"client_secret": "new"}));
        assert_eq!(keycloak(json!({"client_secret": "new"})), new);
        assert_eq!(keycloak(json!({"endpoint": "https://sync:new@example.com/realms/x"})), new);
        let hidden = json!({"url": "postgres://sync:old@example.com/shop"});
        let tables = json!({"orders": {"table": "orders"}});
        for settings in [json!({"tables": tables}), json!({"url": "…", "tables": tables})] {
            assert_eq!(stored("postgres", settings, hidden.clone()), Ok(hidden.clone()));
        }
        // Of several, each for itself; one that is left out is gone.
        let hidden = json!({"secret_headers": {"x-a": "old", "x-b": "old"}});
        let http = |headers: Value| {
            let request = json!({"url": "https://example.com/{key}"});
            stored(
                "http",
                json!({"upsert": request, "delete": request, "secret_headers": headers}),
                hidden.clone(),
            )
        };
        assert_eq!(
            http(json!({"x-a": "…", "x-c": "new"})),
            Ok(json!({"secret_headers": {"x-a": "old", "x-c": "new"}}))
        );
        assert_eq!(http(json!("…")), Ok(hidden.clone()));
    }

    #[test]
    fn every_mistake_has_its_pointer() {
        let pointers = |asked: Value| match read(&asked, |_| None, &SyncSettings::default()) {
            Err(ApiError::Unprocessable(errors)) => errors["detail"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|mistake| mistake[1].as_str().expect("a pointer").to_owned())
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(pointers(Value::Null), ["#/integration"; 3]);
        let wrong = json!({"name": "a b", "kind": "postgres", "classes": ["a", 7], "model": {"class": "A", "x": 1},
            "concurrency": 0, "settings": {"url": "x", "tables": {}}, "more": 1});
        let told = pointers(wrong);
        for pointer in [
            "name",
            "classes/1",
            "model/key",
            "model/x",
            "concurrency",
            "settings/url",
            "settings",
            "more",
        ] {
            assert!(told.contains(&format!("#/integration/{pointer}")), "{pointer}: {told:?}");
        }
        let right = json!({"name": "w", "kind": "postgres", "classes": ["b", "a", "b"], "model": {"class": "Service", "key": 5},
            "settings": {"url": "postgres://sync:s@example.com/shop", "tables": {"a": {"table": "t"}}}});
        let wanted = read(&right, |_| None, &SyncSettings::default()).expect("it is right");
        assert_eq!(wanted.classes, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(wanted.model, Some(Named { class: "Service".into(), key: "5".into() }));
        assert_eq!((wanted.concurrency, wanted.kind.as_str()), (16, "postgres"));
    }
}
