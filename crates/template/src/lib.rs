//! What the text of a query says, without asking a database.
//!
//! [`Shape::of`] reads tokens only. It gives the text's *template*, in which every constant is `?`,
//! and what the statements do to data and to their session. It takes any bytes, in linear time.
//!
//! [`Outline::of`] gives a text's tokens with every constant replaced by what kind of constant it is,
//! and where the constants are: two texts with the same outline mean the same to PostgreSQL but for
//! the values.
//!
//! [`Frame`] tells that a text is one that was read before, with other values: so it has the same shape.
//!
//! [`analyze`] parses. It names the tables that are read and written, costs far more, and gives up
//! on what its parser does not know.
//!
//! But for `Outline` none keeps a constant, so they may be logged and counted by. None does I/O or panics.

mod analyze;
mod dialect;
mod effects;
mod frame;
mod keyword;
pub mod lexer;
mod outline;
mod reader;
mod set;
mod settings;
mod shape;
mod statement;
mod template;

pub use analyze::{Access, Analysis, TableName, analyze};
pub use effects::{Class, Effects, Verbs};
pub use frame::Frame;
pub use outline::{Constant, Outline, may_read_clock};
pub use settings::Settings;
pub use shape::Shape;
pub use template::MAX_TEMPLATE;
