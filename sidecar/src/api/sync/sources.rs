//! `/api/v1/stakeholders/{id}/sources`: tables whose rows are models of a stakeholder.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::classes::{Named, Which};
use super::record;
use crate::api::access::Access;
use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::{Authenticated, Id, Json};
use crate::api::page::{Asked, Names, limit_of_short};
use crate::api::tag::{IfMatch, Tagged};
use crate::sync::source::table::{self, ClassView, DeclareError};

/// `{"source": {…}}`
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"source": {"table": "public.orders", "columns": ["id", "customer_id", "total"],
        "parent": {"class": "customers", "columns": ["customer_id"]}}}))]
pub(super) struct SourceBody {
    /// `table` with its schema; `key`, columns that tell rows apart, by default those of the primary key; `columns` that are
    /// fetched, by default all that the stakeholder claims; `parent`, a class of the stakeholder that rows are below of, and
    /// the `columns` that hold its key.
    #[schema(value_type = Object)]
    #[serde(default)]
    source: Value,
}

/// A table whose rows are models.
#[derive(Serialize, ToSchema)]
pub(super) struct SourceView {
    /// The class of the models.
    class: String,
    #[schema(value_type = Object)]
    source: Value,
    /// Whether rows that were there before are still being gone through.
    is_scanning: bool,
    /// How many of them were met so far.
    scanned: i64,
    /// Why changes of the table are not followed at present.
    error: Option<String>,
    inserted_at: String,
    updated_at: String,
}

impl From<ClassView> for SourceView {
    fn from(of: ClassView) -> Self {
        Self {
            class: of.name,
            source: of.definition,
            is_scanning: of.is_scanning,
            scanned: of.scanned,
            error: of.error,
            inserted_at: of.inserted_at,
            updated_at: of.updated_at,
        }
    }
}

/// What can be set of it.
#[derive(Serialize)]
struct Declared<'a> {
    class: &'a str,
    source: &'a Value,
}

impl SourceView {
    const fn declared(&self) -> Declared<'_> {
        Declared { class: self.class.as_str(), source: &self.source }
    }

    fn tagged(self) -> Tagged<Self> {
        // The tag is of a copy, as what it is of goes into the answer.
        let (class, source) = (self.class.clone(), self.source.clone());
        Tagged::of(self, &Declared { class: &class, source: &source })
    }
}

impl From<DeclareError> for ApiError {
    fn from(error: DeclareError) -> Self {
        match error {
            DeclareError::NoStakeholder(_) => Self::NotFound,
            DeclareError::Invalid(wrong) => {
                let below = |(what, pointer)| (what, format!("#/source{pointer}"));
                let wrong: Vec<(String, String)> = wrong.into_iter().map(below).collect();
                Self::Unprocessable(json!({ "detail": wrong }))
            }
            DeclareError::Sync(error) => error.into(),
        }
    }
}

/// The tables of a stakeholder whose rows are models, by their classes.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}/sources", tag = "sync", params(("id" = i64, Path), Which),
    security(("token" = [])), responses((status = 200, body = Names<SourceView>), (status = 400), (status = 404)))]
pub(super) async fn list_sources(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
    Asked(which): Asked<Which>,
) -> Result<Names<SourceView>, ApiError> {
    let client = app.client().await?;
    let sql = "SELECT FROM integratedb.stakeholder WHERE id = $1";
    client.query_opt(sql, &[&id]).await?.ok_or(ApiError::NotFound)?;
    let limit = limit_of_short(which.limit);
    let found = table::list(&client, id, which.after.as_deref(), limit).await?;
    let found = found.into_iter().map(SourceView::from).collect();
    Ok(Names::new(found, limit, |source: &SourceView| source.class.clone()))
}

/// A table whose rows are models.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}/sources/{class}", tag = "sync",
    params(("id" = i64, Path), ("class" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Data<SourceView>, headers(("ETag" = String))), (status = 404)))]
pub(super) async fn show_source(
    State(app): State<App>,
    _: Authenticated,
    Named(id, class): Named,
) -> Result<Tagged<SourceView>, ApiError> {
    let found = table::show(&*app.client().await?, id, &class).await?;
    Ok(SourceView::from(found.ok_or(ApiError::NotFound)?).tagged())
}

/// Makes the rows of a table models of a class. Those that are there are gone through, and changes are followed, if they are
/// committed after the answer.
#[utoipa::path(put, path = "/api/v1/stakeholders/{id}/sources/{class}", tag = "sync", request_body = SourceBody,
    params(("id" = i64, Path), ("class" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Data<SourceView>, headers(("ETag" = String))),
        (status = 201, body = Data<SourceView>, headers(("ETag" = String))), (status = 404), (status = 412),
        (status = 422)))]
pub(super) async fn put_source(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Named(id, class): Named,
    Json(body): Json<SourceBody>,
) -> Result<Response, ApiError> {
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let before = table::begin(&transaction, id, &class).await?;
    let version = before.as_ref().map(|before| before.version);
    let before = before.map(SourceView::from);
    if_match.check(before.as_ref().map(SourceView::declared).as_ref())?;
    let after = table::declare(&transaction, id, &class, &body.source).await?;
    let is_changed = version != Some(after.version);
    let after = SourceView::from(after);
    if is_changed {
        let subject = path(id, &class);
        record(&transaction, &access, "source.put", &subject, before.as_ref(), Some(&after))
            .await?;
    }
    transaction.commit().await?;
    app.sync().wake.notify_one();
    let status = if before.is_none() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, after.tagged()).into_response())
}

fn path(id: i64, class: &str) -> String {
    format!("/api/v1/stakeholders/{id}/sources/{}", super::segment(class))
}

/// Ends the following of a table. Its models, and what targets have of them, stay as they are.
#[utoipa::path(delete, path = "/api/v1/stakeholders/{id}/sources/{class}", tag = "sync",
    params(("id" = i64, Path), ("class" = String, Path)), security(("token" = [])),
    responses((status = 204), (status = 404), (status = 409), (status = 412)))]
pub(super) async fn delete_source(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Named(id, class): Named,
) -> Result<StatusCode, ApiError> {
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let before = table::begin(&transaction, id, &class).await?.ok_or(ApiError::NotFound)?;
    let before = SourceView::from(before);
    if_match.check(Some(&before.declared()))?;
    table::withdraw(&transaction, id, &class).await?;
    record(&transaction, &access, "source.delete", &path(id, &class), Some(&before), None).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
