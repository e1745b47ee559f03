//! Tables of this database as a source of models: a row is a model.
//!
//! A stakeholder declares a class (`definition`), which the database has to fit (`check`), and which is kept (`store`). A
//! fetch reads the columns of a row as the stakeholder's own role may (`read`). What changes is followed elsewhere:
//! [`follow`](crate::sync::follow).

mod check;
mod definition;
mod key;
mod read;
mod store;

pub use definition::{Parent, TableClass};
pub(crate) use key::{MOST_KEY, join, text};
pub use read::TableSource;
pub(crate) use read::keys_after;
pub use store::{ClassView, DeclareError, begin, declare, list, load, show, withdraw};
pub(crate) use store::{orphans, read as read_definition};
