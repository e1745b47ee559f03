//! Whose integrations, models and replays a path is about: a tenant's, by its number or by that of its stakeholder.

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use axum::http::request::Parts;

use crate::api::app::App;
use crate::api::error::ApiError;
use crate::api::extract::number;
use crate::sync::{TenantId, tenants};

/// What comes before the numbers of stakeholders.
const STAKEHOLDERS: &str = "/api/v1/stakeholders/";

/// A tenant that a path names. It may be none only of a stakeholder, which has no source and no integration then.
pub(super) struct Whose {
    tenant: Option<TenantId>,
    stakeholder: Option<i64>,
}

impl Whose {
    /// The tenant, if there is one.
    pub(super) const fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// The tenant. Nothing of one that is not there can be found.
    pub(super) fn found(&self) -> Result<TenantId, ApiError> {
        self.tenant.ok_or(ApiError::NotFound)
    }

    /// The tenant, which is made if a stakeholder has none yet.
    pub(super) async fn made(&self, client: &tokio_postgres::Client) -> Result<TenantId, ApiError> {
        match (self.tenant, self.stakeholder) {
            (None, Some(stakeholder)) => Ok(tenants::of_stakeholder(client, stakeholder).await?),
            (tenant, _) => tenant.ok_or(ApiError::NotFound),
        }
    }

    /// The path of something of the tenant.
    pub(super) fn path(&self, tenant: TenantId, rest: &str) -> String {
        match self.stakeholder {
            Some(stakeholder) => format!("{STAKEHOLDERS}{stakeholder}/{rest}"),
            None => format!("/api/v1/sync/tenants/{tenant}/{rest}"),
        }
    }
}

impl FromRequestParts<App> for Whose {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let id = named(parts, "id").await.and_then(|id| number(&id)).ok_or(ApiError::NotFound)?;
        let matched = parts.extensions.get::<MatchedPath>();
        let is_stakeholder = matched.is_some_and(|path| path.as_str().starts_with(STAKEHOLDERS));
        let client = app.client().await?;
        if !is_stakeholder {
            let sql = "SELECT FROM integratedb.sync_tenant WHERE id = $1";
            client.query_opt(sql, &[&id]).await?.ok_or(ApiError::NotFound)?;
            return Ok(Self { tenant: Some(TenantId(id)), stakeholder: None });
        }
        let sql = "SELECT t.id FROM integratedb.stakeholder s
                   LEFT JOIN integratedb.sync_tenant t ON t.stakeholder_id = s.id WHERE s.id = $1";
        let row = client.query_opt(sql, &[&id]).await?.ok_or(ApiError::NotFound)?;
        let tenant = row.get::<_, Option<i64>>(0).map(TenantId);
        Ok(Self { tenant, stakeholder: Some(id) })
    }
}

/// A number of a path by its name, such as `{model}`.
macro_rules! number_of_path {
    ($($(#[$doc:meta])* $name:ident = $parameter:literal),*) => {$(
        $(#[$doc])*
        pub(super) struct $name(pub(super) i64);

        impl FromRequestParts<App> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
                let text = named(parts, $parameter).await;
                text.and_then(|text| number(&text)).map(Self).ok_or(ApiError::NotFound)
            }
        }
    )*};
}

number_of_path! {
    /// The `{integration}` of a path.
    Integration = "integration",
    /// The `{model}` of a path.
    Model = "model",
    /// The `{replay}` of a path.
    Replay = "replay"
}

/// A parameter of the path.
async fn named(parts: &mut Parts, name: &str) -> Option<String> {
    let all = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    all.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}
