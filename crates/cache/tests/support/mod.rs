//! A small multi-version database with a log, and the cache before it, moved step by step.
//!
//! It keeps every state a new snapshot could ever see, in the order they became visible. Commits reach the log
//! before, or long before, they are visible; the reader applies the log at its own pace; sessions fill and look
//! up in many small steps. Each hit is judged on the spot.

mod model;
mod world;

pub(crate) use world::{Step, run};
