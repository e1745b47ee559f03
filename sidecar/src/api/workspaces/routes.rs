//! Which handler of workspaces answers what.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{audit, members, workspace};
use crate::api::app::App;

/// All of workspaces, and the audit log.
pub(in crate::api) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(workspace::list_workspaces, workspace::create_workspace))
        .routes(routes!(
            workspace::show_workspace,
            workspace::put_workspace,
            workspace::delete_workspace
        ))
        .routes(routes!(members::list_members, members::add_member))
        .routes(routes!(members::put_member, members::remove_member))
        .routes(routes!(audit::list_workspace_audit))
        .routes(routes!(audit::list_audit))
}
