//! The contract's side of notifications, with no other process running: what can be asked for, what a migration may not
//! take away, what is published for it, and what the sidecar is told.

mod migrations;
mod publication;
mod put;
mod subscriptions;
mod world;
