//! Changes as the log of notifications keeps them, and events as stakeholders see them.
//!
//! A change of a row is written once, with all its columns, into a [`Segment`]: a run of changes in the order of
//! their commits. A [`View`] is what one channel of a stakeholder subscribes to; its [`Renderer`] turns a change into
//! an event, the JSON that is delivered, or passes it over. Nothing here does I/O.

mod change;
mod code;
mod id;
pub mod json;
mod render;
mod segment;
mod view;

pub use change::{Cell, Change, Column, Keys, Old, Op, Row, Shape, Target};
pub use id::{EventId, EventIdError};
pub use render::Renderer;
pub use segment::{Head, OldBuffer, RowBuffer, Segment, SegmentBuilder, SegmentError};
pub use view::{Subscription, View};
