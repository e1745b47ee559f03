//! OAuth over HTTP: the pages that users see (`/oauth2/auth` and what its forms lead to), what applications ask
//! (`/oauth2/token`, `/oauth2/revoke`, metadata), and REST for applications and authorizations.
//!
//! What is under `/oauth2` is OAuth's own, with its forms and errors, so it is not in the OpenAPI document: the metadata of
//! RFC 8414 is what describes it.

mod applications;
mod authorizations;
mod browser;
mod consent;
mod form;
mod login;
mod metadata;
mod pages;
mod routes;
mod server;
mod token;

pub(super) use routes::{documented, pages as undocumented};
pub(super) use server::AuthServer;
