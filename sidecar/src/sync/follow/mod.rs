//! Changes of declared tables, from the log of notifications to models that are due.
//!
//! Where this sidecar leads, a follower reads the log after its cursor (`follower`), and what a change says of models
//! (`changes`) is notified in the transaction that moves the cursor. What the log can't tell, since it was before the class
//! was declared or while nobody looked, is found by a scan (`scan`): all rows that are there, then all models that there
//! are, so that those whose rows are gone are asked for too.
//!
//! Invariants:
//! - F1. A model is notified of a change only once a new snapshot sees that change. A commit is in the log before others see
//!   it, with a synchronous standby long before: a fetch in between would get what was, and nobody would ask again
//!   (`visible`).
//! - F2. The cursor passes a change only in the transaction in which it is notified, or in which a scan is noted that will
//!   come to it.
//! - F3. A scan begins to read only when its class is followed already, and when whoever wrote to its tables before that is
//!   visible. So what it does not see, the follower is told.

mod changes;
mod classes;
mod follower;
mod scan;
mod store;
mod visible;

pub use follower::Follower;
