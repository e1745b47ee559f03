//! The caches of workspaces, which are made over REST and not by the configuration file.
//!
//! - `store` is what the database has of them; `settings` what can be set of one, `credentials` how passwords of it are kept.
//! - `origin` says what a hostname is, and asks whether a Postgres answers there.
//! - `keeper` makes them known to the proxy: at once what is changed here, a little later what others change.
//!
//! Whoever may write a cache says where its origin is. So each connection on its behalf goes through `Reach`, and a stored
//! password goes to nowhere but the host and database it was given for, and for no other query.

mod credentials;
mod keeper;
mod origin;
mod settings;
pub(crate) mod store;

pub(crate) use keeper::CacheKeeper;
pub(crate) use origin::check_hostname;
pub(crate) use settings::Settings;
pub(crate) use store::Row;

/// A mistake in a field of a request: its name, and what is wrong with it.
pub(crate) type Mistake = (&'static str, String);
