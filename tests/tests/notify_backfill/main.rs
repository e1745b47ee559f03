//! Backfills: the present rows of a table reach a stakeholder between its changes, none missing and none going back.

mod control;
mod replay;
mod tables;
mod truth;
mod workload;
mod world;
