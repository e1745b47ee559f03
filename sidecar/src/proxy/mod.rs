//! The proxy: a Postgres that is not there.
//!
//! Clients connect to it as to a server, and each picks a cache: a named configuration for one origin. Everything
//! passes unchanged. Connections to the origin are the client's own, or come from a pool that clients share.
//!
//! - `server` accepts and hands out, `login` takes a connection to its `session`.
//! - `session` passes messages; `flow` knows which answers are owed, `statements` and `session::state` make what a
//!   client has prepared and set outlive the connection it did that on.
//! - `registry` holds the `cache`s; each has `pool`s of `backend`s, which are connections to its `origin`.
//! - `scram`, `password`, `verifiers`, `tls` and `endpoint` are about who is who; `cancel` about stopping the right query.
//! - `share` bounds the clients of some caches, `room` what their statements take. `observe` counts by template, `parser` looks
//!   into their texts; `settings` is what can be configured; `report` how Postgres tells of errors.

pub(crate) mod backend;
mod buffer;
pub(crate) mod cache;
mod cancel;
mod endpoint;
mod flow;
mod login;
pub(crate) mod metrics;
pub(crate) mod observe;
pub(crate) mod origin;
mod params;
mod parser;
pub(crate) mod password;
mod pool;
pub(crate) mod random;
mod recent;
pub(crate) mod registry;
mod report;
mod room;
mod scram;
mod server;
mod session;
mod settings;
mod share;
mod startup;
mod statements;
mod stream;
mod tls;
mod unit;
mod verifiers;

pub use origin::of_database as origin_of;
pub(crate) use params::Params;
pub(crate) use pool::PoolKey;
pub use registry::ProxyError;
pub use server::Proxy;
pub(crate) use session::LOOKED_INTO;
pub use settings::{Auth, CacheId, CacheSettings, Caches, PoolMode, ProxySettings, TlsSettings};
pub use share::Share;
pub(crate) use stream::tune;
