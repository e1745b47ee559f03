//! Who may do what. One table ([`rules`]) says it of every operation, and one layer ([`layer`]) decides before a handler
//! is asked: what the table does not name, nobody may.

mod layer;
mod need;
mod rules;
#[cfg(test)]
mod table;

pub(super) use layer::{Access, DESCRIPTION, Policy, decide};
pub(super) use need::Need;
pub(super) use rules::need;
