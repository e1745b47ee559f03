//! Targets that hold clients of OAuth: Keycloak, and anything that takes Zync's generic REST contract.
//!
//! Both are an issuer with credentials of a client of its own (`issuer`), by which they give a token (`token`), and take
//! what a model says of a client (`client`) in a shape of their own.

mod client;
mod issuer;
mod keycloak;
mod rest;
mod token;

pub(super) use issuer::check;
pub(super) use keycloak::Keycloak;
pub(super) use rest::Rest;
