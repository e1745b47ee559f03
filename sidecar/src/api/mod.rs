//! The REST API under `/api/v1`, health and metrics.

mod access;
mod address;
mod app;
mod backfills;
mod body;
mod caches;
mod caching;
mod channels;
mod claims;
mod error;
mod events;
mod extract;
mod health;
mod idempotency;
mod notifications;
mod notify_status;
mod oauth;
mod objects;
mod openapi;
mod page;
mod problem;
mod rate;
mod router;
mod schema;
mod sessions;
mod stakeholders;
mod sync;
mod tag;
mod users;
mod workspaces;

pub use app::App;
pub use error::ApiError;
pub use router::router;
