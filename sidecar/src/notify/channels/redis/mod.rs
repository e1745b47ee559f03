//! REDIS channels: streams, or pub/sub.
//!
//! `worker` reads and writes, in batches; `key` names the streams. An entry of a stream has an id made of the event's
//! ([`entry_id`]), and ids of a stream only rise: so an event is in it once, however often it is written. Pub/sub has no
//! such thing, and no receipt either.
//!
//! A stream belongs to one channel. Redis is not asked where it stands: as a rule it is in a private network.

mod key;
mod settings;
mod worker;
mod write;

pub(super) use settings::RedisSettings;
pub(super) use worker::run;
