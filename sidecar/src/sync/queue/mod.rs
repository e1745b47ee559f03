//! What there is to do, and how that went: in the database, so that any number of sidecars share it.

mod again;
mod claim;
mod fetched;
mod pushed;
mod retry;
mod waiting;

use std::time::Duration;

use crate::proxy::random;

pub(super) use again::again;
pub(super) use claim::{Busy, Claimed, claim_fetches, claim_pushes};
pub(super) use fetched::{FetchDone, settle_fetches};
pub(super) use pushed::{PushDone, settle_pushes};
pub(super) use retry::Retry;

/// What whoever holds a lock writes into its row. Nobody has another's, not even after the database forgot its latest
/// transactions in a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease(pub(super) i64);

impl Lease {
    pub(super) fn new() -> Self {
        Self(i64::from_ne_bytes(random::bytes()))
    }
}

/// How long a lock lasts beyond the request that is made under it: for the wait before, and the note after.
pub(super) const MARGIN: Duration = Duration::from_secs(5);

/// How long work may wait for its turn after it was asked for. What is later is given back: its lock might end too early.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
