//! Sync: the present state of models, brought to outside systems, reliably.
//!
//! A notification names a model and says no more (`accept`). An update fetches the model from its source under the model's
//! lock and appends what it got to the log as an entry: data, or that the model is gone. Each integration pushes the latest
//! entry to its target under a lock of its own, until that went well. Entries may be skipped; none is pushed after a later
//! one. What there is to do is in the tables (`queue`), so any number of sidecars work on it together (`engine`).
//!
//! Invariants:
//! - S1. A model is fetched by one at a time, and pushed to an integration by one at a time.
//! - S2. A notification is answered by a fetch that began after it was stored.
//! - S3. No entry is pushed after a later one of the same model.
//! - S4. What is due stays due until it went well, or nobody wants it any more.
//! - S5. Only the source's own word makes a model gone: an answer that may be somebody else's is a fault.

mod accept;
mod configured;
mod engine;
mod error;
mod figures;
pub mod follow;
mod handle;
mod ids;
pub mod integrations;
mod log;
mod look_ups;
pub(crate) mod metrics;
mod notes;
mod outside;
pub mod prune;
mod queue;
pub mod replay;
mod service;
mod settings;
pub mod source;
pub mod status;
pub mod target;
pub mod tenants;
mod time;
mod work;

pub use accept::accept;
pub use configured::Configured;
pub use engine::Engine;
pub use error::SyncError;
pub use figures::SyncFigures;
pub use handle::SyncHandle;
pub use ids::{EntryId, IntegrationId, ModelId, TenantId};
pub use look_ups::open_pool;
pub use outside::{OpenError, Outside};
pub use service::Service;
pub use settings::SyncSettings;
pub use work::{Data, Fetch, Named, Notified, Push};
