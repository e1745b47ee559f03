//! Specs and claims: what a stakeholder says it depends on, and whether the database still provides it.
//!
//! Everything here is a function from data to data. Reading the catalog, storing claims and granting
//! privileges belong to the extension; HTTP belongs to the sidecar.
//!
//! The path of a spec: [`Spec::parse`] (or [`Spec::parse_notifications`]) a JSON document, [`expand`](expand::expand) it against a
//! [`Catalog`], store the [`Claim`]s, and later [`compare`](compare::compare) them with the catalog of
//! that time. [`contract`](contract::contract) writes a spec back as tersely as it can be said.

pub mod catalog;
pub mod claim;
pub mod compare;
pub mod contract;
pub mod expand;
pub mod identifier;
pub mod notification;
mod parse;
pub mod present;
pub mod spec;
pub mod types;
pub mod verdict;

pub use catalog::{Catalog, Column, ColumnType, Log, Obstacle, Relation};
pub use claim::{Claim, ClaimAlternative, ClaimColumn, ColumnAlternative};
pub use compare::{Unmet, compare};
pub use contract::contract;
pub use expand::expand;
pub use identifier::{Identifier, IdentifierError, RelationName, parse_path};
pub use notification::{Channel, ChannelKind, EventKind, Notification, Notifications};
pub use present::{Present, present};
pub use spec::{Field, FieldAlternative, Match, MatchAlternative, Problem, Spec, Target};
pub use verdict::{Refusal, review};

/// The JSON Schema (draft-07) of a document of claims, as shipped and as served by the sidecar.
pub const SPEC_SCHEMA: &str = include_str!("../spec.schema.json");

/// The JSON Schema (draft-07) of a document of notifications, likewise.
pub const NOTIFICATIONS_SCHEMA: &str = include_str!("../notifications.schema.json");
