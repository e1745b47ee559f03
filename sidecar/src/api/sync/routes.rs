//! Which handler of sync answers what.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{classes, integrations, models, replays, sources, status, tenants, zync};
use crate::api::app::App;

/// All of sync. What belongs to a tenant is at the tenant, and for a stakeholder's at the stakeholder as well, whose number
/// people know.
pub(in crate::api) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(zync::notify))
        .routes(routes!(zync::set_tenant))
        .routes(routes!(zync::live))
        .routes(routes!(zync::ready))
        .routes(routes!(status::show_sync))
        .routes(routes!(tenants::list_tenants))
        .routes(routes!(tenants::show_tenant, tenants::delete_tenant))
        .routes(routes!(classes::list_classes))
        .routes(routes!(classes::show_class, classes::put_class, classes::delete_class))
        .routes(routes!(sources::list_sources))
        .routes(routes!(sources::show_source, sources::put_source, sources::delete_source))
        .nest("/api/v1/sync/tenants/{id}", of_tenant())
        .nest("/api/v1/stakeholders/{id}", of_tenant())
}

fn of_tenant() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(integrations::list_integrations, integrations::create_integration))
        .routes(routes!(
            integrations::show_integration,
            integrations::put_integration,
            integrations::delete_integration
        ))
        .routes(routes!(integrations::enable_integration))
        .routes(routes!(integrations::disable_integration))
        .routes(routes!(replays::list_replays, replays::create_replay))
        .routes(routes!(replays::show_replay))
        .routes(routes!(replays::list_differences))
        .routes(routes!(replays::cancel_replay))
        .routes(routes!(models::list_models))
        .routes(routes!(models::show_model))
        .routes(routes!(models::list_entries))
        .routes(routes!(models::notify_model))
}
