//! Where models go.
//!
//! Each kind of target is one implementation of [`Target`]; `open` knows them by name. A new kind, such as routes of
//! Kubernetes, is a module with its own `check` and one more name there.

mod ask;
mod http;
mod oauth;
mod open;
mod postgres;

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::work::Push;

pub use open::{check, is_kind, open};

/// Why a push failed. It is tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PushError {
    /// What went wrong, for people, without secrets.
    pub message: String,
    /// The target asks for so much time.
    pub retry_after: Option<Duration>,
}

impl PushError {
    /// One that says nothing about when to come again.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry_after: None }
    }
}

/// How what a target has differs from what a push would make of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparison {
    /// Nothing would change.
    Same,
    /// The target does not have it.
    Create,
    /// The target has it otherwise: the names of what differs.
    Update(Vec<String>),
    /// The target has it, and should not.
    Delete,
    /// It can't be told: why.
    Unknown(String),
}

impl Comparison {
    /// Of what the target has, by the names of what differs.
    pub(super) fn of(names: Vec<String>) -> Self {
        if names.is_empty() { Self::Same } else { Self::Update(names) }
    }
}

/// A system that models are pushed to. All of this may be done again, with the same outcome.
pub trait Target: Send + Sync {
    /// Has the target take the model as the entry says, or delete it. Anything that is no concern of the target's goes well.
    /// May be dropped while it runs.
    fn push<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<(), PushError>>;

    /// Says what a push would change, and changes nothing.
    fn compare<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<Comparison, PushError>>;
}

/// An integration as it was asked for, before it is stored: what of its settings may be shown, and what may not.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What is shown.
    pub settings: Value,
    /// What is sealed: an object, empty if there is nothing.
    pub hidden: Value,
}
