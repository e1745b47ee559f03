//! The sidecar's database: its pool, its own tables, and what its errors mean.

mod contract;
mod error;
mod migrate;
mod pool;
pub(crate) mod rules;
mod within;

pub(crate) use contract::{Patience, begin, hold_stakeholder, patiently};
pub use error::{DbError, Refusal};
pub use migrate::{check_extension, check_migrations, migrate};
pub use pool::{Pool, connect, open};
pub(crate) use pool::{RecyclingMethod, connect_within, open_pool, open_pool_within, parse_url};
