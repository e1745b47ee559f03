//! The harness: a private Postgres for each test, the sidecar in process, and a client for its API.
//!
//! Nothing survives a test, however it ends: the server dies with the thread that started it.

mod browser;
mod cached;
mod cluster;
mod delivered;
mod drivers;
mod follower;
mod http;
mod logged;
mod network;
mod notified;
mod notifier;
mod openid;
mod partner;
mod partner_app;
mod partnered;
mod peer;
mod person;
mod process;
mod raw;
mod receiver;
mod redis;
mod schemathesis;
mod sidecar;
mod source_api;
mod sync_world;
mod synced;
mod wait;

pub use browser::{Browser, Form, Page, encoded};
pub use cached::{CACHES, Cached};
pub use cluster::{Cluster, Database, connect};
pub use delivered::{Delivered, loopback};
pub use drivers::{Driver, Features, Verifier, difference};
pub use follower::{Follower, Heard, Switches, Transaction};
pub use http::http;
pub use logged::{Cells, Logged, logged, replayed, subscribe_to_all};
pub use network::Network;
pub use notified::{Notified, Said, Socket, SseClient, SseEvent};
pub use notifier::{be_notified, key_file, say, say_tenant};
pub use openid::OpenIdProvider;
pub use partner::{Partner, be_issuer, parameter};
pub use partner_app::{PartnerApp, PartnerSettings, RunningPartner, free_address};
pub use partnered::Partnered;
pub use peer::{Asked, Peer, Says};
pub use person::Person;
pub use process::Process;
pub use raw::{RawClient, RawMessage};
pub use receiver::{Answer, Post, Receiver, number};
pub use redis::RedisServer;
pub use schemathesis::schemathesis;
pub use sidecar::{Reply, Sidecar, add_caches, binary, cache, cache_id};
pub use source_api::{Answered, Fetched, SourceApi};
pub use sync_world::{
    Counts, Effect, Fault, Faults, Judge, Knows, Meaning, Model, Outcome, Place, Server, SyncPeers,
    SyncRequest,
};
pub use synced::Synced;
pub use wait::until;
