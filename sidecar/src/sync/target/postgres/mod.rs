//! A second Postgres: models are rows of its tables.
//!
//! Each push is one statement (`statements`), so it is done as a whole or not at all. It may run for no longer than is left
//! of the push's time (`connections`): none that was given up goes on beside a later one.

mod connections;
mod error;
mod settings;
mod statements;
mod target;

pub(super) use settings::check;
pub(super) use target::PostgresTarget;
