//! A POST that can be sent again (draft-ietf-httpapi-idempotency-key-header): with the same `Idempotency-Key`, what it does
//! is done once, and whoever sends it again gets the first answer.
//!
//! - Of several at once one is let through: whose row it is in `integratedb.idempotency_key`.
//! - It goes on when its client goes away ([`layer`]), so that there is an answer to be asked for.
//! - An answer may have a secret that is shown once. It is kept sealed by what only its sender has, the token and the key
//!   ([`key`]); the database has hashes of both.
//! - What was never answered, because the sidecar died or the time was up, may have had an effect. It is never done again
//!   under its key: who asks is told so.

mod answer;
mod key;
mod layer;
mod store;

pub(crate) use layer::Repeats;
pub(super) use layer::once;
