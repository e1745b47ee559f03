//! Who follows what is in memory, such as a tier on disk.

use std::sync::Arc;

use crate::{Entry, Key};

/// Why an entry is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Removal {
    /// A transaction changed a row it is pinned to.
    Row,
    /// A transaction changed a table it depends on as a whole.
    Table,
    /// The schema changed, or anything may have.
    Schema,
    /// A write went through the proxy that replication does not see.
    Write,
    /// Room was needed. It still counts.
    Evicted,
    /// A newer result took its place.
    Replaced,
    /// Somebody asked for it.
    Purged,
    /// Replication was lost, or no longer sees a table.
    Flushed,
    /// Its bytes, which were on disk only, can't be read.
    Lost,
}

impl Removal {
    /// How many there are.
    pub(crate) const COUNT: usize = 9;
}

/// Follows what is stored and removed, in order, each thing once. That an entry's bytes leave memory is neither.
///
/// Called under the lock that all changes of the cache take: it must be quick, and must not call the cache.
pub trait Observer<L>: Send + Sync {
    /// An entry is in.
    fn stored(&self, key: Key, entry: &Arc<Entry<L>>);
    /// An entry is out.
    fn removed(&self, key: Key, entry: &Entry<L>, why: Removal);
}

/// Nobody.
impl<L> Observer<L> for () {
    fn stored(&self, _: Key, _: &Arc<Entry<L>>) {}
    fn removed(&self, _: Key, _: &Entry<L>, _: Removal) {}
}
