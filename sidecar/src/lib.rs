//! The sidecar: REST API and command line beside the extension.
//!
//! The rules of the contract are in the database. What lives here is HTTP, accounts and tokens, the JSON
//! Schema stage of validation, and the commands people run around a migration.

pub mod api;
mod audit;
pub mod auth;
pub mod cache;
pub mod cli;
pub mod config;
pub mod db;
mod fields;
mod http;
mod listener;
mod names;
pub mod notify;
pub mod oauth;
mod plain;
pub mod proxy;
pub mod reach;
pub mod replication;
pub mod seal;
pub mod secret;
pub mod server;
pub mod sync;
pub mod telemetry;
mod text_array;
mod tls;
pub mod workspaces;

pub use config::Config;
pub use server::run;
