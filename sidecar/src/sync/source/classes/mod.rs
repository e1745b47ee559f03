//! Classes of models that an API has: how a notification names one of them, and what the API is asked for it.
//!
//! Those of Zync are known (`zync`). A tenant has classes of its own by definitions in JSON (`definition`), which make the
//! same [`Class`]. `notification` reads what somebody sends, `template` makes paths of it.

mod class;
mod definition;
mod notification;
mod store;
mod template;
mod zync;

pub use class::{Class, Classes};
pub(super) use class::{LeadsTo, Request};
pub use definition::define;
pub use notification::{ClassError, read};
pub use store::load;
