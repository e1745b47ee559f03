//! REDIS channels: streams, or pub/sub.
//!
//! `worker` reads and writes, in batches; `key` names the streams. An entry of a stream has an id made of the event's
//! (`write::entry_id`), and ids of a stream only rise: so an event is in it once, however often it is written. Pub/sub has no
//! such thing, and no receipt either.
//!
//! An entry has two fields: `id`, the event's id as text, and `event`, its JSON. A gap goes to the streams of all tables
//! that are subscribed to.
//!
//! A stream belongs to one channel. Redis is not asked where it stands: as a rule it is in a private network.

mod key;
mod settings;
mod worker;
mod write;

pub(super) use settings::RedisSettings;
pub(super) use worker::run;
