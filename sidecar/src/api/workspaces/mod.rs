//! `/api/v1/workspaces`: workspaces, their members, and the audit log.

mod audit;
mod members;
mod routes;
mod workspace;

pub(super) use members::audit_member;
pub(super) use routes::routes;
